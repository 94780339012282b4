"""The WebSockets of the test project."""

import asyncio
import gc
import json
import logging
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from panther_channels.connections import PresentUser
from panther_channels.websocket import GenericWebsocket, Websocket, send_message_to_websocket

logger = logging.getLogger("tests.project")


class Echo(GenericWebsocket):
    """Sends back what it gets."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


class Identify(Echo):
    """As Echo, after its connection id as the first message."""

    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)


async def named(connection: Websocket) -> Any:
    name = connection.query_params.get("user")
    return None if name is None else SimpleNamespace(pk=name, get_username=lambda: f"{name}!")


class Member(Identify):
    """As Identify, of the user and in the group that its URL names."""

    auth = named

    async def connect(self):
        if group := self.query_params.get("join"):
            await self.join(group)
        await super().connect()


class Present(GenericWebsocket):
    """In the groups that its URL names, of whose users it tells who comes and goes."""

    auth = named
    announces_presence = True

    async def connect(self):
        for group in self.query_params.get("join", "").split():
            await self.join(group)
        await self.accept()

    async def user_joined(self, group: str, user: PresentUser) -> None:
        await self.send(f"+{user.user_name} {group}")

    async def user_left(self, group: str, user: PresentUser) -> None:
        await self.send(f"-{user.user_name} {group}")


class Coded(Identify):
    """As Identify; who is refused sees a close code."""

    reject_with_close_code = True


class Tasks(GenericWebsocket):
    """Tells how many tasks there are in the event loop, its own among them."""

    async def connect(self):
        await self.accept()
        await self.send(len(asyncio.all_tasks()))


class Frozen(GenericWebsocket):
    """Tells how many objects are kept out of garbage collections."""

    async def connect(self):
        await self.accept()
        await self.send(gc.get_freeze_count())


class Reject(GenericWebsocket):
    """Returns from connect() without accepting."""

    async def connect(self):
        logger.info("not accepting")


class RejectWithCode(GenericWebsocket):
    """Closes in connect() without accepting."""

    async def connect(self):
        await self.close(code=4003, reason="not you")


class Noting(Identify):
    """As Identify, and writes a line to the log for its end."""

    async def disconnect(self, code: int):
        logger.info("disconnect called code=%s id=%s", code, self.connection_id)


class RaiseIn(GenericWebsocket):
    """Raises in the hook that the URL names: before-accept, connect, receive or disconnect."""

    async def connect(self, hook: str):
        self.hook = hook
        self._raise_in("before-accept")
        await self.accept()
        self._raise_in("connect")

    async def receive(self, data: str | bytes):
        self._raise_in("receive")
        await self.send(data)

    async def disconnect(self, code: int):
        logger.info("disconnect called code=%s", code)
        self._raise_in("disconnect")

    def _raise_in(self, hook: str) -> None:
        if self.hook == hook:
            raise RuntimeError(f"raised in {hook}")


class Describe(GenericWebsocket):
    """Takes variables of its path."""

    async def connect(self, number: int, word: str):
        await self.accept()


class Price(GenericWebsocket):
    """Sends a price in full units."""

    async def connect(self, amount: Decimal):
        await self.accept()
        await self.send(str(round(amount)))


class Files(GenericWebsocket):
    """Sends the names in its path."""

    async def connect(self, **names: str):
        await self.accept()
        await self.send(names)


class Relay(Identify):
    """Sends to other connections: `{"to": connection_id, "data": ...}`."""

    async def receive(self, data: str | bytes):
        order = json.loads(data)
        await send_message_to_websocket(order["to"], order["data"])
