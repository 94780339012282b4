"""The client of the scale, a process of its own: many connections, and what they cost a server.

It opens them all as fast as the server takes them, lets them idle, sends one message to all of
them over the channel layer, and has the server end. Prints one line of JSON.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass

import django
import psutil
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from panther_channels.connections import send_message_to_all

# Opening handshakes under way, as after the restart of a server behind a proxy.
AT_ONCE = 500
BROADCASTS = 5
MESSAGE = "0123456789" * 10
DEADLINE = 120.0


@dataclass
class Figures:
    """What was found at one number of connections.

    Attributes:
        connections: how many were open.
        refused: how many were not let in.
        rate: opening handshakes a second.
        p50: milliseconds from the first packet to the answer.
        p99: the same of the slowest hundredth.
        handshake_cpu: microseconds of all the server's processes for one.
        memory: bytes of the server's processes for one idle connection.
        idle: processor time a second, while nothing is sent; 0.01 is a hundredth of a core.
        broadcast: milliseconds from the send until the last one has the message.
        delivery: microseconds of the server's processes for one of them.
        redis: microseconds of the Redis servers for one handshake.
        goodbye: seconds from SIGTERM until all are closed and the server has ended.
    """

    connections: int
    refused: int
    rate: float
    p50: float
    p99: float
    handshake_cpu: float
    memory: float
    idle: float
    broadcast: float
    delivery: float
    redis: float
    goodbye: float


class Crowd:
    """All clients."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._places = asyncio.Semaphore(AT_ONCE)
        self.latencies: list[float] = []
        self.refused = self.received = 0
        self.has_all = asyncio.Event()
        self.closed = asyncio.Event()
        self.open: set[WSTransport] = set()

    async def come(self) -> None:
        async with self._places:
            began = time.perf_counter()
            try:
                transport, _ = await ws_connect(lambda: Client(self), self._url)
            except Exception:  # noqa: BLE001 - whatever it was, it is counted
                self.refused += 1
                return
            self.latencies.append(1000 * (time.perf_counter() - began))
            self.open.add(transport)

    def take(self) -> None:
        self.received += 1
        if self.received >= len(self.open):
            self.has_all.set()

    def leave(self, transport: WSTransport) -> None:
        self.open.discard(transport)
        if not self.open:
            self.closed.set()


class Client(WSListener):
    """One of them."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._crowd.take()
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._crowd.leave(transport)


class Processes:
    """The server with its workers, or the Redis servers."""

    def __init__(self, *pids: int) -> None:
        first = [psutil.Process(pid) for pid in pids]
        self._all = first + [child for each in first for child in each.children(recursive=True)]

    def cpu(self) -> float:
        return float(sum(sum(each.cpu_times()[:2]) for each in self._all))

    def memory(self) -> int:
        return int(sum(each.memory_info().rss for each in self._all))


async def measure(
    url: str, number: int, idle_seconds: float, server_pid: int, *redis_pids: int
) -> Figures:
    """Takes the server through its whole life, and ends it."""
    server, redis = Processes(server_pid), Processes(*redis_pids)
    warm = Crowd(url)
    await asyncio.gather(*(warm.come() for _ in range(100)))  # servers load some things late
    await _broadcast(warm)
    crowd, memory = Crowd(url), server.memory()
    before, of_redis, began = server.cpu(), redis.cpu(), time.perf_counter()
    await asyncio.gather(*(crowd.come() for _ in range(number)))
    elapsed = time.perf_counter() - began
    handshakes, of_redis = server.cpu() - before, redis.cpu() - of_redis
    came = len(crowd.open)
    memory = server.memory() - memory
    before = server.cpu()
    await asyncio.sleep(idle_seconds)
    idle = (server.cpu() - before) / idle_seconds
    before = server.cpu()
    broadcasts = [await _broadcast(crowd, warm) for _ in range(BROADCASTS)]
    delivery = (server.cpu() - before) / BROADCASTS / (came + len(warm.open))
    began = time.perf_counter()
    psutil.Process(server_pid).terminate()
    async with asyncio.timeout(DEADLINE):
        await crowd.closed.wait()
        while _is_running(server_pid):  # noqa: ASYNC110 - no event tells of another's child
            await asyncio.sleep(0.01)
    return Figures(
        connections=came,
        refused=crowd.refused,
        rate=came / elapsed,
        p50=statistics.median(crowd.latencies),
        p99=statistics.quantiles(crowd.latencies, n=100)[98],
        handshake_cpu=1e6 * handshakes / came,
        memory=memory / came,
        idle=idle,
        broadcast=statistics.median(broadcasts),
        delivery=1e6 * delivery,
        redis=1e6 * of_redis / came,
        goodbye=time.perf_counter() - began,
    )


async def _broadcast(*crowds: Crowd) -> float:
    for crowd in crowds:
        crowd.received = 0
        crowd.has_all.clear()
    began = time.perf_counter()
    async with asyncio.timeout(DEADLINE):
        await send_message_to_all(MESSAGE)
        for crowd in crowds:
            await crowd.has_all.wait()
    return 1000 * (time.perf_counter() - began)


def _is_running(pid: int) -> bool:
    """A process whose parent has not asked for it is there, but has ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def main() -> None:
    url, number, idle_seconds, *pids = sys.argv[1:]
    figures = await measure(url, int(number), float(idle_seconds), *map(int, pids))
    print(json.dumps(vars(figures)), flush=True)
    os._exit(0)  # nothing of thousands of connections has to be tidied up


if __name__ == "__main__":
    django.setup()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
