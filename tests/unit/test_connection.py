"""The way of a connection from its handshake to its end; a test is the server."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from channels.layers import InMemoryChannelLayer
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import Resolver404

from panther_channels._hub import subscription as _subscription
from panther_channels._hub.delivery import EVENT_TYPE
from panther_channels._process import outage as _outage
from panther_channels.connections import close_websocket_connection, send_message_to_websocket
from panther_channels.exceptions import AuthorizationAPIError, ChannelLayerError, WebsocketError
from panther_channels.routing import build_url_patterns
from tests.unit.noted import Noted, disconnects, gone, opened
from tests.unit.peer import DENIAL, Peer, subclass
from tests.waiting import until

INFO, WARNING, ERROR = ("INFO", False), ("WARNING", False), ("ERROR", True)  # with its traceback


@pytest.fixture(autouse=True)
def _no_outage_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outage._ends, "_known", OrderedDict())


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    return [(record.levelname, bool(record.exc_info)) for record in caplog.records]


# Every end: disconnect() once, the groups left, one line in the log at most


class Raising(Noted):
    async def do_forbid(self):
        raise AuthorizationAPIError

    async def do_foreign(self):
        task = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    async def do_layer(self):
        raise ChannelLayerError("away")


class InSend(Noted):
    async def send(self, data: Any = None) -> None:
        if data == "fail":
            raise ZeroDivisionError("in send")
        await super().send(data)


class InClose(Noted):
    async def close(self, code: int = 1000, reason: str = "") -> None:
        raise ZeroDivisionError("in close")


Act = Callable[[Peer, str, InMemoryChannelLayer], Awaitable[None]]


def told(**message: Any) -> Act:
    async def act(peer: Peer, _id: str, _layer: Any) -> None:
        peer.tell({"type": "websocket.disconnect", **message})

    return act


def frame(*data: str | bytes, failure: BaseException | None = None) -> Act:
    async def act(peer: Peer, _id: str, _layer: Any) -> None:
        peer.failure = failure
        for each in (*data, "never handled"):
            peer.push(each)

    return act


def sends(data: Any, failure: BaseException | None = None) -> Act:
    async def act(peer: Peer, connection_id: str, _layer: Any) -> None:
        peer.failure = failure
        await send_message_to_websocket(connection_id, data)
        await asyncio.sleep(0.01)

    return act


def closes(code: int = 1000, reason: str = "", *, answer: dict[str, Any] | None = None) -> Act:
    async def act(peer: Peer, connection_id: str, _layer: Any) -> None:
        await close_websocket_connection(connection_id, code, reason)
        if answer is not None:
            await until(lambda: peer.unread)
            peer.tell({"type": "websocket.disconnect", "reason": "", **answer})

    return act


async def fails_in_an_event(_: Peer, connection_id: str, layer: InMemoryChannelLayer) -> None:
    await layer.group_send(f"connection.{connection_id}", {"type": "chat.fail"})


class End(NamedTuple):
    handler: Any
    act: Act
    close: tuple[int, str] | None  # the frame that is sent
    code: int  # of disconnect()
    log: list[tuple[str, bool]]


RESET, BROKEN = ConnectionResetError(), RuntimeError("after 'close'")
ENDS = {
    "client": End(Noted, told(code=1000, reason=""), None, 1000, []),
    "client without": End(Noted, told(code=1005, reason=""), None, 1005, []),
    "client with none": End(Noted, told(code=None, reason=""), None, 1005, []),
    "lost, for uvicorn": End(Noted, told(code=1005), None, 1006, []),
    "outside": End(Noted, closes(4002, "é"), (4002, "é"), 4002, []),
    # A client need not answer a close frame, nor with the same code.
    "no answer": End(Noted, closes(4002, answer={"code": 1006}), (4002, ""), 4002, []),
    "no code": End(Noted, closes(4002, answer={"code": None}), (4002, ""), 4002, []),
    "receive raises": End(Noted, frame("raise"), (1011, ""), 1011, [ERROR]),
    "send raises": End(InSend, frame("fail"), (1011, ""), 1011, [ERROR]),
    "close raises": End(InClose, frame("close"), (1011, ""), 1011, [ERROR]),
    "outside send raises": End(InSend, sends("fail"), (1011, ""), 1011, [ERROR]),
    "outside close raises": End(InClose, closes(), (1011, ""), 1011, [ERROR]),
    "event raises": End(Noted, fails_in_an_event, (1011, ""), 1011, [ERROR]),
    "foreign cancellation": End(Raising, frame("foreign"), (1011, ""), 1011, [ERROR]),
    "forbidden": End(Raising, frame("forbid"), (1008, "Permission Denied"), 1008, [INFO]),
    "layer away": End(Raising, frame("layer"), (1013, "try again later"), 1013, [("ERROR", False)]),
    "gone when it sends": End(Noted, frame("hello", failure=RESET), None, 1000, []),
    "closed when it sends": End(Noted, frame("hello", failure=BROKEN), None, 1000, []),
    "gone for outside": End(Noted, sends("text", RESET), None, 1000, []),
    "closed for outside": End(Noted, sends({"json": 1}, BROKEN), None, 1000, []),
    "frame not taken": End(Noted, frame("close", failure=ValueError()), None, 4001, [ERROR]),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
async def test_every_end(
    name: str,
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
):
    end = ENDS[name]
    async with Peer(end.handler.as_asgi()) as peer:
        connection_id = await opened(peer)
        caplog.set_level("INFO", "panther_channels")
        await end.act(peer, connection_id, layer)
        if end.close is not None:  # at once, though nothing comes from the client
            close = await peer.next()
            assert (close["type"], close["code"], close["reason"]) == (
                "websocket.close",
                *end.close,
            )
        await asyncio.sleep(0.01)
        assert await peer.left() == []
        peer.failure = None
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", end.code, "Closed", True)]
    assert "never handled" not in peer.journal
    assert logged(caplog) == end.log
    if end.log == [ERROR] and "took no" not in caplog.text:
        assert f"WebSocket '/peer', connection {connection_id}: " in caplog.text


@pytest.mark.parametrize("order", ["wait", None])
async def test_cancelled_by_the_server(layer: InMemoryChannelLayer, order: str | None):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        if order:
            peer.push(order)
            await peer.journaled(order)
        peer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await peer.ended()
        assert (await peer.next())["code"] == 1012
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", 1012, "Closed", True)]


@pytest.mark.parametrize("hook", ["connect", "disconnect"])
async def test_cancelled_in_a_hook_it_still_leaves_the_layer(
    hook: str, layer: InMemoryChannelLayer
):
    class Slow(Noted):
        async def connect(self):
            await self.wait("connect")
            await super().connect()

        async def disconnect(self, code: int):
            await self.wait("disconnect")

        async def wait(self, name: str) -> None:
            if name == hook:
                self.note("waits")
                await asyncio.Event().wait()

    async with Peer(Slow.as_asgi()) as peer:
        peer.leave()
        await peer.journaled("waits")
        peer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await peer.ended()
        assert (layer.groups, layer.channels) == ({}, {})
    assert peer.journal.count("waits") == 1


async def test_what_ends_the_process_gets_out(layer: InMemoryChannelLayer):
    class Exiting(Noted):
        async def do_exit(self):
            await asyncio.sleep(0.01)
            raise SystemExit(3)

    peer = Peer(Exiting.as_asgi())
    peer.tell({"type": "websocket.connect"})
    peer.push("exit")
    with pytest.raises(SystemExit):  # not in a task, for that would end the test run
        await peer.served()
    assert len(disconnects(peer)) == 1
    assert (layer.groups, layer.channels) == ({}, {})


@pytest.mark.parametrize("moment", ["receive", "connect", "disconnect"])
async def test_resolver404_of_a_hook_runs_no_second_handler(
    moment: str, caplog: pytest.LogCaptureFixture
):
    class Missing(Noted):
        async def connect(self, **kwargs):
            self.note("started")
            self.fail_in("connect")
            await super().connect()

        async def receive(self, data: str | bytes):
            self.fail_in("receive")

        async def disconnect(self, code: int):
            self.fail_in("disconnect")

        def fail_in(self, hook):
            if hook == moment:
                raise Resolver404

    router = URLRouter(build_url_patterns({"peer": Missing, "<anything>": Missing}))
    async with Peer(router) as peer:
        peer.push("hello")
        await peer.left()
    assert peer.journal.count("started") == 1
    assert logged(caplog) == [INFO]


# The handshake


async def test_the_client_is_gone_before_accept(caplog: pytest.LogCaptureFixture):
    async with Peer(Noted.as_asgi()) as peer:
        peer.failure = ConnectionResetError()
        await peer.ended()
    assert peer.journal == caplog.records == []


async def test_the_client_is_gone_when_connect_sends(caplog: pytest.LogCaptureFixture):
    class Slow(Noted):
        async def connect(self):
            await self.accept()
            self.scope["peer"].failure = ConnectionResetError()
            await self.send("too late")

    peer = Peer(Slow.as_asgi())
    peer.scope["peer"] = peer
    async with peer:
        await peer.left(4001)
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]
    assert caplog.records == []


async def test_a_close_that_overtakes_accept_wins(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    """Another task closes while accept() is joining its group."""
    add = layer.group_add

    async def slow(group, channel):
        await add(group, channel)
        await asyncio.sleep(0.01)

    class Overtaken(Noted):
        async def connect(self):
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, self.close(4001))
            with suppress(WebsocketError):
                await self.accept()
            self.note(self.state)

    monkeypatch.setattr(layer, "group_add", slow)
    async with Peer(Overtaken.as_asgi()) as peer:
        peer.leave()
        assert [message["type"] for message in await peer.ended()] == ["websocket.close"]
    assert peer.journal == ["Rejected"]


async def test_an_accept_that_the_server_refuses_may_be_tried_again():
    class Trying(Noted):
        async def connect(self):
            try:
                await self.accept(headers={"x-a": "1"})
            except ValueError:
                self.note(self.connection_id)
                self.scope["peer"].failure = None
                await self.accept()
                with suppress(WebsocketError):
                    await self.accept()
                    self.note("accepted twice")

    peer = Peer(Trying.as_asgi())
    peer.scope["peer"] = peer
    peer.failure = ValueError("this header can't be sent")
    async with peer:
        await peer.accepted()
        assert peer.journal == [""]


@pytest.mark.parametrize("name", ["group_add", "new_channel"])
@pytest.mark.parametrize("how", ["failing", "silent", "mistaken"])
async def test_a_layer_in_trouble_refuses_the_handshake(
    layer: InMemoryChannelLayer,
    name: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    async def call(*arguments):
        if how == "silent":
            await asyncio.Event().wait()
        raise ConnectionError("no layer") if how == "failing" else AttributeError("no method")

    monkeypatch.setattr(_outage, "TO_JOIN", 0.05)
    monkeypatch.setattr(_subscription, "TO_JOIN", 0.05)
    monkeypatch.setattr(layer, name, call)
    is_mistake = how == "mistaken"
    async with Peer(subclass("Coded", Noted, reject_with_close_code=True).as_asgi()) as peer:
        await peer.accepted()
        expected = (1011, "") if is_mistake else (1013, "try again later")
        assert [(sent["code"], sent["reason"]) for sent in await peer.ended()] == [expected]
    async with Peer(Noted.as_asgi(), extensions=DENIAL) as peer:
        assert (await peer.next())["status"] == (403 if is_mistake else 503)
    assert disconnects(peer) == []
    # An outage is one line for all, without a traceback.
    assert logged(caplog) == ([ERROR] * 2 if is_mistake else [("ERROR", False)])


@pytest.mark.parametrize("from_outside", [False, True])
async def test_what_the_server_does_not_take_is_not_counted(from_outside: bool):
    class Counting(Noted):
        async def disconnect(self, code: int):
            self.note((self.messages_received, self.messages_sent))

    async with Peer(Counting.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.failure = ConnectionResetError()
        if from_outside:
            await send_message_to_websocket(connection_id, {"json": 1})
            await asyncio.sleep(0.01)
        else:
            peer.push("not taken")
        await peer.left()
    assert peer.journal[-1] == (not from_outside, 1)


# From outside


class ClosingSlowly(Noted):
    async def do_late(self):
        await self.scope["resume"].wait()
        await self.send("too late")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await super().close(code, reason)
        await asyncio.sleep(0.01)


async def test_a_handler_overtaken_by_an_outside_close_made_no_mistake(
    caplog: pytest.LogCaptureFixture,
):
    async with Peer(ClosingSlowly.as_asgi(), resume=asyncio.Event()) as peer:
        connection_id = await opened(peer)
        peer.push("late")
        await peer.journaled("late")
        await close_websocket_connection(connection_id, 4003)
        await peer.next()
        peer.scope["resume"].set()
        assert await peer.left(4003) == []
    assert caplog.records == []
    assert disconnects(peer) == [("disconnect", 4003, "Closed", True)]


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
        peer.push("accept")  # and it is not taken for gone: a mistake is told
        assert (await peer.next())["code"] == 1011
    (record,) = caplog.records
    assert "IllegalStateError" in str(record.exc_text)


async def test_what_comes_after_the_close_is_ignored(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    class Known(Noted):
        async def connect(self):
            self.note(self)
            await super().connect()

    async with Peer(Known.as_asgi()) as peer:
        connection_id = await opened(peer)
        handler = peer.journal[0]
        await until(lambda: layer.channels)
        # The events are in the queue, and neither task has looked before a third one closes.
        for fields in ({"text": "late"}, {"close": "", "code": 4002}):
            await layer.send(handler.channel_name, {"type": EVENT_TYPE, **fields})
        await handler.close(4001)
        assert (await peer.next())["code"] == 4001
        await send_message_to_websocket(connection_id, "late")
        peer.push("late")
        assert await peer.left(4001) == []
    assert "late" not in peer.journal
    assert caplog.records == []


async def test_an_outside_send_reaches_it_as_soon_as_the_client_knows(layer: InMemoryChannelLayer):
    """It is in its group, and that of all, when accept goes out."""

    class Watching(Peer):
        async def take(self, message: dict[str, Any]) -> None:
            self.journal.append((message["type"], len(layer.groups)))
            await super().take(message)

    async with Watching(Noted.as_asgi()) as peer:
        await opened(peer)
    assert peer.journal[0] == ("websocket.accept", 2)


FIELDS = ("text", "json", "base64")
NO_TEXTS = (None, b"YQ==", "\ud800")
#: Not ours, and what has our own type but is no message of ours.
ODD_EVENTS: list[Any] = [
    *({}, [], "", None, {"type": None}, {"type": ["x"]}, {"type": "receive"}, {"type": "_x"}),
    *({"type": "do.nothing"}, {"type": "websocket.disconnect", "code": 4444}),
    *({"type": EVENT_TYPE, field: value} for field in FIELDS for value in NO_TEXTS),
    *({"type": EVENT_TYPE, "close": value, "code": 1000} for value in (None, 5, "x" * 124)),
    *({"type": EVENT_TYPE, "close": "", "code": value} for value in (None, "1000", 1005, True)),
    *({"type": EVENT_TYPE}, {"type": EVENT_TYPE, 1: "a"}, {"type": EVENT_TYPE, "close": ""}),
    *({"type": EVENT_TYPE, "base64": "a"}, {"type": EVENT_TYPE, "text": "a", "exclude": 5}),
]


@pytest.mark.parametrize("overrides", [False, True])
async def test_odd_events_do_nothing(
    layer: InMemoryChannelLayer, overrides: bool, caplog: pytest.LogCaptureFixture
):
    class Overriding(Noted):
        async def send(self, data: Any = None) -> None:
            await super().send(data)

    unread = [{"type": EVENT_TYPE, "json": text} for text in ("{", "") if overrides]
    async with Peer((Overriding if overrides else Noted).as_asgi()) as peer:
        connection_id = await opened(peer)
        await until(lambda: layer.channels)  # the connection listens
        (queue,) = layer.channels.values()
        for each in ODD_EVENTS + unread:
            queue.put_nowait((time.time() + 60, each))  # the layer itself takes only dicts
        await send_message_to_websocket(connection_id, "still here")
        assert (await peer.next())["text"] == "still here"
    assert set(logged(caplog)) == {WARNING}
    assert len(caplog.records) == len(ODD_EVENTS + unread)
    assert "ignored an event of type 'do.nothing'" in caplog.text


# Groups and layers


@pytest.mark.parametrize(
    ("code", "limits"),
    [
        (1000, {"WS_DISCONNECT_GRACE": 0.1}),
        (1012, {"WS_DISCONNECT_GRACE": 60, "WS_SHUTDOWN_TIMEOUT": 0.25}),
    ],
)
async def test_an_event_that_is_handled_for_ever(
    layer: InMemoryChannelLayer, code: int, limits: dict[str, float], caplog
):
    """It has the time of a hook, from the end of its connection on."""

    class Stuck(Noted):
        groups = ("room",)

        async def get_stuck(self, event: Any) -> None:
            self.note("stuck")
            await asyncio.Event().wait()

    with override_settings(**limits):
        async with Peer(Stuck.as_asgi()) as peer:
            await opened(peer)
            await layer.group_send("room", {"type": "get.stuck"})
            await peer.journaled("stuck")
            peer.leave(code)
            await peer.ended()  # within two seconds
        assert [entry[:2] for entry in disconnects(peer)] == [("disconnect", code)]
    (line,) = caplog.messages
    assert "Stuck (WebSocket '/peer', connection " in line
    assert line.endswith(") was handling an event 0.1 s after its end: that was cancelled.")


async def test_a_group_with_a_bad_name(caplog: pytest.LogCaptureFixture):
    async with Peer(subclass("Odd", Noted, groups=[5]).as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        await peer.ended()
    assert peer.journal == []
    assert "Odd failed" in caplog.text


MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}


@pytest.mark.parametrize("layers", [{}, {"other": MEMORY}])
async def test_without_a_layer_the_echo_works(layers: dict[str, Any]):
    class Asking(Noted):
        async def do_ask(self):
            await self.send({"layer": self.channel_layer, "name": self.channel_name})

    with override_settings(CHANNEL_LAYERS=layers):
        async with Peer(Asking.as_asgi()) as peer:
            await opened(peer)
            peer.push("ask")
            assert (await peer.next())["text"] == '{"layer":null,"name":""}'
            await peer.left()
    assert disconnects(peer) == [("disconnect", 1000, "Closed", True)]


async def test_a_layer_by_its_alias():
    layers = {"default": {"BACKEND": "no.such.Layer"}, "sockets": MEMORY}
    with override_settings(CHANNEL_LAYERS=layers, WS_CHANNEL_LAYER="sockets"):
        async with Peer(Noted.as_asgi()) as peer:
            connection_id = await opened(peer)
            await send_message_to_websocket(connection_id, "hello")
            assert (await peer.next())["text"] == "hello"
