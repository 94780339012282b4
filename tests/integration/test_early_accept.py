"""A middleware that accepts before anybody was asked: still nobody gets what isn't for him."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from panther_channels.layers import RedisChannelLayer
from tests.client import Client, Connection
from tests.conftest import GetRedis
from tests.integration.access.site import Site
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


async def as_user(connect: Client, site: Site, name: str, user: str) -> Connection:
    cookie = {"Cookie": f"sessionid={site.sessions[user]}"} if user else {}
    return await connect(f"/ws/{name}", headers=cookie)


async def test_a_group_is_for_those_who_may(server: Server, site: Site, marker: Path, tell: Tell):
    async with Client(server) as connect:
        stranger, alice, staff = [
            await as_user(connect, site, "news", user) for user in ("", "alice", "staff")
        ]
        await asyncio.to_thread(server.wait_log, "(?s)(asking about .*){3}")
        await tell("for staff only")
        await asyncio.to_thread(marker.touch)
        for client in (stranger, alice):
            assert await client.until_closed() == [(1008, "Permission Denied")]
        assert await staff.receive() == "welcome"
        await tell("for staff")
        assert await staff.receive() == "for staff"
    assert server.log.count("connect called") == 1


@pytest.mark.parametrize("name", ["closing-auth", "closing-permission"])
async def test_who_was_closed_is_not_connected(server: Server, site: Site, name: str):
    async with Client(server) as connect:
        client = await as_user(connect, site, name, "")
        assert await client.closed() == (4001, "not you")
    assert "connect called" not in server.log
    assert "Traceback" not in server.log
