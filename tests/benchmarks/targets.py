"""What is measured: the applications and the servers that run them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT, Process, Server, ServerName

TITLES = {
    "raw": "raw ASGI application",
    "ours": "GenericWebsocket",
    "channels": "bare Channels",
    "panther": "Panther, log off",
    "panther-default": "Panther as it comes",
}

_MODULES = {
    "raw": "raw",
    "ours": "generic_websocket",
    "channels": "bare_channels",
    "panther": "panther_quiet",
    "panther-default": "panther_echo",
}
# The same for every application: no access log, no log lines below WARNING.
_QUIET = {
    "daphne": ("--verbosity", "0"),
    "uvicorn": ("--no-access-log", "--log-level", "warning"),
}


@dataclass(frozen=True)
class Target:
    """One application on one server, with or without Redis pub/sub as its channel layer."""

    server: ServerName
    application: str
    redis: bool = False

    @property
    def title(self) -> str:
        title = TITLES[self.application]
        return f"{title}, Redis pub/sub" if self.redis else title

    @property
    def raw(self) -> "Target":
        """What this one is compared with."""
        return Target(self.server, "raw")

    def build(self, folder: Path, redis_url: str) -> Server:
        """The server, not started; its log and its working directory are in the folder."""
        name = "-".join([self.server, self.application, *(["redis"] if self.redis else [])])
        env = {
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            # Alone in our own rows: in those of Channels daphne stays as it comes.
            "BENCHMARK_APPS": "panther_channels" if self.application == "ours" else "",
            "BENCHMARK_REDIS_URL": redis_url if self.redis else "",
        }
        return Server(
            self.server,
            f"tests.benchmarks.applications.{_MODULES[self.application]}:application",
            log_path=folder / f"{name}.log",
            env=env,
            args=_QUIET[self.server],
            # Panther makes a folder for its logs wherever it is started.
            cwd=folder,
        )


class PicowsServer(Process):
    """An echo server that is faster than the load client."""

    def __init__(self, folder: Path) -> None:
        command = (sys.executable, "-m", "tests.benchmarks.applications.picows_server")
        super().__init__(command, log_path=folder / "picows.log")

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        return self.port != 0


@dataclass(frozen=True)
class Cores:
    """The cores that servers and load get, or `None` where the system can't pin processes."""

    server: int | None
    load: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """The first two that this process may use."""
        if not hasattr(os, "sched_setaffinity"):
            return cls(None, None)
        available = sorted(os.sched_getaffinity(0))
        return cls(available[0], available[1]) if len(available) > 1 else cls(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes that are started in here run on this core, with all their threads."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
