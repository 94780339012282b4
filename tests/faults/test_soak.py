"""Visitors that come, talk and go for as long as SOAK_SECONDS says, and nothing is kept of them.

One of each server share a Redis, which restarts meanwhile; test_redis_away.py has what
becomes of messages then. Visitors leave by a close, by a reset, or in the middle of the handshake.
"""

import asyncio
import os
import random
import time
from typing import NamedTuple

import psutil
import pytest
from picows import WSListener, ws_connect
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from panther_channels.exceptions import ChannelLayerError
from panther_channels.websocket import send_message_to_websocket
from tests.broker import Broker
from tests.client import Client
from tests.conftest import StartServer
from tests.layers import close_layer, default_layer, redis_layer
from tests.servers import ALL_SERVERS, Server, ServerName
from tests.waiting import until
from tests.wire import raw_client, request

SECONDS = float(os.environ.get("SOAK_SECONDS", "9"))
VISITORS = int(os.environ.get("SOAK_VISITORS", "60"))
PATIENCE = 20.0  # seconds for what must come
FROZEN = 1000  # objects; a project has tens of thousands, and some Pythons freeze a few themselves
AFTERMATH = 3.0  # seconds after Redis is back in which it may be missed yet

pytestmark = [pytest.mark.faults, pytest.mark.timeout(SECONDS + 120)]


class Visitors:
    """They come again and again."""

    def __init__(self, servers: list[Server]) -> None:
        self.visits = 0
        self.is_over = False
        self.away_until = 0.0
        self._servers = servers
        self._random = random.Random(1)

    async def come(self) -> None:
        while not self.is_over:
            visit = self._random.choices((self._talk, self._knock), (9, 1))[0]
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    await visit(self._random.choice(self._servers))
                self.visits += 1
            except (OSError, WebSocketException, ChannelLayerError):
                if began > self.away_until:
                    raise
                await asyncio.sleep(0.2)

    async def _talk(self, server: Server) -> None:
        client = await connect(f"{server.ws_url}/ws/id", ping_interval=None)
        try:
            connection_id = str(await client.recv())
            for number in range(self._random.randint(1, 8)):
                await client.send(f"echo {number}")
                await send_message_to_websocket(connection_id, f"outside {number}")
                found = {await client.recv(), await client.recv()}
                assert found == {f"echo {number}", f"outside {number}"}
                await asyncio.sleep(self._random.random())
            if self._random.random() < 0.5:
                await client.close()
        finally:
            client.transport.abort()

    async def _knock(self, server: Server) -> None:
        """Half a handshake, and a reset."""
        half = request(b"/ws/id")[:90]
        with raw_client(server, half, is_waiting=False) as client:
            await asyncio.sleep(self._random.random())
            client.reset()


class Holdings(NamedTuple):
    """What a server holds: bytes of memory, open file descriptors, and tasks."""

    memory: int
    descriptors: int
    tasks: int

    def is_no_more_than(self, before: "Holdings") -> bool:
        """Nothing was left behind; a Redis that came back may have one connection more."""
        return self.tasks <= before.tasks and self.descriptors <= before.descriptors + 2


async def holdings(server: Server) -> Holdings:
    async with Client(server) as ask:
        tasks = int(str(await ask.first("/ws/tasks")))  # of which one is that of the question
    return Holdings(server.memory(), psutil.Process(server.pid).num_fds(), tasks)


async def settled(server: Server, before: Holdings) -> Holdings:
    """What it holds, as soon as that is no more than before, or after a while."""
    give_up = time.monotonic() + PATIENCE
    while not (found := await holdings(server)).is_no_more_than(before):
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(0.2)
    return found


async def test_many_are_kept_out_of_garbage_collections(
    start_server: StartServer, server_name: ServerName
):
    server = start_server(server_name)

    async def frozen() -> int:
        async with Client(server) as ask:
            return int(str(await ask.first("/ws/frozen")))

    before = await holdings(server)
    assert await frozen() < FROZEN
    url = f"{server.ws_url}/ws/echo"
    opened = await asyncio.gather(*(ws_connect(WSListener, url) for _ in range(600)))

    async def are_kept_out() -> bool:
        return await frozen() > FROZEN

    await until(are_kept_out)
    for transport, _listener in opened:
        transport.disconnect()

    async def all_are_looked_at() -> bool:
        return await frozen() < FROZEN

    await until(all_are_looked_at)
    assert (await settled(server, before)).is_no_more_than(before)


async def test_visitors(broker: Broker, start_server: StartServer):
    servers = [start_server(name, env={"REDIS_URL": broker.url}) for name in ALL_SERVERS]
    before = [await holdings(server) for server in servers]
    visitors, layer = Visitors(servers), redis_layer("redis", broker.url)
    with default_layer(layer):
        async with asyncio.TaskGroup() as group:
            for _ in range(VISITORS):
                group.create_task(visitors.come())
            await asyncio.sleep(SECONDS / 3)
            warm = [server.memory() for server in servers]
            visitors.away_until = float("inf")
            await asyncio.to_thread(broker.restart)
            visitors.away_until = time.monotonic() + AFTERMATH
            await asyncio.sleep(SECONDS * 2 / 3)
            visitors.is_over = True
        await close_layer(layer)
    assert visitors.visits > 100
    for server, earlier, memory in zip(servers, before, warm, strict=True):
        found = await settled(server, earlier)
        assert found.is_no_more_than(earlier), (server.name, earlier, found)
        assert found.memory < memory * 1.1 + 30_000_000  # what is lost at every visit is far more
        assert "Traceback" not in server.log
