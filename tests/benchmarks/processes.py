"""Where the servers run: the processes that only the benchmarks have, and the cores."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import Process, Server, free_port


class GunicornServer(Server):
    """gunicorn with uvicorn's workers, forked: what Panther asks for where it has no Redis."""

    def __init__(self, application: str, *, args: Sequence[str], **options: Any) -> None:
        super().__init__("uvicorn", application, **options)
        self.command = (
            *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--preload"),
            *("--worker-class", "uvicorn_worker.UvicornWorker", *args, application),
        )


class PeerServer(Server):
    """A peer that is its own server, which is told a port."""

    def __init__(self, *command: str, **options: Any) -> None:
        super().__init__("uvicorn", "", **options)
        self._chosen_port = free_port()
        self.command = (sys.executable, *(each.format(port=self._chosen_port) for each in command))

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        return self.port == self._chosen_port


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
