"""What a handler is written with, and what of it is the user's own."""

import asyncio
import dataclasses
import functools
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from django.test import override_settings

from panther_channels import connections, websocket
from panther_channels._connection import Connection
from panther_channels.exceptions import WebsocketError
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.unit.peer import Peer, subclass
from tests.unit.system_checks import found

API = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
ISSUED = """_id _tasks _task _close _accept _socket _inbox _seat _slow _listen _guard _vigil _finish
_session _state _queue _user _class _open _serve authentication declared default_subprotocol"""


def built(**scope: Any) -> GenericWebsocket:
    consumer = GenericWebsocket()
    consumer.scope = {"type": "websocket", "path": "/ws", "headers": [], **scope}
    return consumer


def test_it_is_a_channels_consumer_and_nothing_is_between():
    ours = [GenericWebsocket, Websocket, AsyncWebsocketConsumer]
    assert list(GenericWebsocket.__mro__[:3]) == ours
    assert GenericWebsocket.as_asgi().consumer_class is GenericWebsocket
    assert websocket.send_message_to_websocket is connections.send_message_to_websocket
    assert websocket.close_websocket_connection is connections.close_websocket_connection


# What is the user's


class Living(GenericWebsocket):
    """Does all that a connection does in its life."""

    groups = ("room",)

    async def connect(self):
        await self.accept()
        self.create_task(self.working())
        await self.send(self.connection_id)

    async def working(self):
        try:
            await asyncio.Event().wait()
        finally:
            self.scope["journal"].append("task")

    async def receive(self, data: str | bytes):
        await self.send(data)

    async def disconnect(self, code: int):
        self.scope["journal"].append((code, self.messages_received, self.messages_sent))

    async def chat_message(self, event: Any):
        await self.send(event["text"])


async def lives(handler: Any, layer: InMemoryChannelLayer, **initkwargs: Any) -> None:
    """From the handshake to the end."""
    async with Peer(handler.as_asgi(**initkwargs)) as peer:
        await peer.accepted()
        connection_id = (await peer.next())["text"]
        peer.push("echo")
        assert (await peer.next())["text"] == "echo"
        await layer.group_send("room", {"type": "chat.message", "text": "in the group"})
        assert (await peer.next())["text"] == "in the group"
        for data in ("text", [1]):
            await connections.send_message_to_websocket(connection_id, data)
            assert (await peer.next())["text"] == ("text" if data == "text" else "[1]")
        await connections.close_websocket_connection(connection_id, 4001)
        assert (await peer.next())["code"] == 4001
        assert await peer.left(4001) == []
        assert peer.journal[-2:] == ["task", (4001, 1, 5)]


