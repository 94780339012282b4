"""Connections over channels_redis.core outlive what happens to Redis, and stay within reach."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from panther_channels.websocket import send_message_to_websocket
from tests.conftest import StartRedis, StartServer
from tests.servers import RedisServer, Server, ServerName

SECONDS = 20.0
CORE = "tests.integration.core_settings"

Ids = dict[str, ClientConnection]


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
    before = channel_layers.set("default", layer)
    yield
    await layer.close_pools()
    channel_layers.set("default", before)


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(stack: AsyncExitStack, server: Server, count: int) -> Ids:
    """Opens connections at once, each with its id."""
    url = f"{server.ws_url}/ws/id"
    connecting = (
        stack.enter_async_context(connect(url, open_timeout=SECONDS)) for _ in range(count)
    )
    found = await asyncio.gather(*connecting)
    return {await received(client): client for client in found}


async def received(client: ClientConnection) -> str:
    return str(await asyncio.wait_for(client.recv(), SECONDS))


async def command(redis: RedisServer, *arguments: Any) -> Any:
    async with Redis.from_url(redis.url) as client:
        return await client.execute_command(*arguments)


async def until_reached(ids: Ids) -> None:
    """Sends to all until each has heard of it; what was sent before is read as well."""
    waiting = dict(ids)
    async with asyncio.timeout(SECONDS):
        while waiting:
            for connection_id, client in list(waiting.items()):
                try:
                    await send_message_to_websocket(connection_id, "are you there?")
                    async with asyncio.timeout(0.1):
                        assert await client.recv() == "are you there?"
                    del waiting[connection_id]
                except (OSError, ConnectionError, TimeoutError):
                    continue
