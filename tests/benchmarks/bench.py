"""The servers of one run, and one window of load on one of them."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.benchmarks.load import Window
from tests.benchmarks.outside import Delivery
from tests.benchmarks.processes import Cores, PicowsServer, pinned
from tests.benchmarks.reach import Figures
from tests.benchmarks.targets import Target
from tests.servers import ROOT, Process, RedisServer, Server

WARM_UP = 0.2


class Bench:
    """All servers, which end with the stack.

    Args:
        stack: of the run.
        folder: for their logs, and whatever else they write.
        cores: which the servers get, and which the load.
    """

    def __init__(self, stack: contextlib.ExitStack, folder: Path, cores: Cores) -> None:
        self._stack = stack
        self._folder = folder
        self._cores = cores
        self._redis: dict[Target, RedisServer] = {}
        self._servers: dict[Target, Server] = {}

    def start(self, targets: Iterable[Target]) -> None:
        for target in targets:
            if target.has_redis:
                # One each: whatever is sent by a Redis goes to all Panthers that are on it.
                redis = RedisServer(log_path=self._folder / f"{target.name}-redis.log")
                with pinned(self._cores.load):
                    self._redis[target] = self._stack.enter_context(redis)
            server = target.build(self._folder, self._address(target))
            with pinned(self._cores.server):
                self._servers[target] = self._stack.enter_context(server)

    def window(self, kind: str, target: Target, seconds: float) -> Window:
        """Echoes or connects."""
        server = self._servers[target.served]
        return Window(
            **self._load(server, "load", kind, target.url(server), server.pid, WARM_UP, seconds)
        )

    def paced(self, target: Target, rate: float, seconds: float) -> dict[str, float]:
        """Latencies of echoes at a given rate."""
        server = self._servers[target]
        found = self._load(server, "paced", target.url(server), rate, WARM_UP, seconds)
        return dict(found)

    def delivery(self, target: Target, seconds: float) -> Delivery:
        """Outside sends."""
        server = self._servers[target.served]
        redis = self._redis.get(target.served)
        how = "inside" if target.layer == "manager" else target.how
        what = ("outside", f"{server.ws_url}/outside", target.application, how)
        pids = (server.pid, redis.pid if redis else 0)
        return Delivery(**self._load(server, *what, *pids, WARM_UP, seconds))

    def memory(self, target: Target) -> float:
        """Bytes of an idle connection; only once of each server, since freed memory stays its."""
        server = self._servers[target]
        url = f"{server.ws_url}/ws"
        return float(self._load(server, "load", "memory", url, server.pid, 0, 0))

    def reach(self, target: Target) -> Figures:
        """Confirmed sends, groups and lists; once, since it opens thousands of connections."""
        server = self._servers[target]
        found: Figures = self._load(server, "reach", server.ws_url, target.workers)
        return found

    def ceiling(self, seconds: float) -> Window:
        """The echoes that the load client can drive."""
        with contextlib.ExitStack() as stack:
            with pinned(self._cores.server):
                server = stack.enter_context(PicowsServer(self._folder))
            arguments = ("load", "echo", f"ws://{server.host}:{server.port}", server.pid)
            windows = [Window(**self._load(server, *arguments, WARM_UP, seconds)) for _ in range(3)]
        return max(windows, key=lambda window: window.rate)

    def _address(self, target: Target) -> str:
        """Of the target's channel layer."""
        if target.has_redis:
            return self._redis[target].url
        return str(self._folder / target.name) if target.layer == "local" else ""

    def _load(self, server: Process, module: str, *arguments: object) -> Any:
        with pinned(self._cores.load):
            client = subprocess.run(
                [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)],
                # A sender has the settings and the channel layer of its server.
                env={**os.environ, **server.env, "PYTHONPATH": str(ROOT)},
                cwd=self._folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        if client.returncode:
            logs = f"{client.stderr[-5000:]}\n{server.log[-5000:]}"
            raise SystemExit(f"{' '.join(server.command)}\n{logs}")
        return json.loads(client.stdout)
