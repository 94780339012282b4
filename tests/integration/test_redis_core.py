"""Connections over channels_redis.core outlive what happens to Redis, and stay within reach."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from channels_redis.core import RedisChannelLayer

from panther_channels.websocket import send_message_to_websocket
from tests.conftest import StartRedis, StartServer
from tests.integration.reach import CORE, Ids, command, opened, received, until_reached
from tests.layers import default_layer
from tests.servers import SERVER_NAMES, RedisServer, Server, ServerName, suspended
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.fixture
def redis(start_redis: StartRedis) -> RedisServer:
    return start_redis()


@pytest.fixture
def start_core(start_server: StartServer, redis: RedisServer) -> Callable[..., Server]:
    """Starts a server over core and `redis`: `start_core("daphne", GROUP_EXPIRY="3")`."""

    def start(name: ServerName, **env: str) -> Server:
        environment = {"DJANGO_SETTINGS_MODULE": CORE, "REDIS_URL": redis.url, **env}
        return start_server(name, env=environment)

    return start


@pytest.fixture
def server(server_name: ServerName, start_core: Callable[..., Server]) -> Server:
    return start_core(server_name)


@pytest.fixture
async def sender(redis: RedisServer) -> AsyncIterator[None]:
    """Lets this process send over `redis`."""
    layer = RedisChannelLayer([{"address": redis.url, "socket_timeout": None}])
    with default_layer(layer):
        yield
        await layer.close_pools()


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def is_count(redis: RedisServer, count: int) -> bool:
    """Whether Redis has so many groups."""
    return len(await command(redis, "KEYS", "*:group:*")) == count


async def survived(server: Server, ids: Ids) -> None:
    """All connections are open, and no failure of Redis took a page of the log."""
    assert [client.close_code for client in ids.values()] == [None] * len(ids)
    assert "asked again" not in server.log
    for line in ("Redis failed", "memberships of connections"):
        assert server.log.count(line) <= 1, server.log


async def test_idle_with_the_defaults_of_redis_py(start_core, clients, sender):
    """Which break off the waiting every five seconds."""
    servers = [start_core(name, REDIS_DEFAULTS="1") for name in SERVER_NAMES]
    ids: Ids = {}
    for server in servers:
        ids |= await opened(clients, server, 5)
    for _ in range(2):
        await asyncio.sleep(6.5)  # what is tested is that time passes
        for connection_id, client in ids.items():
            await send_message_to_websocket(connection_id, connection_id)
            assert await received(client) == connection_id
    for server in servers:
        await survived(server, ids)
        assert server.log.count("said once") == 1
        assert "Redis failed" not in server.log


async def test_redis_is_emptied(server: Server, redis: RedisServer, clients, sender):
    ids = await opened(clients, server, 20)
    await until_reached(ids)
    mark = await emptied(server, redis)
    await asyncio.to_thread(server.wait_log, "20 memberships", since=mark)
    await until_reached(ids)
    await survived(server, ids)


async def emptied(server: Server, redis: RedisServer) -> int:
    """Empties it after the process has looked at it once; returns the mark in the log."""
    await until(lambda: command(redis, "KEYS", "*:panther_channels:*"))
    mark = server.mark()
    await command(redis, "FLUSHALL")
    return mark


async def test_redis_starts_anew(server, redis, start_redis: StartRedis, clients, sender):
    ids = await opened(clients, server, 20)
    await until_reached(ids)
    redis.kill()
    await asyncio.to_thread(server.wait_log, "Redis failed")
    start_redis(port=redis.port)
    await until_reached(ids)
    await survived(server, ids)
    await asyncio.to_thread(server.wait_log, "20 memberships")


async def test_redis_starts_with_an_old_snapshot(server, redis, start_redis, clients, sender):
    old = await opened(clients, server, 3)
    await until_reached(old)
    await command(redis, "SAVE")
    ids = old | await opened(clients, server, 3)
    await until_reached(ids)
    redis.kill()
    redis = start_redis(port=redis.port)
    redis.wait_log("Done loading RDB, keys loaded: [1-9]")
    await until_reached(ids)
    await survived(server, ids)


async def test_redis_closes_its_connections(server, redis, clients, sender):
    ids = await opened(clients, server, 20)
    await until_reached(ids)
    await command(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    ids |= await opened(clients, server, 1)
    await until_reached(ids)
    await survived(server, ids)


async def test_redis_is_silent(server, redis, clients, sender):
    ids = await opened(clients, server, 5)
    await until_reached(ids)
    with suspended(redis):
        await asyncio.to_thread(server.wait_log, "Redis failed")
    await until_reached(ids)
    await survived(server, ids)


async def test_a_membership_is_renewed_before_it_expires(start_core, server_name, clients, sender):
    server = start_core(server_name, GROUP_EXPIRY="3")
    ids = await opened(clients, server, 3)
    await asyncio.sleep(5)  # what is tested is that time passes
    for connection_id, client in ids.items():
        await send_message_to_websocket(connection_id, "still there")
        assert await received(client) == "still there"
    assert "WARNING panther_channels" not in server.log


async def test_a_crowd_comes_and_goes(start_core, server_name, redis, clients, sender):
    """With redis-py's default of 100 connections."""
    server = start_core(server_name, REDIS_DEFAULTS="1")
    ids = await opened(clients, server, 400)
    assert len(ids) == 400
    await until_reached(dict(list(ids.items())[::40]))
    assert await is_count(redis, 400)
    await asyncio.gather(*(client.close() for client in ids.values()))
    await until(lambda: is_count(redis, 0))
    assert "Traceback" not in server.log
    assert server.terminate() in {0, -15}
    assert "Traceback" not in server.log
    assert "Redis failed" not in server.log


async def test_who_leaves_while_redis_is_away_is_not_left_in_it(
    server, redis, start_redis, clients, sender
):
    ids = await opened(clients, server, 5)
    await until_reached(ids)
    await command(redis, "SAVE")
    redis.kill()
    await asyncio.to_thread(server.wait_log, "Redis failed")
    leaving = list(ids)[:3]
    await asyncio.gather(*(ids.pop(connection_id).close() for connection_id in leaving))
    redis = start_redis(port=redis.port)
    await until_reached(ids)
    await until(lambda: is_count(redis, len(ids)))
    await survived(server, ids)
