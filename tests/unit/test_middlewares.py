import logging
import re
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from panther_channels.authentications import BaseAuthentication
from panther_channels.middlewares import WebsocketMiddleware, WebsocketMonitoringMiddleware
from panther_channels.test import ConnectionClosed, HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket, close_user_websockets

MONITORED = override_settings(WS_MIDDLEWARES=[WebsocketMonitoringMiddleware])


async def test_it_passes_the_connection_on_by_name_and_returns_it():
    passed: list[Any] = []

    async def dispatch(*, connection):
        passed.append(connection)
        return connection

    connection: Any = object()
    assert await WebsocketMiddleware(dispatch)(connection) is connection
    assert passed == [connection]


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        if data == "raise":
            raise RuntimeError
        await self.send(data)
        await self.send({"again": True})


class Refusing(GenericWebsocket):
    async def permissions(self, connection):
        return False


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    name = "panther_channels.monitoring"
    found = [record for record in caplog.records if record.name == name]
    assert {record.levelno for record in found} == {logging.INFO}
    return [re.sub(r"\d+\.\d{3}", "0.123", record.getMessage()) for record in found]


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "panther_channels.monitoring")


@MONITORED
async def test_two_lines(caplog: pytest.LogCaptureFixture):
    async with WebsocketClient(Echo.as_asgi()).connect("/a") as ws:
        for _ in range(3):
            await ws.send("x")
            await ws.receive()
            await ws.receive()
        assert lines(caplog) == ["WS | /a | 127.0.0.1:50000 | - | Connected"]
    assert lines(caplog)[1:] == ["WS | /a | 127.0.0.1:50000 | 0.123 | Closed | 3 in | 6 out"]


@MONITORED
async def test_of_a_refusal(caplog: pytest.LogCaptureFixture):
    with pytest.raises(HandshakeRejected):
        async with WebsocketClient(Refusing.as_asgi()).connect("/a"):
            pass
    assert lines(caplog)[1:] == ["WS | /a | 127.0.0.1:50000 | 0.123 | Rejected | 0 in | 0 out"]


@MONITORED
async def test_of_an_exception(caplog: pytest.LogCaptureFixture):
    async with WebsocketClient(Echo.as_asgi()).connect("/a") as ws:
        await ws.send("raise")
        with pytest.raises(Exception, match="1011"):
            await ws.receive()
    assert lines(caplog)[1:] == ["WS | /a | 127.0.0.1:50000 | 0.123 | Closed | 1 in | 0 out"]


@MONITORED
async def test_a_path_makes_no_lines_of_its_own(caplog: pytest.LogCaptureFixture):
    async with WebsocketClient(Echo.as_asgi()).connect("/a%0AWS%20|%1b[2J"):
        pass
    assert all("\n" not in line and "\x1b" not in line for line in lines(caplog))
    assert len(lines(caplog)) == 2


async def test_the_order(caplog: pytest.LogCaptureFixture):
    """The first is the outermost; the end is seen by both, the inner one before."""
    seen: list[str] = []

    def named(name: str) -> type:
        async def call(self, connection):
            seen.append(f"{name} {connection.state}")
            connection = await self.dispatch(connection=connection)
            seen.append(f"{name} {connection.state}")
            return connection

        return type(name, (WebsocketMiddleware,), {"__call__": call})

    with override_settings(WS_MIDDLEWARES=[named("one"), named("two")]):
        async with WebsocketClient(Echo.as_asgi()).connect("/"):
            pass
    assert seen == ["one Connected", "two Connected", "two Closed", "one Closed"]


class Early(WebsocketMiddleware):
    """Accepts before anybody knows who it is."""

    async def __call__(self, connection):
        await connection.accept()
        return await super().__call__(connection)


class Alice(BaseAuthentication):
    async def __call__(self, connection):
        connection.token = {"exp": time.time() + 0.2}
        return User(pk=1)


class Known(GenericWebsocket):
    auth = Alice
    close_on_token_expiry = True

    async def connect(self):
        await self.send("connected")


@override_settings(WS_MIDDLEWARES=[Early])
async def test_who_was_accepted_early_is_closed_like_others():
    async with WebsocketClient(Known.as_asgi()).connect("/") as ws:
        assert await ws.receive() == "connected"
        await close_user_websockets(User(pk=1), 4100, "log in again")
        with pytest.raises(ConnectionClosed, match="4100"):
            await ws.receive()


@override_settings(WS_MIDDLEWARES=[Early])
async def test_the_token_of_who_was_accepted_early_expires():
    async with WebsocketClient(Known.as_asgi(), timeout=2).connect("/") as ws:
        assert await ws.receive() == "connected"
        with pytest.raises(ConnectionClosed, match="1008"):
            await ws.receive()
