"""Visitors that come, talk and go, while Redis restarts: for as long as SOAK_SECONDS says.

One daphne and one uvicorn share a Redis. Visitors echo and are sent to from outside; they leave by
a close, by a reset, or in the middle of the handshake. Every message must arrive that was sent
while Redis was there, and at the end the servers must hold no more than at the beginning.
"""

import asyncio
import os
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil
import pytest
from django.test import override_settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from panther_channels.websocket import send_message_to_websocket
from tests.conftest import StartRedis, StartServer
from tests.servers import SERVER_NAMES, RedisServer, Server

SECONDS = float(os.environ.get("SOAK_SECONDS", "40"))
VISITORS = int(os.environ.get("SOAK_VISITORS", "100"))
BETWEEN = max(12.0, SECONDS / 10)  # seconds between two restarts of Redis
PATIENCE = 20.0  # seconds for what must come
AFTERMATH = 2.5  # seconds after Redis is back in which messages may be lost yet
THINKING = 4.0  # seconds at most between two messages of a visitor


pytestmark = [pytest.mark.faults, pytest.mark.timeout(SECONDS + 120)]


@dataclass
class Outages:
    """When Redis was away."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def cover(self, moment: float) -> bool:
        """Whether a message of this moment may be lost."""
        ends = [*self.ended, *([float("inf")] if len(self.began) > len(self.ended) else [])]
        return any(
            start - 0.5 <= moment <= end + AFTERMATH
            for start, end in zip(self.began, ends, strict=True)
        )


@dataclass
class Report:
    """What happened."""

    visits: int = 0
    refused: int = 0
    echoes: int = 0
    sent: int = 0
    excused: int = 0
    failures: list[str] = field(default_factory=list)


class Soak:
    """The visitors and the sender.

    Args:
        urls: where the servers are.
        seed: of all chance.
    """

    def __init__(self, urls: list[str], seed: int) -> None:
        self.outages = Outages()
        self.report = Report()
        self._urls = urls
        self._random = random.Random(seed)
        self._expected: dict[str, dict[str, float]] = {}  # by connection: message, when sent
        self._excused: set[str] = set()  # which may arrive all the same, once
        self._is_over = False

    async def visit_again_and_again(self) -> None:
        while not self._is_over:
            kind = self._random.choices((self._talk, self._knock), (9, 1))[0]
            began = time.monotonic()
            try:
                await kind(self._random.choice(self._urls))
                self.report.visits += 1
            except (OSError, WebSocketException, TimeoutError) as error:
                if self.outages.cover(began) or self.outages.cover(time.monotonic()):
                    self.report.refused += 1
                else:
                    self.report.failures.append(f"{kind.__name__}: {error!r}")
                await asyncio.sleep(0.2)

    async def send_from_outside(self, every: float) -> None:
        number = 0
        while not self._is_over:
            await asyncio.sleep(every)
            if not self._expected:
                continue
            connection_id = self._random.choice(list(self._expected))
            number += 1
            message, now = f"outside {number}", time.monotonic()
            self._expected[connection_id][message] = now
            try:
                await send_message_to_websocket(connection_id, message)
                self.report.sent += 1
            except Exception as error:  # noqa: BLE001 - whatever Redis' client raises
                self._expected.get(connection_id, {}).pop(message, None)
                self._excused.add(message)
                if not self.outages.cover(now):
                    self.report.failures.append(f"send: {error!r}")

    async def restart(self, redis: RedisServer) -> None:
        self.outages.began.append(time.monotonic())
        redis.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(redis.start)
        self.outages.ended.append(time.monotonic())

    def end(self) -> None:
        self._is_over = True

    async def _talk(self, url: str) -> None:
        client = await connect(f"{url}/ws/id", open_timeout=PATIENCE, ping_interval=None)
        connection_id = str(await asyncio.wait_for(client.recv(), PATIENCE))
        expected = self._expected[connection_id] = {}
        echoes: asyncio.Queue[str] = asyncio.Queue()
        listening = asyncio.create_task(self._listen(client, expected, echoes))
        try:
            for number in range(self._random.randint(1, 8)):
                await client.send(f"echo {number}")
                assert await asyncio.wait_for(echoes.get(), PATIENCE) == f"echo {number}"
                self.report.echoes += 1
                await asyncio.sleep(0 if self._is_over else self._random.random() * THINKING)
            del self._expected[connection_id]  # nobody sends to it any more
            await self._wait_for(expected)
            await self._leave(client)
        finally:
            self._expected.pop(connection_id, None)
            listening.cancel()
            client.transport.abort()
            await asyncio.wait({listening})

    async def _listen(
        self, client: ClientConnection, expected: dict[str, float], echoes: asyncio.Queue[str]
    ) -> None:
        async for message in client:
            if str(message).startswith("echo"):
                echoes.put_nowait(str(message))
            elif str(message) in self._excused:
                self._excused.remove(str(message))
            elif expected.pop(str(message), None) is None:
                self.report.failures.append(f"twice, or not to this one: {message!r}")

    async def _wait_for(self, expected: dict[str, float]) -> None:
        give_up = time.monotonic() + PATIENCE
        while expected:
            for message, sent in list(expected.items()):
                if self.outages.cover(sent):
                    del expected[message]
                    self._excused.add(message)
                    self.report.excused += 1
                elif time.monotonic() > give_up:
                    self.report.failures.append(f"lost: {message!r}")
                    del expected[message]
            await asyncio.sleep(0.02)

    async def _leave(self, client: ClientConnection) -> None:
        if self._random.random() < 0.5:
            await client.close()
        else:  # by a reset
            found: socket.socket = client.transport.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.abort()

    async def _knock(self, url: str) -> None:
        """Half a handshake."""
        host, _, port = url.removeprefix("ws://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /ws/id HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nSec-Web")
        await writer.drain()
        await asyncio.sleep(self._random.random())
        writer.transport.abort()


class Holdings(NamedTuple):
    """What a server holds."""

    memory: int
    descriptors: int
    tasks: int

    def is_no_more_than(self, before: "Holdings") -> bool:
        """Nothing was left behind; a Redis that came back may have one connection more."""
        return self.tasks <= before.tasks and self.descriptors <= before.descriptors + 2


async def holdings(server: Server) -> Holdings:
    """Memory in bytes, open file descriptors, and tasks, of which one is that of the question."""
    async with connect(f"{server.ws_url}/ws/tasks") as client:
        tasks = int(await asyncio.wait_for(client.recv(), PATIENCE))
    return Holdings(server.memory(), psutil.Process(server.pid).num_fds(), tasks)


async def settled(server: Server, before: Holdings) -> Holdings:
    """What it holds, as soon as that is no more than before, or after a while."""
    give_up = time.monotonic() + PATIENCE
    while not (found := await holdings(server)).is_no_more_than(before):
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(0.2)
    return found


async def soak(servers: list[Server], redis: RedisServer) -> Report:
    """Runs it all, and returns what happened; empty failures are a success."""
    one = Soak([server.ws_url for server in servers], seed=1)
    before = [await holdings(server) for server in servers]
    running = [asyncio.create_task(one.visit_again_and_again()) for _ in range(VISITORS)]
    running.append(asyncio.create_task(one.send_from_outside(0.01)))
    end = time.monotonic() + SECONDS
    await asyncio.sleep(SECONDS / 4)
    warm = [server.memory() for server in servers]
    while time.monotonic() < end - 2 * AFTERMATH:
        await one.restart(redis)
        await asyncio.sleep(min(BETWEEN, end - time.monotonic()))
    one.end()
    await asyncio.gather(*running)
    for server, earlier, memory in zip(servers, before, warm, strict=True):
        found = await settled(server, earlier)
        if found.memory > memory * 1.1 + 30_000_000:  # what is lost at every visit is far more
            one.report.failures.append(f"{server.name}: memory {memory} -> {found.memory}")
        if not found.is_no_more_than(earlier):
            one.report.failures.append(f"{server.name}: {earlier} -> {found}")
    return one.report


async def test_visitors(start_redis: StartRedis, start_server: StartServer):
    redis = start_redis()
    environment = {"REDIS_URL": redis.url}
    servers = [start_server(name, env=environment) for name in SERVER_NAMES]
    layer = {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {"hosts": [redis.url]},
    }
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        report = await soak(servers, redis)
    assert report.failures == []
    assert min(report.visits, report.echoes, report.sent) > 100, report
    assert [server.name for server in servers if "Traceback" in server.log] == []
