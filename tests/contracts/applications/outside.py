"""Connections that are reached from outside, and the one that reaches them."""

import asyncio
import datetime
import json
import uuid
from collections import defaultdict
from typing import Any

from tests.contracts.applications.journal import run_of
from tests.contracts.applications.package import (
    GenericWebsocket,
    MeantError,
    close_websocket_connection,
    send_message_to_websocket,
    status,
)

VALUES: dict[str, object] = {
    "str": "héllo",
    "empty str": "",
    "str of json": '{"a": 1}',
    "str null": "null",
    "dict": {"b": [1, None, True], "a": {"c": "é"}},
    "list": [1, "two", 3.5],
    "int": 42,
    "float": 0.5,
    "none": None,
    "true": True,
    "tuple": (1, (2, 3)),
    "datetime": datetime.datetime(2024, 2, 29, 23, 59, 58, 123456, tzinfo=datetime.UTC),
    "uuid": {"id": uuid.UUID("7e82d57c-9ec0-4787-b019-16910a9f45aa")},
    "nan": [float("nan")],
    "int 64": 2**64 - 1,
    "large": "x" * 200_000,
    "bytes": b"\x00\xffone",
    "object": object(),
    "number as key": {1: "one"},
}

_released: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


class Target(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes) -> None:
        match data:
            case "block":
                await self.send("blocked")
                await _released[run_of(self)].wait()
                await self.send("released")
            case "self":
                await send_message_to_websocket(self.connection_id, "to myself")
            case "close self":
                await close_websocket_connection(self.connection_id, 4010, "by myself")
            case _:
                await self.send(data)


class BusyInConnect(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)
        await _released[run_of(self)].wait()
        await self.send("connected")


class Overriding(GenericWebsocket):
    """Shows the Python value that an overridden send() is given, and what close() is given."""

    async def connect(self):
        await self.accept()
        await super().send(self.connection_id)

    async def send(self, data=None) -> None:
        await super().send(repr(data))

    async def close(self, code=1000, reason="") -> None:
        await super().send(f"closing with {code!r} {reason!r}")
        await super().close(code=code, reason=reason)


class Failing(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await super().send(self.connection_id)

    async def send(self, data=None) -> None:
        raise MeantError("meant: in an outside send")


class Control(GenericWebsocket):
    """Does what it is told, and answers when it is done."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        task = json.loads(data)
        try:
            answer = await self.obey(**task)
        except Exception as error:
            answer = f"raised {isinstance(error, TypeError)}"
        await self.send(answer)

    async def obey(self, do: str, target: Any = None, **options: Any) -> str:
        match do:
            case "send":
                value = VALUES[options["value"]]
                await send_message_to_websocket(connection_id=target, data=value)
            case "count":
                for number in range(options["to"]):
                    await send_message_to_websocket(target, number)
            case "close":
                await close_websocket_connection(connection_id=target, **options)
            case "close by name":
                code = status.WS_1008_POLICY_VIOLATION
                await close_websocket_connection(target, code, "policy")
            case "release":
                _released[run_of(self)].set()
        return "done"


URLS = {
    "target": Target,
    "busy-in-connect": BusyInConnect,
    "overriding": Overriding,
    "failing": Failing,
    "control": Control,
}
