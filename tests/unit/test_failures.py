"""What an exception of a hook does."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.test import override_settings

from panther_channels import _inbox, _outage
from panther_channels.connections import (
    close_websocket_connection,
    send_message_to_websocket,
)
from panther_channels.exceptions import AuthorizationAPIError, WebsocketError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import GenericWebsocket
from tests.unit.noted import Noted, disconnects, gone, one_error, opened
from tests.unit.peer import Peer, subclass

BROKEN = {"type": "websocket.close", "code": 1011, "reason": ""}


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


# A layer in trouble


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

    monkeypatch.setattr(_outage._ends, "_known", OrderedDict())
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
