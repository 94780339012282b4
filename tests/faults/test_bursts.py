"""Large bursts over Redis pub/sub: Redis cuts no process off, and nobody's messages are lost."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import StartRedis, StartServer
from tests.servers import ROOT, RedisServer, Server, ServerName, suspended

pytestmark = pytest.mark.faults

SECONDS = 40.0
LIMIT = 32_000_000  # for which Redis cuts a subscriber off

# Sends a burst to one connection, and every 1 MB a number to its neighbour.
SENDER = """
import asyncio, sys, django
django.setup()
from panther_channels.websocket import send_message_to_websocket

async def main(target, neighbour, count, size):
    every = 1_000_000 // int(size)
    for number in range(int(count)):
        await send_message_to_websocket(target, "x" * int(size))
        if number % every == 0:
            await send_message_to_websocket(neighbour, number // every)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def redis(start_redis: StartRedis) -> RedisServer:
    return start_redis()


@pytest.fixture
def server(server_name: ServerName, start_server: StartServer, redis: RedisServer) -> Server:
    settings = {"WS_MAX_SEND_BUFFER": 1_000_000_000}  # the client is not what is slow
    env = {"DJANGO_SETTINGS_MODULE": "tests.faults.settings", "REDIS_URL": redis.url}
    return start_server(server_name, env={**env, "WS_SETTINGS": json.dumps(settings)})


@pytest.fixture
def senders(redis: RedisServer) -> Iterator[Any]:
    """Starts processes that send a burst; what is left of them is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.project.settings"}
        command = [sys.executable, "-c", SENDER, *map(str, arguments)]
        running.append(subprocess.Popen(command, cwd=ROOT, env={**env, "REDIS_URL": redis.url}))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


async def waiting(client: Redis) -> int:
    """Bytes for the subscriber that has most."""
    clients = await client.client_list(_type="pubsub")
    return max((int(each["omem"]) for each in clients), default=0)


async def received(client: ClientConnection) -> Any:
    return await asyncio.wait_for(client.recv(), SECONDS)


@pytest.mark.parametrize(("count", "size"), [(200, 1_000_000), (3200, 62_500)])
@pytest.mark.parametrize("processes", [1, 4])
async def test_a_process_that_takes_nothing_for_a_while(
    server: Server, redis: RedisServer, senders: Any, processes: int, count: int, size: int
):
    url = f"{server.ws_url}/id"
    async with connect(url) as neighbour, connect(url, max_size=None) as target:
        ids = await received(target), await received(neighbour)
        async with Redis.from_url(redis.url) as client:
            with suspended(server):
                burst = [senders(*ids, count // processes, size) for _ in range(processes)]
                async with asyncio.timeout(SECONDS):
                    while await waiting(client) < 4_000_000:  # noqa: ASYNC110 - no event for that
                        await asyncio.sleep(0.01)
                ended = asyncio.gather(*(asyncio.to_thread(each.wait) for each in burst))
                await asyncio.wait([ended], timeout=1)
                assert not ended.done()
                assert 4_000_000 < await waiting(client) < LIMIT / 2
        got = [json.loads(await received(neighbour)) for _ in range(200)]
        assert await asyncio.wait_for(ended, SECONDS) == [0] * processes
        assert sorted(got) == sorted(list(range(200 // processes)) * processes)
        for _ in range(count):
            assert len(await received(target)) == size
    assert "closed" not in redis.log  # "... for overcoming of output buffer limits"
    assert "is lost" not in server.log
