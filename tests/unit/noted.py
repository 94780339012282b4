"""A WebSocket that notes what happens to it, for tests of the connection."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels.connections import (
    close_websocket_connection,
    send_message_to_websocket,
)
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
        self.waiting = asyncio.Event()
        await self.waiting.wait()

    async def go_on(self, event):
        self.waiting.set()

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


@contextmanager
def one_error(caplog: pytest.LogCaptureFixture, kind: type[BaseException]) -> Iterator[list[str]]:
    """Exactly one exception is logged: on our logger, with its traceback, path and id."""
    caplog.clear()
    texts: list[str] = []
    yield texts
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1, [record.getMessage() for record in caplog.records]
    assert errors[0].name == "panther_channels"
    assert errors[0].exc_info is not None
    assert errors[0].exc_info[0] is kind
    assert errors[0].exc_info[2] is not None
    assert "'/peer'" in errors[0].getMessage()
    for text in texts:
        assert text in errors[0].getMessage()
