"""The client of the outside sends, a process of its own: prints one line of JSON.

It opens connections, has a sender send to them round-robin, and counts what arrives: first as
much as the sender can send, then one message at a time, whose way it times. Every message is
looked at in the end: each must have arrived once, in order.
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import psutil
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.benchmarks.load import DEADLINE, Run
from tests.benchmarks.sender import ARRIVED, BATCH, ONE, STOP

CONNECTIONS = 100
SINGLES = 300

# Seconds in which nothing comes, after which what is missing counts as lost.
_PATIENCE = 5.0


@dataclass
class Delivery:
    """What arrived between two moments, at what cost, and how long one message took."""

    rate: float
    # Microseconds of processor time for each message.
    sender: float
    servers: float
    redis: float
    lost: int
    repeated: int
    disordered: int
    # Milliseconds, 0 where single messages were not sent.
    p50: float
    p99: float
    # Of each process of the server.
    connections: list[int]


class Script:
    """A sender in a process of its own."""

    def __init__(self, application: str, how: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.sender", application, how]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._orders = self._process.stdin.fileno()
        self.pid = self._process.pid

    def order(self, orders: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # a sync one ends when all is sent
            os.write(self._orders, orders)

    def check(self) -> None:
        """Raises an exception if the script has ended by itself."""
        if code := self._process.poll():
            raise RuntimeError(f"The sender ended with {code}.")

    async def begin(self, ids: list[str]) -> None:
        self.order(json.dumps(ids).encode() + b"\n")

    async def sent(self) -> int:
        """How many it sent; it says so when it was told to stop."""
        assert self._process.stdout is not None
        return int(await asyncio.to_thread(self._process.stdout.readline))

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()


class Inside(WSListener):
    """A sender in one of the server's processes, which a connection gives its orders."""

    pid = 0  # its time is the server's
    _transport: WSTransport

    def __init__(self, url: str) -> None:
        self._url = url
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._answer.set_result(int(frame.get_payload_as_ascii_text()))
        else:
            transport.disconnect()

    def check(self) -> None:
        """Nothing here: it ends with its server, which closes the client's connections."""

    def order(self, orders: bytes) -> None:
        self._transport.send(WSMsgType.BINARY, orders)

    async def begin(self, ids: list[str]) -> None:
        self._transport, _listener = await ws_connect(lambda: self, self._url)
        self._transport.send(WSMsgType.TEXT, json.dumps(ids).encode())

    async def sent(self) -> int:
        return await self._answer

    def end(self) -> None:
        self._transport.disconnect()


class Client(Run):
    """All connections, and what came over them."""

    def __init__(self, order: Callable[[bytes], object]) -> None:
        super().__init__()
        self.order = order
        self.awaited = b""
        self.arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(self, text: bytes) -> None:
        self.count += 1
        if self.awaited:
            # Not what was counted as lost, and came after all.
            if text.startswith(self.awaited) and not self.arrived.done():
                self.arrived.set_result(text)
        elif self.count % BATCH == 0:
            self.order(ARRIVED)

    async def wait_for(self, count: int) -> None:
        """Waits until so many have come, for as long as any come."""
        before = -1
        while before < self.count < count:
            before = self.count
            for _ in range(100):
                if self.count < count:
                    await self.wait(_PATIENCE / 100)


class Connection(WSListener):
    """One connection: the server's first message names it, the others are the sender's."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.received: list[bytes] = []
        self.named: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.process = self.id = ""
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            self._client.fail(f"Not a message: {frame}")
            transport.disconnect()
            return
        text = frame.get_payload_as_bytes()
        if self.named.done():
            self.received.append(text)
            self._client.take(text)
        else:
            self.process, self.id = text.decode().split()
            self.named.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._client.running:
            self._client.fail("The server closed a connection.")


class Costs:
    """The processor time of everything that takes part."""

    def __init__(self, server_pid: int, *others: int) -> None:
        server = psutil.Process(server_pid)
        self._groups = [[psutil.Process(pid)] if pid else [] for pid in others]
        self._groups.insert(0, [server, *server.children(recursive=True)])

    def read(self) -> list[float]:
        spent = [sum(sum(item.cpu_times()[:2]) for item in group) for group in self._groups]
        return [time.perf_counter(), *spent]


async def measure(
    url: str, sender: Script | Inside, pids: tuple[int, int], times: list[float], singles: int
) -> Delivery:
    client = Client(sender.order)
    connections = [await _open(url, client) for _ in range(CONNECTIONS)]
    await sender.begin([connection.id for connection in connections])
    async with asyncio.timeout(DEADLINE):  # a script takes its time to start
        while not client.count:
            await client.wait(0.01)
            sender.check()
    warm_up, seconds = times
    await client.wait(warm_up)
    costs = Costs(*pids, sender.pid)
    before, count = costs.read(), client.count
    await client.wait(seconds)
    after, count = costs.read(), client.count - count
    sender.order(STOP)
    sent = await sender.sent()
    await client.wait_for(sent)
    numbers = [[int(text[:9]) for text in connection.received] for connection in connections]
    latencies = [await _single(client, sent + number) for number in range(singles)] or [0.0]
    await client.close(connection.transport for connection in connections)
    elapsed, *spent = (later - earlier for earlier, later in zip(before, after, strict=True))
    servers, redis, script = (1_000_000 * seconds / max(count, 1) for seconds in spent)
    arrived = sum(len(set(of_one)) for of_one in numbers)
    return Delivery(
        rate=count / elapsed,
        sender=script,
        servers=servers,
        redis=redis,
        lost=sent - arrived,
        repeated=sum(map(len, numbers)) - arrived,
        disordered=sum(b < a for of_one in numbers for a, b in pairwise(of_one)),
        p50=statistics.median(latencies),
        p99=statistics.quantiles(latencies, n=100)[98] if singles else 0.0,
        connections=sorted(Counter(connection.process for connection in connections).values()),
    )


async def _open(url: str, client: Client) -> Connection:
    _transport, connection = await ws_connect(lambda: Connection(client), url)
    assert isinstance(connection, Connection)
    await connection.named
    return connection


async def _single(client: Client, number: int) -> float:
    """Milliseconds from just before the send of one message to its arrival."""
    client.awaited = f"{number:09d}".encode()
    client.arrived = asyncio.get_running_loop().create_future()
    client.order(ONE)
    async with asyncio.timeout(DEADLINE):
        text = await client.arrived
    return (time.monotonic_ns() - int(text[10:30])) / 1_000_000


async def main() -> None:
    url, application, how, server_pid, redis_pid, *times = sys.argv[1:]
    sender: Script | Inside
    if how == "inside":
        sender = Inside(url.replace("/outside", "/sender"))
    else:
        sender = Script(application, how)
    pids, singles = (int(server_pid), int(redis_pid)), 0 if how == "sync" else SINGLES
    try:
        delivery = await measure(url, sender, pids, [float(time) for time in times], singles)
    finally:
        sender.end()
    print(json.dumps(vars(delivery)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
