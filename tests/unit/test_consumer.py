"""The states, the loop and every end of a connection."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import Resolver404

from panther_channels.connections import (
    close_websocket_connection,
    send_message_to_websocket,
)
from panther_channels.exceptions import WebsocketError
from panther_channels.routing import build_url_patterns
from panther_channels.websocket import GenericWebsocket
from tests.unit.noted import Noted, disconnects, gone, one_error, opened
from tests.unit.peer import Peer

# Every end: disconnect() once, the layer empty


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"code": 1000}, 1000),
        ({"code": 4001, "reason": "bye"}, 4001),
        ({"code": 1005}, 1005),
        ({"code": None}, 1005),
        ({"code": 1006}, 1006),
    ],
)
async def test_the_client_closes(layer: InMemoryChannelLayer, told: dict[str, Any], code: int):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.leave(**told)
        assert await peer.ended() == []
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", code, "Closed", True)]


async def test_a_lost_connection_without_a_reason_is_1006():
    async with Peer(Noted.as_asgi()) as peer:
        await opened(peer)
        peer._incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})
        await peer.ended()
    assert disconnects(peer) == [("disconnect", 1006, "Closed", True)]


async def test_the_consumer_closes(layer: InMemoryChannelLayer):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.push("close")
        assert await peer.next() == {"type": "websocket.close", "code": 4001, "reason": "bye"}
        peer.leave(4001)
        assert await peer.ended() == []
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]


async def test_outside_closes(layer: InMemoryChannelLayer):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        await close_websocket_connection(connection_id, 4002, "é")
        assert await peer.next() == {"type": "websocket.close", "code": 4002, "reason": "é"}
        peer.leave(4002)
        assert await peer.ended() == []
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", 4002, "Closed", True)]


@pytest.mark.parametrize("told", [{"code": 1006}, {"code": 1005}, {"code": None}])
async def test_the_code_that_was_sent_stays_whatever_the_server_tells(told: dict[str, Any]):
    """A client need not answer a close frame, nor with the same code."""
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        await close_websocket_connection(connection_id, 4002)
        await peer.next()
        peer.leave(**told)
        await peer.ended()
    assert disconnects(peer) == [("disconnect", 4002, "Closed", True)]


@pytest.mark.parametrize("order", ["wait", None])
async def test_cancelled(layer: InMemoryChannelLayer, order: str | None):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        if order:
            peer.push(order)
            await peer.journaled(order)
        peer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await peer.ended()
        close = await peer.next()
        assert (close["type"], close["code"]) == ("websocket.close", 1012)
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", 1012, "Closed", True)]


async def test_cancelled_in_connect(layer: InMemoryChannelLayer):
    class Slow(Noted):
        async def connect(self):
            self.note("connect")
            await asyncio.Event().wait()

    async with Peer(Slow.as_asgi()) as peer:
        await peer.journaled("connect")
        peer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await peer.ended()
        assert (await peer.next())["type"] == "websocket.close"
    assert disconnects(peer) == []


async def test_cancelled_in_disconnect_still_leaves_the_layer(layer: InMemoryChannelLayer):
    class Slow(Noted):
        async def disconnect(self, code: int):
            self.note("disconnect")
            await asyncio.Event().wait()

    async with Peer(Slow.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.leave()
        await peer.journaled("disconnect")
        peer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await peer.ended()
        await gone(layer, connection_id)
    assert peer.journal.count("disconnect") == 1


@pytest.mark.parametrize("failure", [ConnectionResetError, RuntimeError("after 'close'")])
async def test_the_client_is_gone_when_the_handler_sends(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, failure: Any
):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.failure = failure
        peer.push("hello")
        peer.push("never handled")
        peer.leave(4001)
        await peer.ended()
        await gone(layer, connection_id)
    assert "never handled" not in peer.journal
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]
    assert caplog.records == []


async def test_the_client_is_gone_when_connect_sends(caplog: pytest.LogCaptureFixture):
    class Slow(Noted):
        async def connect(self):
            await self.accept()
            resume = asyncio.Event()
            self.note(resume)
            await resume.wait()
            await self.send("too late")

    async with Peer(Slow.as_asgi()) as peer:
        await peer.accepted()
        await asyncio.sleep(0)
        peer.failure = ConnectionResetError()
        peer.leave(4001)
        peer.journal[0].set()
        await peer.ended()
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]
    assert caplog.records == []


@pytest.mark.parametrize("data", ["text", {"json": 1}])
@pytest.mark.parametrize("failure", [ConnectionResetError(), RuntimeError("after 'close'")])
async def test_the_client_is_gone_when_an_outside_send_comes(
    data: Any, failure: Exception, caplog: pytest.LogCaptureFixture
):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.failure = failure
        await send_message_to_websocket(connection_id, data)
        await asyncio.sleep(0.01)
        peer.leave(1006)
        await peer.ended()
    assert disconnects(peer) == [("disconnect", 1006, "Closed", True)]
    assert caplog.records == []


async def test_the_client_is_gone_before_accept(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    async with Peer(Noted.as_asgi()) as peer:
        peer.failure = ConnectionResetError()
        await peer.ended()
    assert peer.journal == []
    assert caplog.records == []


async def test_the_server_takes_no_close_frame(caplog: pytest.LogCaptureFixture):
    async with Peer(Noted.as_asgi()) as peer:
        await opened(peer)
        peer.failure = ValueError("not this one")
        peer.push("close")
        peer.leave(1006)
        await peer.ended()
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]
    (record,) = caplog.records
    assert "took no close frame" in record.getMessage()
    assert record.exc_info


async def test_a_message_in_the_moment_of_the_end_stays_nowhere(layer: InMemoryChannelLayer):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        (channel,) = layer.groups[f"connection.{connection_id}"]
        await asyncio.sleep(0.01)
        peer.leave()
        await layer.send(channel, {"type": "chat.message", "text": "late"})
        await peer.ended()
        await gone(layer, connection_id)


async def test_what_ends_the_process_gets_out(layer: InMemoryChannelLayer):
    class Exiting(Noted):
        async def do_exit(self):
            await asyncio.sleep(0.01)
            raise SystemExit(3)

    peer = Peer(Exiting.as_asgi())
    peer._incoming.put_nowait({"type": "websocket.connect"})
    peer.push("exit")
    # Not in a task, for that would end the test run.
    with pytest.raises(SystemExit):
        await Exiting.as_asgi()(peer.scope, peer._incoming.get, peer._take)
    assert len(disconnects(peer)) == 1
    assert (layer.groups, layer.channels) == ({}, {})


# The table: what accept(), send() and close() do in every state


class Acting(Noted):
    """Does what the scope says, and journals what each step gave."""

    async def connect(self):
        for step in self.scope["steps"]:
            await self.do(step)

    async def receive(self, data: str | bytes):
        await self.do(str(data))

    async def disconnect(self, code: int):
        await self.do(self.scope.get("at_end", "nothing"))

    async def do(self, step: str) -> None:
        actions: dict[str, Callable[[], Awaitable[None]]] = {
            "accept": self.accept,
            "send": lambda: self.send("data"),
            "close": self.close,
            "close-4001": lambda: self.close(4001, "bye"),
            "close-1005": lambda: self.close(1005),
            "close-long": lambda: self.close(1000, "x" * 124),
            "accept-other": lambda: self.accept(subprotocol="other"),
            "accept-chat": lambda: self.accept(subprotocol="chat"),
            "accept-header": lambda: self.accept(headers={"X-A": "1"}),
            "nothing": lambda: asyncio.sleep(0),
        }
        before = self.state
        try:
            await actions[step]()
        except (WebsocketError, ValueError) as error:
            is_told = before in str(error) or isinstance(error, ValueError)
            self.note((step, before, type(error) if is_told else TypeError, self.state))
        else:
            self.note((step, before, None, self.state))


ACCEPT: dict[str, Any] = {"type": "websocket.accept", "subprotocol": None, "headers": []}
SEND = {"type": "websocket.send", "text": "data"}
CLOSE = {"type": "websocket.close", "code": 1000, "reason": ""}
BYE = {"type": "websocket.close", "code": 4001, "reason": "bye"}
REFUSED = {"type": "websocket.close", "code": 1008, "reason": ""}
CHAT: dict[str, Any] = {"type": "websocket.accept", "subprotocol": "chat", "headers": []}
HEADER: dict[str, Any] = {
    "type": "websocket.accept",
    "subprotocol": None,
    "headers": [(b"x-a", b"1")],
}

#: steps in connect(); outcome of each: an error, or None, and the state after it; what is sent
TABLE: list[tuple[str, list[tuple[type[Exception] | None, str]], list[dict[str, Any]]]] = [
    ("nothing", [(None, "Connected")], [REFUSED]),
    ("send", [(WebsocketError, "Connected")], [REFUSED]),
    ("send accept", [(WebsocketError, "Connected"), (None, "Accepted")], [ACCEPT]),
    ("accept", [(None, "Accepted")], [ACCEPT]),
    ("accept-chat", [(None, "Accepted")], [CHAT]),
    ("accept-header", [(None, "Accepted")], [HEADER]),
    ("accept-other", [(ValueError, "Connected")], [REFUSED]),
    ("accept-other accept", [(ValueError, "Connected"), (None, "Accepted")], [ACCEPT]),
    ("accept accept", [(None, "Accepted"), (WebsocketError, "Accepted")], [ACCEPT]),
    ("accept send", [(None, "Accepted"), (None, "Accepted")], [ACCEPT, SEND]),
    ("close", [(None, "Rejected")], [CLOSE]),
    ("close-4001", [(None, "Rejected")], [BYE]),
    ("close close-4001", [(None, "Rejected"), (None, "Rejected")], [CLOSE]),
    ("close accept", [(None, "Rejected"), (WebsocketError, "Rejected")], [CLOSE]),
    ("close send", [(None, "Rejected"), (WebsocketError, "Rejected")], [CLOSE]),
    ("close-1005", [(ValueError, "Connected")], [REFUSED]),
    ("close-1005 accept", [(ValueError, "Connected"), (None, "Accepted")], [ACCEPT]),
    ("accept close", [(None, "Accepted"), (None, "Closed")], [ACCEPT, CLOSE]),
    ("accept close-1005", [(None, "Accepted"), (ValueError, "Accepted")], [ACCEPT]),
    ("accept close-long", [(None, "Accepted"), (ValueError, "Accepted")], [ACCEPT]),
    (
        "accept close-4001 close",
        [(None, "Accepted"), (None, "Closed"), (None, "Closed")],
        [ACCEPT, BYE],
    ),
    (
        "accept close send",
        [(None, "Accepted"), (None, "Closed"), (WebsocketError, "Closed")],
        [ACCEPT, CLOSE],
    ),
    (
        "accept close accept",
        [(None, "Accepted"), (None, "Closed"), (WebsocketError, "Closed")],
        [ACCEPT, CLOSE],
    ),
]


def outcomes(peer: Peer) -> list[tuple[type[Exception] | None, str]]:
    return [
        (
            next(known for known in (None, WebsocketError, ValueError) if matches(error, known)),
            after,
        )
        for _step, _before, error, after in peer.journal
    ]


def matches(error: type[Exception] | None, known: type[Exception] | None) -> bool:
    return error is known if error is None or known is None else issubclass(error, known)


@pytest.mark.parametrize(("steps", "expected", "sent"), TABLE, ids=[row[0] for row in TABLE])
async def test_in_connect(
    steps: str, expected: list[Any], sent: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
):
    async with Peer(Acting.as_asgi(), steps=steps.split(), subprotocols=["chat"]) as peer:
        peer.leave()
        assert await peer.ended() == sent
        state_lines = peer.journal[: len(expected)]
    del peer.journal[len(expected) :]
    assert state_lines == peer.journal
    assert outcomes(peer) == expected
    # A refused handshake is one line, for the client learns nothing.
    is_refused = sent[0]["type"] == "websocket.close"
    assert [record.levelname for record in caplog.records] == ["INFO"] * is_refused


@pytest.mark.parametrize(
    ("steps", "expected", "sent"),
    [
        ("accept", [(WebsocketError, "Accepted")], []),
        ("send", [(None, "Accepted")], [SEND]),
        ("close-4001", [(None, "Closed")], [BYE]),
        ("close-4001 close", [(None, "Closed"), (None, "Closed")], [BYE]),
        ("close-1005 send", [(ValueError, "Accepted"), (None, "Accepted")], [SEND]),
        ("close send", [(None, "Closed"), (WebsocketError, "Closed")], [CLOSE]),
        ("close accept", [(None, "Closed"), (WebsocketError, "Closed")], [CLOSE]),
    ],
)
async def test_in_receive(steps: str, expected: list[Any], sent: list[dict[str, Any]]):
    class InReceive(Acting):
        async def connect(self):
            await self.accept()

        async def receive(self, data: str | bytes):
            for step in str(data).split():
                await self.do(step)

    async with Peer(InReceive.as_asgi()) as peer:
        await peer.accepted()
        peer.push(steps)
        peer.leave()
        assert await peer.ended() == sent
    peer.journal.pop()  # of disconnect()
    assert outcomes(peer) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("send", (WebsocketError, "Closed")),
        ("accept", (WebsocketError, "Closed")),
        ("close", (None, "Closed")),
        ("close-1005", (ValueError, "Closed")),
    ],
)
async def test_in_disconnect(step: str, expected: Any):
    async with Peer(Acting.as_asgi(), steps=["accept"], at_end=step) as peer:
        peer.leave()
        assert await peer.ended() == [ACCEPT]
    assert outcomes(peer)[1:] == [expected]


async def test_the_error_says_what_was_legal():
    async with Peer(Noted.as_asgi()) as peer:
        await opened(peer)
        peer.leave()
    consumer = Noted()
    for call, text in ((consumer.send, "between accept() and the end"),):
        with pytest.raises(WebsocketError, match=re.escape(text)) as caught:
            await call("x")
        assert "'Connected'" in str(caught.value)


async def test_connection_id_is_there_while_it_is_open():
    class Telling(Noted):
        async def connect(self):
            self.note(self.connection_id)
            await self.accept()
            self.note(self.connection_id)

        async def disconnect(self, code: int):
            self.note(self.connection_id)
            self.note(self)

    async with Peer(Telling.as_asgi()) as peer:
        await peer.accepted()
        peer.leave()
        await peer.ended()
    before, during, at_the_end, consumer = peer.journal
    assert before == ""
    assert re.fullmatch("[0-9a-f]{32}", during)
    assert at_the_end == during
    assert consumer.connection_id == ""


async def test_a_close_that_overtakes_accept_wins(layer: InMemoryChannelLayer):
    """Another task closes while accept() is joining its group."""

    class Overtaken(Noted):
        async def connect(self):
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, self.close(4001))
            with suppress(WebsocketError):
                await self.accept()
            self.note(self.state)

    add = layer.group_add

    async def slow(group, channel):
        await add(group, channel)
        await asyncio.sleep(0.01)

    layer.group_add = slow
    async with Peer(Overtaken.as_asgi()) as peer:
        peer.leave()
        sent = await peer.ended()
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert peer.journal == ["Rejected"]


async def test_an_accept_that_the_server_refuses_may_be_tried_again():
    class Trying(Noted):
        async def connect(self):
            try:
                await self.accept(headers={"x-a": "1"})
            except ValueError:
                self.note("refused")
                self.scope["peer"].failure = None
                await self.accept()

    peer = Peer(Trying.as_asgi())
    peer.scope["peer"] = peer
    peer.failure = ValueError("this header can't be sent")
    async with peer:
        await peer.accepted()
        assert peer.journal == ["refused"]


async def test_frames_come_in_order_and_none_after_the_end():
    async with Peer(Noted.as_asgi()) as peer:
        await opened(peer)
        frames: list[str | bytes] = ["a", b"b", "", b"", "close", "after"]
        for frame in frames:
            peer.push(frame)
        peer.leave()
        sent = await peer.ended()
    assert peer.journal[1:-1] == frames[:-1]
    assert [message.get("text", message.get("bytes")) for message in sent[:-1]] == frames[:-2]


@pytest.mark.parametrize("frame", [{"text": "a", "bytes": None}, {"text": "a"}])
async def test_text_frames_as_servers_spell_them(frame: dict[str, Any]):
    async with Peer(Noted.as_asgi()) as peer:
        await opened(peer)
        peer._incoming.put_nowait({"type": "websocket.receive", **frame})
        assert (await peer.next())["text"] == "a"


@pytest.mark.parametrize("frame", [{"bytes": b"a", "text": None}, {"bytes": b"a"}])
async def test_binary_frames_as_servers_spell_them(frame: dict[str, Any]):
    async with Peer(Noted.as_asgi()) as peer:
        await opened(peer)
        peer._incoming.put_nowait({"type": "websocket.receive", **frame})
        assert (await peer.next())["bytes"] == b"a"


async def test_two_connections_share_nothing():
    async with Peer(Noted.as_asgi()) as one, Peer(Noted.as_asgi()) as two:
        first, second = await opened(one), await opened(two)
        assert first != second
        await send_message_to_websocket(first, "for one")
        assert (await one.next())["text"] == "for one"
        await close_websocket_connection(first)
        assert (await one.next())["type"] == "websocket.close"
        await send_message_to_websocket(second, "for two")
        assert (await two.next())["text"] == "for two"


# Under URLRouter


@pytest.mark.parametrize("moment", ["receive", "connect", "disconnect"])
async def test_resolver404_of_a_hook_runs_no_second_consumer(
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
    with one_error(caplog, Resolver404):
        async with Peer(router) as peer:
            if moment != "connect":
                await opened(peer)
            peer.push("hello")
            peer.leave()
            await peer.ended()
    assert peer.journal.count("started") == 1


# What is too large, or too much


@pytest.mark.parametrize("data", ["x" * 1001, "é" * 501, b"x" * 1001])
@override_settings(WS_MAX_MESSAGE_SIZE=1000)
async def test_too_large_a_message(layer: InMemoryChannelLayer, data: str | bytes):
    async with Peer(Noted.as_asgi()) as peer:
        connection_id = await opened(peer)
        peer.push(data)
        assert await peer.next() == {
            "type": "websocket.close",
            "code": 1009,
            "reason": "a message has 1000 bytes at most",
        }
        assert await peer.ended() == []
        await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", 1009, "Closed", True)]


@override_settings(WS_MAX_MESSAGE_SIZE=1000)
async def test_the_largest_messages():
    class Count(GenericWebsocket):
        async def connect(self):
            await self.accept()

        async def receive(self, data: str | bytes):
            await self.send(str(len(data)))

    async with Peer(Count.as_asgi()) as peer:
        await peer.accepted()
        for data, size in (("x" * 1000, "1000"), ("é" * 500, "500"), (b"x" * 1000, "1000")):
            peer.push(data)
            assert (await peer.next())["text"] == size
