"""WebSockets that note what happens to them, for tests of the connection."""

import asyncio
import logging
import re
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels.connections import close_websocket_connection, send_message_to_websocket
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer


class Noted(GenericWebsocket):
    """Writes its hooks into the journal, and does what a frame says."""

    def note(self, entry: Any) -> None:
        self.scope["journal"].append(entry)

    async def connect(self):
        await self.accept()
        self.note("connect")
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes):
        self.note(data)
        if isinstance(data, str) and (order := getattr(self, f"do_{data}", None)) is not None:
            await order()
        else:
            await self.send(data)

    async def disconnect(self, code: int):
        self.note(("disconnect", code, self.state, bool(self.connection_id)))

    async def do_raise(self):
        raise ZeroDivisionError("in receive")

    async def do_wait(self):
        await asyncio.Event().wait()

    async def do_close(self):
        await self.close(4001, "bye")

    async def chat_message(self, event):
        await self.send(event["text"])

    async def chat_fail(self, event):
        raise ZeroDivisionError("in an event")


def disconnects(peer: Peer) -> list[Any]:
    return [entry for entry in peer.journal if isinstance(entry, tuple) and "disconnect" in entry]


async def opened(peer: Peer) -> str:
    """The connection id."""
    await peer.accepted()
    text = (await peer.next())["text"]
    assert re.fullmatch(r"[0-9a-f]{32}", text)
    return str(text)


async def gone(layer: InMemoryChannelLayer, connection_id: str) -> None:
    """Nothing of the connection is left on the layer, and it can't be reached."""
    assert (layer.groups, layer.channels) == ({}, {})
    await send_message_to_websocket(connection_id, "late")
    await close_websocket_connection(connection_id)


class Sleepy(GenericWebsocket):
    """Sleeps for ever in the hook that its path names."""

    async def auth(self, connection: Any) -> None:
        await self.sleep("auth")

    async def permissions(self, connection: Any) -> bool:
        await self.sleep("permissions")
        return True

    async def connect(self):
        await self.sleep("connect")
        await self.accept()
        await self.sleep("accepted")

    async def receive(self, data: str | bytes):
        self.note(data)
        await self.sleep("receive")

    async def disconnect(self, code: int):
        self.note(("disconnect", code))
        await self.sleep("disconnect")

    def note(self, entry: Any) -> None:
        self.scope["journal"].append(entry)

    async def sleep(self, hook: str) -> None:
        if self.path == f"/{hook}":
            await asyncio.sleep(100)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.name == "panther_channels"]
    assert all(record.exc_info is None for record in found)
    return [record.getMessage() for record in found if record.levelno == logging.WARNING]


async def busy(peer: Peer) -> None:
    """Open, with a frame in receive()."""
    await peer.accepted()
    peer.push("one")
    await peer.journaled("one")
