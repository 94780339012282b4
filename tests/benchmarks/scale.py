"""What thousands of connections cost, as a curve: ``python -m tests.benchmarks.scale``.

Every row is a server of its own, which lives once: clients come all at once, idle, are sent to, and
the server ends by SIGTERM. Nothing is compared with another row's machine: the clock stands beside
the processor time, which is what docs/topics/scaling.md reckons with.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.crowd import AT_ONCE, DEADLINE, MESSAGE, Figures
from tests.benchmarks.processes import Cores, pinned
from tests.benchmarks.report import aligned, environment
from tests.benchmarks.targets import Target
from tests.servers import ALL_SERVERS, ROOT, RedisServer

SIZES = (1000, 4000, 8000)


@dataclass(frozen=True)
class Shape:
    """How it is deployed; without a Redis, over the local layer."""

    target: Target
    redis: int

    @property
    def title(self) -> str:
        return ("local", "1 Redis", "2 Redis")[self.redis]


# What `make bench` measures.
PUBLISHED = tuple(
    Shape(Target("picows", "ours", "pubsub" if redis else "local", workers), redis)
    for workers, redis in ((1, 0), (1, 1), (4, 1))
)


def shapes(servers: list[str]) -> Iterator[Shape]:
    """One process of each server, and of the fast ones several."""
    for name in ALL_SERVERS:
        if name not in servers:
            continue
        for workers in (1,) if name == "daphne" else (1, 4):
            for redis in (0, 1, 2) if name == "picows" else (0, 1):
                yield Shape(Target(name, "ours", "pubsub" if redis else "local", workers), redis)


def run(shape: Shape, number: int, idle_seconds: float, cores: Cores) -> Figures:
    """One life of one server."""
    target = shape.target
    # Several processes take all cores, with the load beside them.
    server_core, load_core = (cores.server, cores.load) if target.workers == 1 else (None, None)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with pinned(load_core):
            brokers = [
                stack.enter_context(RedisServer(log_path=folder / f"redis-{index}.log"))
                for index in range(shape.redis)
            ]
        address = " ".join(broker.url for broker in brokers) or str(folder / "layer")
        server = target.build(folder, address)
        with pinned(server_core):
            stack.enter_context(server)
        arguments = (f"{server.ws_url}/ws", number, idle_seconds, server.pid)
        pids = (broker.pid for broker in brokers)
        with pinned(load_core):
            client = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.benchmarks.crowd"),
                    *map(str, (*arguments, *pids)),
                ],
                env={**os.environ, **server.env, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=4 * DEADLINE,
                check=False,
            )
        if client.returncode:
            raise SystemExit(f"{client.stderr[-5000:]}\n{server.log[-5000:]}")
    return Figures(**json.loads(client.stdout))


def table(found: dict[tuple[Shape, int], Figures]) -> str:
    """A row for each server and number of connections."""
    names = (
        *("server", "layer", "processes", "connections", "refused", "connects/s", "p50 ms"),
        *("p99 ms", "us each", "kB each", "idle CPU", "to all ms", "us each", "end s"),
    )
    rows = [
        (
            *(shape.target.server, shape.title, f"{shape.target.workers}"),
            *(f"{figures.connections}", f"{figures.refused}", f"{figures.rate:,.0f}"),
            *(f"{figures.p50:.0f}", f"{figures.p99:.0f}", f"{figures.handshake_cpu:.0f}"),
            *(f"{figures.memory / 1000:.1f}", f"{figures.idle:.1%}", f"{figures.broadcast:.0f}"),
            *(f"{figures.delivery:.1f}", f"{figures.goodbye:.1f}"),
        )
        for (shape, _), figures in found.items()
    ]
    heading = (
        f"Scale: {AT_ONCE} opening handshakes at once, {len(MESSAGE)} bytes to all; processor time "
        "is that of all the server's processes"
    )
    return f"{heading}\n{aligned([names, *rows])}"


def main() -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="default 1000 4000 8000"
    )
    parser.add_argument("--servers", nargs="+", choices=ALL_SERVERS, default=list(ALL_SERVERS))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--idle", type=float, default=5, help="seconds to idle (default 5)")
    options = parser.parse_args()
    cores, found = Cores.choose(), {}
    for shape in shapes(options.servers):
        if shape.target.workers not in options.processes:
            continue
        for number in options.sizes:
            print(f"{shape.target.name}, {shape.title}: {number}", file=sys.stderr, flush=True)
            found[shape, number] = run(shape, number, options.idle, cores)
    print(f"{environment(cores)}\n\n{table(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
