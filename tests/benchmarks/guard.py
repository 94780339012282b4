"""Fails when our share of a raw application's speed falls: ``python -m tests.benchmarks.guard``.

Short enough for every change. A share is the processor time that a server needs for a fixed piece
of work, that of a raw ASGI application beside ours on the same server. All servers stay up, the
pieces are small and take turns, and the median of the rounds counts: so a busy machine makes it
slow, but not fail. What is too low is measured a second time, and fails if it is so again.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tests.benchmarks import load
from tests.benchmarks.processes import Cores, pinned
from tests.benchmarks.report import aligned
from tests.benchmarks.targets import Target
from tests.servers import ALL_SERVERS, Server, ServerName

Pair = tuple[str, ServerName]

# By kind and server. Who makes something faster raises them to what this prints.
RECORDED: dict[Pair, float] = {
    ("echo", "daphne"): 2.00,
    ("echo", "uvicorn"): 1.15,
    ("echo", "picows"): 0.88,
    ("connects", "daphne"): 1.18,
    ("connects", "uvicorn"): 0.96,
    ("connects", "picows"): 0.81,
}
# The share of the recorded one below which it fails.
LEAST = 0.8
# How many rounds there are, unless the machine is so busy that they take too long.
ROUNDS, FEWEST, PATIENCE = 15, 5, 15.0
ECHOES, CONNECTS = 1000, 40


class Client(WSListener):
    """All connections to one server, which work in pieces."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._url = f"{server.ws_url}/ws"
        self._transports: list[WSTransport] = []
        self._left = self._awaited = 0
        self._done = asyncio.Event()

    async def open(self) -> None:
        for _ in range(load.CONNECTIONS):
            transport, _listener = await ws_connect(lambda: self, self._url)
            self._transports.append(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT or frame.payload_size != len(load.MESSAGE):
            transport.disconnect()  # so that the deadline tells
            return
        self._awaited -= 1
        if self._left:
            self._left -= 1
            transport.send(WSMsgType.TEXT, load.MESSAGE)
        elif not self._awaited:
            self._done.set()

    async def work(self, kind: str) -> float:
        """Seconds of the server's processor time for an echo, or for a connection."""
        before = _spent(self._server.pid)
        async with asyncio.timeout(load.DEADLINE):
            count = await (self._echo() if kind == "echo" else self._connect())
        return (_spent(self._server.pid) - before) / count

    async def _echo(self) -> int:
        self._done.clear()
        self._awaited, self._left = ECHOES, ECHOES - load.CONNECTIONS * load.IN_FLIGHT
        for transport in self._transports:
            for _ in range(load.IN_FLIGHT):
                transport.send(WSMsgType.TEXT, load.MESSAGE)
        await self._done.wait()
        return ECHOES

    async def _connect(self) -> int:
        run = load.Run()
        handshakes = load.Handshakes(run, self._server.host, self._server.port)
        for _ in range(load.HANDSHAKES_AT_ONCE):
            handshakes.open()
        while run.count < CONNECTS - load.HANDSHAKES_AT_ONCE:
            await run.wait(0.001)
        run.running = False
        await handshakes.idle.wait()
        return (
            run.count + load.HANDSHAKES_AT_ONCE
        )  # the last ones of each client are not in its count


def main() -> int:
    """Returns the exit code."""
    cores = Cores.choose()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[Target, Server] = {}
        with pinned(cores.server):
            for target in [Target(name, of) for name in ALL_SERVERS for of in ("raw", "ours")]:
                servers[target] = stack.enter_context(target.build(folder, ""))
        with pinned(cores.load), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_judge(servers))


async def _judge(servers: dict[Target, Server]) -> int:
    clients = {target: Client(server) for target, server in servers.items()}
    for client in clients.values():
        await client.open()
    await _shares(clients, RECORDED, 1)  # servers load some things late
    shares = await _shares(clients, RECORDED, ROUNDS)
    if slow := _too_low(shares):
        print(f"A second try: {', '.join(' on '.join(pair) for pair in slow)}", flush=True)
        shares |= await _shares(clients, slow, 2 * ROUNDS)
    slow = _too_low(shares)
    rows = [
        (*pair, f"{share:.2f}", f"{RECORDED[pair]:.2f}", "TOO LOW" if pair in slow else "ok")
        for pair, share in shares.items()
    ]
    print(aligned([("ours", "server", "of raw", "recorded", ""), *rows]))
    return 1 if slow else 0


async def _shares(
    clients: dict[Target, Client], pairs: Iterable[Pair], rounds: int
) -> dict[Pair, float]:
    found: dict[Pair, list[float]] = {pair: [] for pair in pairs}
    began = time.monotonic()
    for number in range(rounds):
        if number >= FEWEST and time.monotonic() - began > PATIENCE:
            break
        for (kind, name), shares in found.items():
            # Every second time the other way round, so that a drift of the machine cancels out.
            order = ("raw", "ours")[:: -1 if number % 2 else 1]
            costs = {of: await clients[Target(name, of)].work(kind) for of in order}
            shares.append(costs["raw"] / costs["ours"])
    return {pair: statistics.median(shares) for pair, shares in found.items()}


def _spent(pid: int) -> float:
    """Seconds of processor time, to the nanosecond where the system tells."""
    if sys.platform == "linux":
        return time.clock_gettime(~pid << 3 | 2)  # as in clock_getcpuclockid()
    return sum(psutil.Process(pid).cpu_times()[:2])


def _too_low(shares: dict[Pair, float]) -> list[Pair]:
    return [pair for pair, share in shares.items() if share < LEAST * RECORDED[pair]]


if __name__ == "__main__":
    sys.exit(main())
