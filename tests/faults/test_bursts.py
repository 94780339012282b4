"""Large bursts over Redis pub/sub: Redis cuts no process off, and nobody's messages are lost."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.broker import Broker
from tests.conftest import StartServer
from tests.faults.test_flow import SENDER
from tests.servers import ROOT, Server, ServerName, misbehaving, suspended
from tests.waiting import until

pytestmark = pytest.mark.faults

SECONDS = 40.0
LIMIT = 32_000_000  # for which Redis cuts a subscriber off


@pytest.fixture
def server(server_name: ServerName, start_server: StartServer, broker: Broker) -> Server:
    env = misbehaving(WS_MAX_SEND_BUFFER=1_000_000_000)  # the client is not what is slow
    return start_server(server_name, env={**env, "REDIS_URL": broker.url})


@pytest.fixture
def senders(broker: Broker) -> Iterator[Any]:
    """Starts processes that send a burst; what is left of them is killed."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.project.settings"}
        command = [sys.executable, "-c", SENDER, *map(str, arguments)]
        running.append(subprocess.Popen(command, cwd=ROOT, env={**env, "REDIS_URL": broker.url}))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


async def received(client: ClientConnection) -> Any:
    return await asyncio.wait_for(client.recv(), SECONDS)


@pytest.mark.parametrize(("processes", "count", "size"), [(1, 200, 1_000_000), (4, 3200, 62_500)])
async def test_a_process_that_takes_nothing_for_a_while(
    server: Server, broker: Broker, senders: Any, processes: int, count: int, size: int
):
    url = f"{server.ws_url}/id"
    quiet: Any = {"ping_interval": None}  # the server answers none for a while
    async with connect(url, **quiet) as neighbour, connect(url, max_size=None, **quiet) as target:
        ids = await received(target), await received(neighbour)
        with suspended(server):
            burst = [senders(*ids, count // processes, size) for _ in range(processes)]
            await until(lambda: broker.waiting() > 4_000_000, SECONDS)
            ended = asyncio.gather(*(asyncio.to_thread(each.wait) for each in burst))
            await asyncio.wait([ended], timeout=1)
            assert not ended.done()
            assert 4_000_000 < broker.waiting() < LIMIT / 2
        got = [json.loads(await received(neighbour)) for _ in range(200)]
        assert await asyncio.wait_for(ended, SECONDS) == [0] * processes
        assert sorted(got) == sorted(list(range(200 // processes)) * processes)
        for _ in range(count):
            assert len(await received(target)) == size
    assert "closed" not in broker.server.log  # "... for overcoming of output buffer limits"
    assert "is lost" not in server.log
