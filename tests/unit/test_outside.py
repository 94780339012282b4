"""How a connection is reached from outside, and what that may do to it."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.test import override_settings

from panther_channels._state import IllegalStateError
from panther_channels.connections import (
    EVENT_TYPE,
    close_websocket_connection,
    send_message_to_websocket,
)
from tests.unit.noted import Noted, disconnects, one_error, opened
from tests.unit.peer import Peer, subclass
from tests.waiting import until

# The two ways are independent


async def test_outside_send_and_close_while_receive_is_busy(layer: InMemoryChannelLayer):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.push("wait")
        await peer.journaled("wait")
        await send_message_to_websocket(connection_id, {"a": [1]})
        assert await peer.next() == {"type": "websocket.send", "text": '{"a":[1]}'}
        await close_websocket_connection(connection_id, 4003, "now")
        assert await peer.next() == {"type": "websocket.close", "code": 4003, "reason": "now"}
        # receive() is still waiting; what it then sends is nobody's mistake.
        peer.leave(4003)
        peer.task.cancel()
        with suppress(asyncio.CancelledError):
            await peer.ended()
    assert disconnects(peer) == [("disconnect", 4003, "Closed", True)]


async def test_outside_send_and_close_while_connect_is_busy(layer: InMemoryChannelLayer):
    class Busy(Noted):
        async def connect(self):
            await self.accept()
            await self.send(self.connection_id)
            await self.do_wait()
            self.note("connect")

    async with Peer(Busy.as_asgi()) as peer:
        connection_id = await opened(peer)
        await send_message_to_websocket(connection_id, "one")
        assert (await peer.next())["text"] == "one"
        await close_websocket_connection(connection_id, 4003)
        assert (await peer.next())["code"] == 4003
        assert peer.journal == []


class Late(Noted):
    async def do_late(self):
        await self.scope["resume"].wait()
        await self.send("too late")


class ClosingSlowly(Late):
    async def close(self, code: int = 1000, reason: str = "") -> None:
        await super().close(code, reason)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("consumer", [Late, ClosingSlowly])
async def test_a_handler_overtaken_by_an_outside_close_is_no_error(
    consumer: Any, caplog: pytest.LogCaptureFixture
):
    async with Peer(consumer.as_asgi(), resume=asyncio.Event()) as peer:
        connection_id = await opened(peer)
        peer.push("late")
        await peer.journaled("late")
        await close_websocket_connection(connection_id, 4003)
        await peer.next()
        peer.scope["resume"].set()
        peer.leave(4003)
        assert await peer.ended() == []
    assert caplog.records == []
    assert disconnects(peer) == [("disconnect", 4003, "Closed", True)]


@pytest.mark.parametrize("by", ["the handler", "outside"])
async def test_what_comes_after_the_close_is_ignored(by: str, caplog: pytest.LogCaptureFixture):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        await asyncio.sleep(0.01)  # the layer is being listened to
        if by == "outside":
            await close_websocket_connection(connection_id, 4001, "bye")
        else:
            peer.push("close")
        assert (await peer.next())["code"] == 4001
        await send_message_to_websocket(connection_id, "late")
        await close_websocket_connection(connection_id, 4002)
        peer.push("late")
        peer.leave(4001)
        assert await peer.ended() == []
    assert "late" not in peer.journal
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]
    assert caplog.records == []


@pytest.mark.parametrize("fields", [{"text": "late"}, {"close": "", "code": 4002}])
async def test_an_event_in_the_moment_of_the_close_is_ignored(
    fields: dict[str, Any], layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    class Known(Noted):
        async def connect(self):
            self.note(self)
            await super().connect()

    async with Peer(Known.as_asgi()) as peer:
        await opened(peer)
        consumer = peer.journal[0]
        await asyncio.sleep(0.01)
        # The event is in the queue, and neither task has looked before a third one closes.
        await layer.send(consumer.channel_name, {"type": EVENT_TYPE, **fields})
        await consumer.close(4001)
        assert (await peer.next())["code"] == 4001
        await asyncio.sleep(0.01)
        peer.leave(4001)
        assert await peer.ended() == []
    assert caplog.records == []


async def test_outside_sends_pass_through_an_overridden_send():
    class Shouting(Noted):
        async def send(self, data: Any = None) -> None:
            self.note(data)
            await super().send(data)

    async with Peer(Shouting.as_asgi()) as peer:
        connection_id = await opened(peer)
        values = ["text", b"bytes", {"a": (1, 2)}, None, 5]
        for value in values:
            await send_message_to_websocket(connection_id, value)
        sent = [await peer.next() for _ in values]
    assert peer.journal[2:7] == ["text", b"bytes", {"a": [1, 2]}, None, 5]
    assert [message.get("text", message.get("bytes")) for message in sent] == [
        *("text", b"bytes"),
        *('{"a":[1,2]}', "null", "5"),
    ]


ODD_EVENTS: list[Any] = [
    *({}, [], "", None, 5, {"type": None}, {"type": 5}, {"type": ["x"]}, {"type": ""}),
    *({"type": name} for name in ("receive", "websocket.disconnect", "connect", "__call__", "mro")),
    {"type": "websocket.disconnect", "code": 4444},
    {"type": "websocket.receive", "text": "no"},
    {"type": "no.such.method"},
    {"type": "x" * 10_000},
    {"type": "\x00\ud800"},
]
# What has our own type, and is no message of ours.
_ODD: list[Any] = [None, 5, [], {}, b"YQ==", "\ud800"]
_CODES: list[Any] = [None, "1000", 999, 1005, 1006, 1015, 5000, 2**70, -1, True, 1e3, [1000]]
ODD_FIELDS: list[dict[Any, Any]] = [
    {},
    {"json": "{"},
    {"json": ""},
    {"base64": "a"},
    {"close": ""},
    {"close": "x" * 124, "code": 1000},
    {1: "a", "code": 1000},
    *({name: value} for name in ("text", "json", "base64") for value in _ODD),
    *({"close": value, "code": 1000} for value in _ODD),
    *({"close": "", "code": value} for value in _CODES),
]


@pytest.mark.parametrize("overrides", [False, True])
async def test_odd_events_do_nothing(
    layer: InMemoryChannelLayer, overrides: bool, caplog: pytest.LogCaptureFixture
):
    class Overriding(Noted):
        async def send(self, data: Any = None) -> None:
            await super().send(data)

    odd = [*ODD_EVENTS, *({"type": EVENT_TYPE, **fields} for fields in ODD_FIELDS)]
    async with Peer((Overriding if overrides else Noted).as_asgi()) as peer:
        connection_id = await opened(peer)
        await until(lambda: layer.channels)  # the connection listens
        (queue,) = layer.channels.values()
        for event in odd:
            queue.put_nowait((time.time() + 60, event))  # the layer itself takes only dicts
        await send_message_to_websocket(connection_id, "still here")
        taken = await peer.next()
        if not overrides:  # what the text says goes unread
            while taken["text"] in {"{", ""}:
                taken = await peer.next()
        assert taken["text"] == "still here"
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert all(record.exc_info is None for record in caplog.records)
    assert len(caplog.records) >= len(odd) - 2


async def test_an_overridden_close_may_decline_an_outside_close(caplog: pytest.LogCaptureFixture):
    class Staying(Noted):
        async def do_accept(self):
            await self.accept()

        async def close(self, code: int = 1000, reason: str = "") -> None:
            self.note((code, reason))

    async with Peer(Staying.as_asgi()) as peer:
        connection_id = await opened(peer)
        await close_websocket_connection(connection_id, 4001, "bye")
        await peer.journaled((4001, "bye"))
        peer.push("still here")
        assert (await peer.next())["text"] == "still here"
        # And it is not taken for gone: a mistake is told.
        with one_error(caplog, IllegalStateError):
            peer.push("accept")
            assert (await peer.next())["code"] == 1011


async def test_an_outside_send_reaches_it_as_soon_as_the_client_knows(layer: InMemoryChannelLayer):
    """It is in its group when accept goes out."""
    seen: list[Any] = []

    async def application(scope, receive, send):
        async def watching(message):
            seen.append((message["type"], len(layer.groups)))
            await send(message)

        await Noted.as_asgi()(scope, receive, watching)

    async with Peer(application) as peer:
        await opened(peer)
    assert seen[0] == ("websocket.accept", 1)


# Events of the layer


async def test_events_reach_the_methods_of_the_user(layer: InMemoryChannelLayer):
    class InRoom(Noted):
        groups = ["room"]  # noqa: RUF012

    async with Peer(InRoom.as_asgi()) as peer:
        connection_id = await opened(peer)
        assert set(layer.groups) == {"room", f"connection.{connection_id}"}
        await layer.group_send("room", {"type": "chat.message", "text": "hello"})
        assert (await peer.next())["text"] == "hello"
        peer.leave()
        await peer.ended()
        assert (layer.groups, layer.channels) == ({}, {})


@pytest.mark.parametrize("groups", [None, [], ()])
async def test_no_groups(groups: Any):
    async with Peer(subclass("Alone", Noted, groups=groups).as_asgi()) as peer:
        await opened(peer)


async def test_a_group_with_a_bad_name(caplog: pytest.LogCaptureFixture):
    async with Peer(subclass("Odd", Noted, groups=["no spaces"]).as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        await peer.ended()
    assert peer.journal == []
    assert "Odd failed" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    "kind",
    [
        *("receive", "websocket.disconnect", "websocket.receive", "close", "send", "_x", "connect"),
        *("user", "disconnect", "accept", "do.nothing", "", 3, None, ["x"]),
    ],
)
async def test_events_that_are_ignored(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, kind: Any
):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        event = {"type": kind, "text": "poison", "code": 4444}
        await layer.group_send(f"connection.{connection_id}", event)
        await send_message_to_websocket(connection_id, "alive")
        assert (await peer.next())["text"] == "alive"
        peer.leave(1000)
        assert await peer.ended() == []
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert f"{kind!r}" in record.getMessage()
    assert "Noted" in record.getMessage()
    assert disconnects(peer) == [("disconnect", 1000, "Closed", True)]


async def test_an_event_without_a_type(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        await layer.group_send(f"connection.{connection_id}", {})
        await send_message_to_websocket(connection_id, "alive")
        assert (await peer.next())["text"] == "alive"
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "layers", [{}, {"other": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}]
)
async def test_without_a_layer_the_echo_works(layers: dict[str, Any]):
    class Asking(Noted):
        async def do_ask(self):
            await self.send({"layer": self.channel_layer, "name": self.channel_name})

    with override_settings(CHANNEL_LAYERS=layers):
        async with Peer(Asking.as_asgi()) as peer:
            await opened(peer)
            peer.push("hello")
            assert (await peer.next())["text"] == "hello"
            peer.push("ask")
            assert (await peer.next())["text"] == '{"layer":null,"name":""}'
            peer.leave()
            await peer.ended()
    assert disconnects(peer) == [("disconnect", 1000, "Closed", True)]


async def test_a_layer_by_its_alias():
    layers = {
        "default": {"BACKEND": "no.such.Layer"},
        "sockets": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    }
    with override_settings(CHANNEL_LAYERS=layers, WS_CHANNEL_LAYER="sockets"):
        async with Peer(Noted.as_asgi()) as peer:
            connection_id = await opened(peer)
            await send_message_to_websocket(connection_id, "hello")
            assert (await peer.next())["text"] == "hello"
