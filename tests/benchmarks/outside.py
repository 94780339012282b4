"""The client of the outside sends, a process of its own: prints one line of JSON.

It opens connections, has a sender send to them round-robin, and counts what arrives: first as
much as the sender can send, then one message at a time, whose way it times. Every message is
looked at in the end: each must have arrived once, in order.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import psutil
import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.benchmarks.sender import ARRIVED, BATCH, ONE, STOP
from tests.benchmarks.senders import DEADLINE, Inside, Script

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
    # As a share of a core.
    client_cpu: float
    lost: int
    repeated: int
    disordered: int
    # Milliseconds, 0 where single messages were not sent.
    p50: float
    p99: float
    # Of each process of the server.
    connections: list[int]


class Client:
    """All connections, and what came over them."""

    def __init__(self, order: Callable[[bytes], object]) -> None:
        self.count = 0
        self.order = order
        self.awaited = b""
        self.arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closing = False

    def take(self, text: bytes) -> None:
        self.count += 1
        if self.awaited:
            # Not what was counted as lost, and came after all.
            if text.startswith(self.awaited) and not self.arrived.done():
                self.arrived.set_result(text)
        elif self.count % BATCH == 0:
            self.order(ARRIVED)

    def fail(self, text: str) -> None:
        if not self.is_closing and not self.failed.done():
            self.failed.set_exception(RuntimeError(text))

    async def wait(self, seconds: float) -> None:
        """Lets the messages come, or raises what it failed of."""
        await asyncio.wait([self.failed], timeout=seconds)
        if self.failed.done():
            self.failed.result()

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
        self._client.fail("The server closed a connection.")


class Costs:
    """The processor time of everything that takes part."""

    def __init__(self, server_pid: int, redis_pid: int, sender_pid: int | None) -> None:
        server = psutil.Process(server_pid)
        self._servers = [server, *server.children(recursive=True)]
        self._redis = [psutil.Process(redis_pid)] if redis_pid else []
        self._sender = [psutil.Process(sender_pid)] if sender_pid else []

    def read(self) -> tuple[float, ...]:
        times = (_seconds(group) for group in (self._sender, self._servers, self._redis))
        return (time.perf_counter(), time.process_time(), *times)


def _seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


async def measure(options: argparse.Namespace, sender: Script | Inside) -> Delivery:
    client = Client(sender.order)
    connections = [await _open(options.url, client) for _ in range(CONNECTIONS)]
    await sender.begin([connection.id for connection in connections])
    async with asyncio.timeout(DEADLINE):  # a script takes its time to start
        while not client.count:
            await client.wait(0.01)
            sender.check()
    await client.wait(options.warm_up)
    costs = Costs(options.server_pid, options.redis_pid, sender.pid)
    before, count = costs.read(), client.count
    await client.wait(options.seconds)
    after, count = costs.read(), client.count - count
    sender.order(STOP)
    sent = await sender.sent()
    await client.wait_for(sent)
    numbers = [[int(text[:9]) for text in connection.received] for connection in connections]
    singles = 0 if options.how == "sync" else SINGLES
    latencies = [await _single(client, sent + number) for number in range(singles)] or [0.0]
    await _close(client, connections)
    elapsed, own, *spent = (later - earlier for earlier, later in zip(before, after, strict=True))
    cost = [1_000_000 * seconds / max(count, 1) for seconds in spent]
    arrived = sum(len(set(of_one)) for of_one in numbers)
    return Delivery(
        rate=count / elapsed,
        sender=cost[0],
        servers=cost[1],
        redis=cost[2],
        client_cpu=own / elapsed,
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


async def _close(client: Client, connections: list[Connection]) -> None:
    client.is_closing = True
    for connection in connections:
        connection.transport.send_close(WSCloseCode.OK)
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(
            *(connection.transport.wait_disconnected() for connection in connections)
        )


async def _single(client: Client, number: int) -> float:
    """Milliseconds from just before the send of one message to its arrival."""
    client.awaited = f"{number:09d}".encode()
    client.arrived = asyncio.get_running_loop().create_future()
    client.order(ONE)
    async with asyncio.timeout(DEADLINE):
        text = await client.arrived
    return (time.monotonic_ns() - int(text[10:30])) / 1_000_000


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("application")
    parser.add_argument("how", choices=["async", "sync", "inside"])
    parser.add_argument("server_pid", type=int)
    parser.add_argument("redis_pid", type=int, help="0 where there is none")
    parser.add_argument("warm_up", type=float)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    sender: Script | Inside
    if options.how == "inside":
        sender = Inside(options.url.replace("/outside", "/sender"))
    else:
        sender = Script(options.application, options.how)
    try:
        delivery = await measure(options, sender)
    finally:
        sender.end()
    print(json.dumps(vars(delivery)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
