"""The WebSockets of the test project."""

import asyncio
import json
import logging
from decimal import Decimal

from panther_channels.websocket import GenericWebsocket, send_message_to_websocket

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


class Coded(Identify):
    """As Identify; who is refused sees a close code."""

    reject_with_close_code = True


class Tasks(GenericWebsocket):
    """Tells how many tasks there are in the event loop, its own among them."""

    async def connect(self):
        await self.accept()
        await self.send(len(asyncio.all_tasks()))


class Reject(GenericWebsocket):
    """Returns from connect() without accepting."""

    async def connect(self):
        logger.info("not accepting")


class RejectWithCode(GenericWebsocket):
    """Closes in connect() without accepting."""

    async def connect(self):
        await self.close(code=4003, reason="not you")


class Obey(GenericWebsocket):
    """Does what a JSON message asks for: one of the keys of the `if` chain below.

    Its first message is its connection id; each hook writes a line to the log.
    """

    groups = ("obeying",)  # to be seen in Redis, as long as there is one

    async def connect(self):
        await self.accept()
        logger.info("connect called id=%s", self.connection_id)
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes):
        order = json.loads(data)
        logger.info("receive called order=%s", sorted(order))
        if "send" in order:
            await self.send(order["send"])
        if "times" in order:
            for number in range(order["times"]):
                await self.send(str(number))
        if "close" in order:
            await self.close(code=order["close"], reason=order.get("reason", ""))
        if "raise" in order:
            raise RuntimeError(order["raise"])
        if "busy" in order:
            await self._be_busy(order["busy"])

    async def _be_busy(self, seconds: float) -> None:
        logger.info("busy id=%s", self.connection_id)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            logger.info("busy was cancelled")
            raise
        logger.info("busy is over")

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
    """Sends what it knows about its request."""

    async def connect(self, number: int, word: str):
        await self.accept(headers={"x-greeting": "hello"})
        await self.send(
            {
                "path": self.path,
                "path_variables": self.path_variables,
                "query_params": self.query_params,
                "user_agent": self.headers.user_agent,
                "client": str(self.client),
                "server": str(self.server),
                "scheme": self.scheme,
                "http_version": self.http_version,
                "state": self.state,
                "arguments": [number, word],
            }
        )


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


class Late(Obey):
    """As Obey, and then sends what the key "late" holds."""

    async def receive(self, data: str | bytes):
        await super().receive(data)
        await self.send(json.loads(data)["late"])


class Relay(Identify):
    """Sends to other connections: `{"to": connection_id, "data": ...}`."""

    async def receive(self, data: str | bytes):
        order = json.loads(data)
        await send_message_to_websocket(order["to"], order["data"])


class Failing(Obey):
    """Raises in what an outside sender calls."""

    async def send(self, data=None):
        if data == "fail":
            raise RuntimeError("raised in send")
        await super().send(data)

    async def close(self, code=1000, reason=""):
        if code == 4999:
            raise RuntimeError("raised in close")
        await super().close(code, reason)
