"""A middleware that accepts before anybody was asked: still nobody gets what isn't for him."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from panther_channels.layers import RedisChannelLayer
from tests.conftest import GetRedis
from tests.integration.access.client import Site, closed, connected, received
from tests.integration.conftest import StartAccess
from tests.servers import Server, ServerName

Tell = Callable[[str], Awaitable[None]]


@pytest.fixture
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tmp_path_factory.mktemp("marker"), "is-told")


@pytest.fixture
def server(server_name: ServerName, marker: Path, start_access: StartAccess) -> Server:
    middlewares = ["tests.integration.access.rules.AcceptEarly"]
    return start_access(server_name, WS_MIDDLEWARES=middlewares, MARKER=str(marker))


@pytest.fixture
def tell(get_redis: GetRedis) -> Tell:
    """Sends to the group of the class."""

    async def send(text: str) -> None:
        layer = RedisChannelLayer(hosts=[get_redis().url])
        await layer.group_send("staff", {"type": "news", "text": text})
        await layer.flush()

    return send


def as_user(server: Server, site: Site, name: str, user: str) -> ClientConnection:
    cookie = [("Cookie", f"sessionid={site.sessions[user]}")] if user else []
    client: ClientConnection = connected(server, f"/ws/{name}", cookie)
    return client


async def test_a_group_is_for_those_who_may(server: Server, site: Site, marker: Path, tell: Tell):
    async with (
        as_user(server, site, "news", "") as stranger,
        as_user(server, site, "news", "alice") as alice,
        as_user(server, site, "news", "staff") as staff,
    ):
        await asyncio.to_thread(server.wait_log, "(?s)(asking about .*){3}")
        await tell("for staff only")
        await asyncio.to_thread(marker.touch)
        for client in (stranger, alice):
            assert await closed(client) == (1008, "Permission Denied")
            assert list(client.recv_messages.frames.queue) == []
        assert await received(staff) == "welcome"
        await tell("for staff")
        assert await received(staff) == "for staff"
    assert server.log.count("connect called") == 1


@pytest.mark.parametrize("name", ["closing-auth", "closing-permission"])
async def test_who_was_closed_is_not_connected(server: Server, site: Site, name: str):
    async with as_user(server, site, name, "") as client:
        assert await closed(client) == (4001, "not you")
    assert "connect called" not in server.log
    assert "Traceback" not in server.log
