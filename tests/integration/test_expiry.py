"""A connection lasts no longer than its token, where that is asked for."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.client import Client, Connection
from tests.integration.access.site import Site
from tests.integration.conftest import StartAccess
from tests.servers import SERVER_NAMES, Server

LIFETIME = 5  # seconds, in which all of them have to come in on a busy machine

OpenFor = Callable[[Server, str, str], Awaitable[Connection]]


@pytest.fixture
async def open_for() -> AsyncIterator[OpenFor]:
    """Opens a connection of Alice's by a token."""
    clients: list[Client] = []

    async def enter(server: Server, target: str, token: str) -> Connection:
        clients.append(Client(server))
        connection = await clients[-1](target, headers={"Authorization": f"Bearer {token}"})
        assert json.loads(str(await connection.receive()))["user"] == "alice"
        return connection

    yield enter
    for client in clients:
        await client.__aexit__()


@pytest.fixture
def servers(start_access: StartAccess) -> list[Server]:
    """Both at once: most of the time here is waited for a second to come."""
    return [start_access(name) for name in SERVER_NAMES]


@pytest.fixture
def expiring(start_access: StartAccess) -> list[Server]:
    """With the setting, also both."""
    return [start_access(name, WS_CLOSE_ON_TOKEN_EXPIRY=True) for name in SERVER_NAMES]


async def test_at_the_expiry(
    open_for: OpenFor, servers: list[Server], expiring: list[Server], site: Site
):
    expiry = int(time.time()) + LIFETIME
    short, long = site.token(exp=expiry), site.token()
    ending, staying = [], []
    # By the class, by the setting, and whoever is told of neither.
    for server in servers:
        ending.append(await open_for(server, "/ws/expiring", short))
        staying.append(await open_for(server, "/ws/header", short))
    for server in expiring:
        ending.append(await open_for(server, "/ws/header", short))
        ending.append(await open_for(server, "/ws/simplejwt", short))
        staying.append(await open_for(server, "/ws/lasting", short))
        staying.append(await open_for(server, "/ws/header", long))
    assert time.time() < expiry
    for client in ending:
        assert await client.closed() == (1008, "token expired")
        assert expiry <= time.time() < expiry + 1.2
    for client in staying:
        assert await client.ask("still here") == "still here"


async def test_a_fresh_token_moves_the_deadline(
    open_for: OpenFor, servers: list[Server], site: Site
):
    expiry = int(time.time()) + LIFETIME
    token = site.token(exp=expiry)
    clients = [await open_for(server, "/ws/expiring", token) for server in servers]
    for client in clients:
        assert await client.ask(f"refresh {site.token(exp=expiry + 1)}") == "refreshed"
    await asyncio.sleep(expiry + 0.5 - time.time())
    for client in clients:
        assert await client.ask("still here") == "still here"
    for client in clients:
        assert await client.closed() == (1008, "token expired")
        assert expiry + 1 <= time.time() < expiry + 2.2


async def test_a_token_that_only_the_leeway_lets_in(
    open_for: OpenFor, start_access: StartAccess, site: Site
):
    """It is good until then, and closing it at once would be no leeway."""
    settings = {"SIMPLE_JWT": {"LEEWAY": 3}, "WS_CLOSE_ON_TOKEN_EXPIRY": True}
    servers = [start_access(name, **settings) for name in SERVER_NAMES]
    expiry = int(time.time()) - 1
    token = site.token(exp=expiry)
    clients = [await open_for(server, "/ws/header", token) for server in servers]
    for client in clients:
        assert await client.ask("still here") == "still here"
    for client in clients:
        assert await client.closed() == (1008, "token expired")
        assert expiry + 3 <= time.time() < expiry + 4.2