class Rubbish:
    """Nothing can be done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        raise ZeroDivisionError


def documented() -> set[str]:
    """The names in the reference, and in the text of the class that it shows."""
    section = API.read_text().partition("## panther_channels.websocket")[2]
    section = section.partition("### From outside")[0]
    members = re.findall(r":members: ([\w, \n]+)", section)[0].replace(",", " ").split()
    terms = re.findall(r"^\* (`.*?`): ", section, re.MULTILINE)
    attributes = re.findall(r"^    (\w+):", inspect.getdoc(GenericWebsocket) or "", re.MULTILINE)
    return {*members, *re.findall(r"`(\w+)", "".join(terms)), *attributes}


@pytest.mark.parametrize("where", ["class", "init", "connect"])
async def test_every_name_that_is_not_documented_is_the_users(
    where: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    handler = GenericWebsocket()
    names = {*dir(GenericWebsocket), *vars(handler), *dir(Connection(handler)), *ISSUED.split()}
    free = {name for name in names - documented() if "__" not in name}
    assert {"websocket_connect", "dispatch", "_id", "received", "serve", "handler"} <= free
    assert not {"user", "token", "send", "connection_id", "auth", "throttle", "groups"} & free

    class Setting(Living):
        def __init__(self) -> None:
            self.set("init")

        async def connect(self):
            self.set("connect")
            await super().connect()

        def set(self, here: str) -> None:
            if here == where:
                self.__dict__.update(dict.fromkeys(free - {"set"}, Rubbish()))

    # Of the class, `authentication` would be a mistake for `auth`, and is refused.
    names = free - {"authentication"} if where == "class" else set()
    await lives(type("Own", (Setting,), dict.fromkeys(names, Rubbish())), layer)
    # Of our own object, there is one attribute alone.
    assert {name for name in vars(handler) if "__" in name} == {"_Websocket__connection"}
    assert caplog.records == []


@pytest.mark.parametrize("name", ["dispatch", "websocket_connect", "channel_layer_alias"])
def test_what_channels_has_and_nobody_calls_is_an_error(name: str):
    base = subclass("Base", GenericWebsocket, **{name: None})
    kind = subclass("Own", base)
    with override_settings(WS_URLS={"own": kind, "good": Living}):
        (message,) = found()
    assert message.id == "panther_channels.E008"
    assert message.msg == f"Own.{name} does nothing here."
    assert message.hint


class Slots:
    __slots__ = ("room",)


class Cached:
    @functools.cached_property
    def room(self) -> str:
        return "cached"


class Answering:
    def __getattr__(self, name: str) -> Any:
        return None


class New:
    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        return super().__new__(cls)


class WithoutSuper(Living):
    def __init__(self, room: str = "") -> None:
        self.room = room


class WithSlots(Slots, Living):
    async def connect(self):
        self.room = "slot"
        await super().connect()


@dataclasses.dataclass
class IsData(Living):  # which has an __eq__(), and no __hash__()
    room: str = "field"


SHAPES: list[Any] = [
    WithoutSuper,
    WithSlots,
    IsData,
    *(type("After", (base, Living), {}) for base in (Cached, Answering, New)),
    *(type("Before", (Living, base), {}) for base in (Cached, New)),
]


@pytest.mark.parametrize("handler", SHAPES)
async def test_a_handler_of_any_shape(handler: Any, layer: InMemoryChannelLayer):
    await lives(handler, layer, **({"room": "a"} if handler in {WithoutSuper, IsData} else {}))


# What it has


def test_what_a_server_does_not_tell():
    consumer = built()
    assert (consumer.client, consumer.server) == (None, None)
    assert (consumer.scheme, consumer.http_version, consumer.query_params) == ("ws", "1.1", {})
    # A Unix socket has no port.
    assert str(built(server=["/run/x.sock", None]).server) == "/run/x.sock:None"


class Accepting(GenericWebsocket):
    async def connect(self, **kwargs):
        await self.accept(**self.scope["accept"])
        assert (self.is_connected, self.is_rejected, self.state) == (True, False, "Accepted")


BAD = ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\x00b"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ({"headers": {"X-A": "1", "x-b": "é"}}, [(b"x-a", b"1"), (b"x-b", b"\xe9")]),
        ({"headers": [(b"X-A", b"1"), (b"x-a", b"2")]}, [(b"x-a", b"1"), (b"x-a", b"2")]),
        ({"headers": iter([(b"x", b"1")])}, [(b"x", b"1")]),
        # Not every server looks: what gets through is a header, or a body, of an attacker.
        *(({"headers": {"x-name": value}}, None) for value in BAD),
        *(({"headers": [(b"x-name", value.encode())]}, None) for value in BAD),
    ],
)
async def test_accept(accept: dict[str, Any], expected: Any, caplog: pytest.LogCaptureFixture):
    async with Peer(Accepting.as_asgi(), accept=accept) as peer:
        message = await peer.next()
        if expected is not None:
            assert message["headers"] == expected
            return
        assert message["type"] == "websocket.close"
        await peer.ended()
    assert "ValueError" in str(caplog.records[0].exc_info)


async def test_tasks_of_a_connection(caplog: pytest.LogCaptureFixture):
    class Working(GenericWebsocket):
        async def connect(self):
            self.create_task(self.sleep())
            await self.accept()

        async def receive(self, data: str | bytes):
            self.create_task(self.send("said"), name="own")

        async def sleep(self):
            try:
                await asyncio.sleep(100)
            finally:
                self.scope["journal"].append("ends")

        async def disconnect(self, code: int):
            with pytest.raises(WebsocketError, match="create_task"):
                self.create_task(self.sleep())
            self.scope["journal"].append(code)

    async with Peer(Working.as_asgi()) as peer:
        await peer.accepted()
        peer.push("say")
        assert (await peer.next())["text"] == "said"
        peer.failure = OSError("gone")
        peer.push("say")  # nobody's mistake
        await asyncio.sleep(0.05)
        await peer.left(4001)
        assert peer.journal == ["ends", 4001]
    assert caplog.records == []
