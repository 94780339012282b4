"""The monitoring, and who was accepted early; tests/contracts has the order of middlewares."""

import asyncio
import time
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.test import override_settings

from panther_channels.authentications import BaseAuthentication
from panther_channels.middlewares import WebsocketMiddleware, WebsocketMonitoringMiddleware
from panther_channels.websocket import GenericWebsocket, close_user_websockets
from tests.client import Closed, InProcess
from tests.unit.peer import subclass


@override_settings(WS_MIDDLEWARES=[WebsocketMonitoringMiddleware])
async def test_a_path_makes_no_lines_of_its_own(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "panther_channels.monitoring")
    async with InProcess(GenericWebsocket.as_asgi()) as connect:
        await connect.status("/a%0AWS%20|%1b[2J")
    lines = [each.getMessage() for each in caplog.records if each.name.endswith("monitoring")]
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(r"WS | /a\nWS |\x1b[2J | 127.0.0.1:50000 | ")


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

    async def connect(self):
        await self.send("connected")


@pytest.mark.parametrize("by", ["its user", "its token"])
@override_settings(WS_MIDDLEWARES=[Early])
async def test_who_was_accepted_early_is_closed_like_others(by: str):
    known = subclass("Expiring", Known, close_on_token_expiry=by == "its token")
    async with InProcess(known.as_asgi()) as connect:
        ws = await connect("/")
        assert await ws.receive() == "connected"
        if by == "its user":
            await close_user_websockets(User(pk=1), 4100, "log in again")
        ends = {"its user": (4100, "log in again"), "its token": (1008, "token expired")}
        assert await ws.receive() == Closed(*ends[by])


class Staff(GenericWebsocket):
    """Whether somebody belongs to the group turns out when the group is told something."""

    groups = ("staff",)

    async def permissions(self, connection):
        await tell("too early")
        if "close" in self.query_params:
            await self.close(4001, "not you")
        return "staff" in self.query_params

    async def connect(self):
        await self.send("welcome")

    async def news(self, event):
        await self.send(event["text"])


async def tell(text: str) -> None:
    await get_channel_layer().group_send("staff", {"type": "news", "text": text})
    await asyncio.sleep(0.01)  # what comes of it has been sent now


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("staff=1", ["welcome", "in time"]),
        ("stranger=1", [Closed(1008, "Permission Denied")]),
        ("staff=1&close=1", [Closed(4001, "not you")]),
    ],
)
@override_settings(WS_MIDDLEWARES=[Early])
async def test_who_was_accepted_early_hears_nothing_before_it_was_asked(
    query: str, seen: list[Any]
):
    async with InProcess(Staff.as_asgi()) as connect:
        ws = await connect(f"/?{query}")
        if "welcome" not in seen:
            assert await ws.until_closed() == seen
            return
        assert await ws.receive() == "welcome"
        await tell("in time")
        assert await ws.receive() == "in time"
