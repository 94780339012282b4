"""The states, the loop and every end of a connection."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import Resolver404

from panther_channels import _inbox, _outage
from panther_channels._state import IllegalStateError
from panther_channels.connections import (
    EVENT_TYPE,
    close_websocket_connection,
    send_message_to_websocket,
)
from panther_channels.exceptions import AuthorizationAPIError, WebsocketError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.routing import build_url_patterns
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer, subclass, until

BROKEN = {"type": "websocket.close", "code": 1011, "reason": ""}
TEXT = {"type": "websocket.send"}


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


class InConnect(Noted):
    async def connect(self):
        await super().connect()
        raise ZeroDivisionError("in connect")


class BeforeAccept(Noted):
    async def connect(self):
        raise ZeroDivisionError("before accept")


class InDisconnect(Noted):
    async def disconnect(self, code: int):
        await super().disconnect(code)
        raise ZeroDivisionError("in disconnect")


class InSend(Noted):
    async def send(self, data: Any = None) -> None:
        if data == "fail":
            raise ZeroDivisionError("in send")
        await super().send(data)


class InClose(Noted):
    async def close(self, code: int = 1000, reason: str = "") -> None:
        raise ZeroDivisionError("in close")


async def test_an_exception_before_accept(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    with one_error(caplog, ZeroDivisionError):
        async with Peer(BeforeAccept.as_asgi()) as peer:
            assert [message["type"] for message in await peer.ended()] == ["websocket.close"]
    assert peer.journal == []


async def test_an_exception_in_connect_after_accept(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    with one_error(caplog, ZeroDivisionError) as texts:
        async with Peer(InConnect.as_asgi()) as peer:
            texts.append(await opened(peer))
            assert await peer.ended() == [BROKEN]
            await gone(layer, texts[0])
    assert disconnects(peer) == [("disconnect", 1011, "Closed", True)]


@pytest.mark.parametrize(
    ("consumer", "order"), [(Noted, "raise"), (InSend, "fail"), (InClose, "close")]
)
async def test_an_exception_in_receive(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, consumer: Any, order: str
):
    with one_error(caplog, ZeroDivisionError) as texts:
        async with Peer(consumer.as_asgi()) as peer:
            texts.append(await opened(peer))
            peer.push(order)
            peer.push("never handled")
            assert await peer.ended() == [BROKEN]
            await gone(layer, texts[0])
    assert disconnects(peer) == [("disconnect", 1011, "Closed", True)]
    assert "never handled" not in peer.journal


async def send_fail(connection_id: str, layer: InMemoryChannelLayer) -> None:
    await send_message_to_websocket(connection_id, "fail")


async def close_it(connection_id: str, layer: InMemoryChannelLayer) -> None:
    await close_websocket_connection(connection_id)


async def event_fails(connection_id: str, layer: InMemoryChannelLayer) -> None:
    await layer.group_send(f"connection.{connection_id}", {"type": "chat.fail"})


@pytest.mark.parametrize(
    ("consumer", "act"), [(InSend, send_fail), (InClose, close_it), (Noted, event_fails)]
)
async def test_an_exception_in_an_event(
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
    consumer: Any,
    act: Callable[..., Awaitable[None]],
):
    with one_error(caplog, ZeroDivisionError) as texts:
        async with Peer(consumer.as_asgi()) as peer:
            texts.append(await opened(peer))
            await act(texts[0], layer)
            # At once, though nothing comes from the client.
            assert await peer.next() == BROKEN
            peer.leave(1011)
            assert await peer.ended() == []
            await gone(layer, texts[0])
    assert disconnects(peer) == [("disconnect", 1011, "Closed", True)]


async def test_an_exception_in_disconnect(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    with one_error(caplog, ZeroDivisionError):
        async with Peer(InDisconnect.as_asgi()) as peer:
            connection_id = await opened(peer)
            peer.leave(4001)
            assert await peer.ended() == []
            await gone(layer, connection_id)
    assert disconnects(peer) == [("disconnect", 4001, "Closed", True)]


async def test_a_refusal_raised_in_disconnect_is_an_error_like_others(
    caplog: pytest.LogCaptureFixture,
):
    class Refusing(Noted):
        async def disconnect(self, code: int):
            raise WebsocketError("too late")

    with one_error(caplog, WebsocketError):
        async with Peer(Refusing.as_asgi()) as peer:
            await opened(peer)
            peer.leave()
            assert await peer.ended() == []


async def test_a_disconnect_without_the_parameter(caplog: pytest.LogCaptureFixture):
    class Bare(Noted):
        async def disconnect(self):  # type: ignore[override]
            pass

    class Accepting(WebsocketMiddleware):
        async def __call__(self, connection):
            await connection.accept()
            return connection

    for middlewares in ([], [Accepting]):
        with override_settings(WS_MIDDLEWARES=middlewares), one_error(caplog, TypeError):
            async with Peer(Bare.as_asgi()) as peer:
                await peer.accepted()
                peer.leave()
                await peer.ended()


async def test_an_event_handler_without_the_parameter(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    class Bare(Noted):
        async def chat_message(self):  # type: ignore[override]
            pass

    with one_error(caplog, TypeError):
        async with Peer(Bare.as_asgi()) as peer:
            connection_id = await opened(peer)
            await layer.group_send(f"connection.{connection_id}", {"type": "chat.message"})
            assert await peer.next() == BROKEN
            peer.leave(1011)
            await peer.ended()


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


async def test_a_foreign_cancellation_is_an_exception(caplog: pytest.LogCaptureFixture):
    class Awaiting(Noted):
        async def do_foreign(self):
            task = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(task.cancel)
            await task

    with one_error(caplog, asyncio.CancelledError):
        async with Peer(Awaiting.as_asgi()) as peer:
            await opened(peer)
            peer.push("foreign")
            assert await peer.ended() == [BROKEN]
    assert disconnects(peer) == [("disconnect", 1011, "Closed", True)]


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


# Refusals that hooks raise


async def test_a_close_code_that_a_hook_raises(caplog: pytest.LogCaptureFixture):
    class Raising(Noted):
        async def do_raise(self):
            raise WebsocketError("too fast", 4008)

        async def do_http(self):
            raise AuthorizationAPIError

        async def do_long(self):
            raise WebsocketError("é" * 100 + "\ud800", 4009)

    for order, expected in (
        ("raise", (4008, "too fast")),
        ("long", (4009, "é" * 61)),
        ("http", (1008, "Permission Denied")),
    ):
        async with Peer(Raising.as_asgi()) as peer:
            await opened(peer)
            peer.push(order)
            (close,) = await peer.ended()
            assert (close["code"], close["reason"]) == expected
            assert disconnects(peer)[0][1] == expected[0]
    # It was meant: one line each, without a traceback.
    assert [(r.levelname, r.exc_info) for r in caplog.records] == [("INFO", None)] * 3


async def test_a_status_code_that_is_no_number(caplog: pytest.LogCaptureFixture):
    class Raising(Noted):
        async def do_raise(self):
            raise WebsocketError("too fast", "4008")  # type: ignore[arg-type]

    with one_error(caplog, WebsocketError):
        async with Peer(Raising.as_asgi()) as peer:
            await opened(peer)
            peer.push("raise")
            (close,) = await peer.ended()
            assert close["code"] == 1011


async def test_a_newline_in_the_path_writes_no_line_of_its_own(caplog: pytest.LogCaptureFixture):
    class Numbered(GenericWebsocket):
        async def connect(self, number: int):
            await self.accept()

    caplog.set_level("INFO")
    scope = {"kwargs": {"number": "1\nERROR root the house burns"}, "args": ()}
    async with Peer(Numbered.as_asgi(), "/1\nERROR root the house burns", url_route=scope) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        await peer.ended()
    (record,) = caplog.records
    assert "\n" not in record.getMessage()


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


@pytest.mark.parametrize("name", ["group_add", "new_channel"])
@pytest.mark.parametrize("how", ["failing", "silent"])
async def test_a_layer_in_trouble_refuses_the_handshake(
    layer: InMemoryChannelLayer,
    name: str,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    async def failing(*arguments):
        raise ConnectionError("no layer today")

    async def silent(*arguments):
        await asyncio.Event().wait()

    monkeypatch.setattr(_outage, "log", _outage.Log())
    monkeypatch.setattr(_outage, "TO_JOIN", 0.05)
    monkeypatch.setattr(_inbox, "TO_JOIN", 0.05)
    monkeypatch.setattr(layer, name, failing if how == "failing" else silent)
    for _ in range(3):
        async with Peer(Noted.as_asgi(), extensions={"websocket.http.response": {}}) as peer:
            assert (await peer.next())["status"] == 503
        assert disconnects(peer) == []
    async with Peer(subclass("Coded", Noted, reject_with_close_code=True).as_asgi()) as peer:
        await peer.accepted()
        assert [(sent["code"], sent["reason"]) for sent in await peer.ended()] == [
            (1013, "try again later")
        ]
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is None


async def test_a_mistake_of_a_layer_is_logged_with_its_traceback(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
):
    async def failing(group, channel):
        raise AttributeError("no such method")

    layer.group_add = failing
    with one_error(caplog, AttributeError):
        async with Peer(Noted.as_asgi()) as peer:
            sent = await peer.ended()
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert disconnects(peer) == []


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
