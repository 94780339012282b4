"""What is measured: the applications, the servers that run them, and the rows of the tables."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.processes import GunicornServer
from tests.servers import ROOT, SERVER_NAMES, Server, ServerName

TITLES = {
    "raw": "raw ASGI application",
    "ours": "GenericWebsocket",
    "channels": "bare Channels",
    "panther": "Panther, log off",
    "panther-default": "Panther as it comes",
}

LAYERS = {
    "local": "local layer",
    "pubsub": "Redis pub/sub",
    "core": "Redis core",
    "manager": "its manager",
}
REDIS_LAYERS = {"pubsub", "core"}
# The same for every application: no access log, no log lines below WARNING.
_QUIET = {
    "daphne": ("--verbosity", "0"),
    "uvicorn": ("--no-access-log", "--log-level", "warning"),
    "gunicorn": ("--log-level", "warning"),
}


SERVERS = (*SERVER_NAMES, "gunicorn")


@dataclass(frozen=True)
class Target:
    """One application on one server.

    Attributes:
        server: its name; gunicorn has uvicorn's workers, made by fork.
        application: a key of TITLES.
        layer: how outside sends come in, a key of LAYERS; empty for not at all.
        workers: how many processes serve.
        how: how a plain script sends to it: "async" or "sync".
    """

    server: Literal[ServerName, "gunicorn"]
    application: str
    layer: str = ""
    workers: int = 1
    how: Literal["async", "sync"] = "async"

    @property
    def title(self) -> str:
        title = TITLES[self.application]
        return f"{title}, {LAYERS[self.layer]}" if self.layer else title

    @property
    def served(self) -> "Target":
        """What tells one server from another."""
        return replace(self, how="async")

    @property
    def has_redis(self) -> bool:
        return self.layer in REDIS_LAYERS

    def reference(self, kind: str) -> "Target":
        """What this one is compared with."""
        channels = Target(self.server, "channels", "pubsub")
        return {
            "outside": Target("uvicorn", "panther", "pubsub", self.workers),
            "sync": replace(channels, how="sync"),
            "memory": channels,
        }.get(kind, Target(self.server, "raw"))

    @property
    def name(self) -> str:
        """For the names of files."""
        return "-".join(
            filter(None, [self.server, self.application, self.layer, f"{self.workers}"])
        )

    def build(self, folder: Path, address: str) -> Server:
        """The server, not started, which works in a folder; with the address of its layer."""
        args = _QUIET[self.server]
        if self.workers > 1:
            args += ("--workers", str(self.workers))
        application = (
            f"tests.benchmarks.applications.{self.application.partition('-')[0]}:application"
        )
        env = {
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            # Alone in our own rows: in those of Channels daphne stays as it comes.
            "BENCHMARK_APPS": "panther_channels" if self.application == "ours" else "",
            "BENCHMARK_QUIET": "1" if self.application == "panther" else "",
            "BENCHMARK_LAYER": self.layer,
            "BENCHMARK_ADDRESS": address,
        }
        # In the folder, since Panther makes one for its logs wherever it is started.
        options: Any = {"log_path": folder / f"{self.name}.log", "env": env, "cwd": folder}
        if self.server == "gunicorn":
            return GunicornServer(application, args=args, **options)
        return Server(self.server, application, args=args, **options)


def _outside(workers: int) -> Iterable[Target]:
    for server in SERVER_NAMES if workers == 1 else ("uvicorn",):
        for layer in ("local", "pubsub", "core"):
            yield Target(server, "ours", layer, workers)
        yield Target(server, "channels", "pubsub", workers)
    yield Target("uvicorn", "panther", "pubsub", workers)
    yield Target("gunicorn", "panther", "manager", workers)


def _layered(*pairs: str) -> Iterable[Target]:
    """On each server the same: applications, with a layer after a colon."""
    for server in SERVER_NAMES:
        for application, _, layer in (pair.partition(":") for pair in pairs):
            yield Target(server, application, layer)


ROWS: dict[str, tuple[Target, ...]] = {
    "memory": tuple(_layered("ours", "ours:local", "ours:pubsub", "channels:pubsub")),
    "echo": (
        *(Target("daphne", application) for application in ("raw", "ours", "channels")),
        *(Target("uvicorn", application) for application in TITLES),
    ),
    "connects": (
        *_layered("raw", "ours", "ours:local", "ours:pubsub", "channels", "channels:pubsub"),
        Target("uvicorn", "panther"),
    ),
    "outside": (*_outside(1), *_outside(4)),
    "sync": tuple(
        Target("uvicorn", application, layer, how="sync")
        for layer in ("local", "pubsub")
        for application in ("ours", "channels")
    ),
}


def select(only: list[str]) -> dict[str, list[Target]]:
    """The rows of each table that the words name, and always what they are compared with."""
    kinds = _named(only, ROWS)
    servers, applications, layers = (_named(only, all_) for all_ in (SERVERS, TITLES, LAYERS))
    has_redis = shutil.which("redis-server") is not None
    selected: dict[str, list[Target]] = {}
    for kind in kinds:
        wanted = {
            target
            for target in ROWS[kind]
            if target.server in servers and target.application in applications
            if target.layer in layers or not target.layer
        }
        wanted |= {target.reference(kind) for target in wanted}
        there = [target for target in ROWS[kind] if has_redis or not target.has_redis]
        selected[kind] = [target for target in there if target in wanted]
    return selected


def _named(only: list[str], words: Iterable[str]) -> list[str]:
    return [word for word in words if word in only] or list(words)
