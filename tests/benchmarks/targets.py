"""What is measured: the applications, the servers that run them, and the rows of the tables."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.load import WORDS
from tests.benchmarks.processes import GunicornServer, PeerServer
from tests.servers import ALL_SERVERS, ROOT, SERVER_NAMES, Server, ServerName

TITLES = {
    "raw": "raw ASGI application",
    "ours": "GenericWebsocket",
    "channels": "bare Channels",
    "panther": "Panther, log off",
    "panther-default": "Panther as it comes",
}
# What else there is; where it isn't installed, its row is missing.
PEERS = {
    "starlette": "Starlette",
    "chanx": "chanx",
    "socketio": "python-socketio",
    "webrockets": "webrockets",
    "webrockets-async": "webrockets, async handlers",
    "bolt": "django-bolt",
}
TITLES |= PEERS
_MODULES = {"bolt": "django_bolt"}

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
    **dict.fromkeys(["uvicorn", "picows"], ("--no-access-log", "--log-level", "warning")),
    "gunicorn": ("--log-level", "warning"),
    "own": (),
}

_APPS = {
    "ours": "panther_channels",
    "bolt": "django_bolt",
    "chanx": "rest_framework chanx.channels",
}

SERVERS = (*ALL_SERVERS, "gunicorn", "own")


@dataclass(frozen=True)
class Target:
    """One application on one server.

    Attributes:
        server: its name; gunicorn has uvicorn's workers, made by fork, and picows is uvicorn with
            our own protocol, and own is a peer that is its own server.
        application: a key of TITLES.
        layer: how outside sends come in, a key of LAYERS; empty for not at all.
        workers: how many processes serve.
        how: how a plain script sends to it: "async" or "sync".
    """

    server: Literal[ServerName, "gunicorn", "own"]
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
        server = "uvicorn" if self.server in ("picows", "own") else self.server
        channels = Target(server, "channels", "pubsub")
        return {
            "outside": Target("uvicorn", "panther", "pubsub", self.workers),
            "sync": replace(channels, how="sync"),
            "memory": channels,
        }.get(kind, Target(server, "raw"))

    @property
    def name(self) -> str:
        """For the names of files."""
        return "-".join(
            filter(None, [self.server, self.application, self.layer, f"{self.workers}"])
        )

    def url(self, server: Server) -> str:
        """Where its echo is."""
        query = "/?EIO=4&transport=websocket" if self.application == "socketio" else ""
        return f"{server.ws_url}/ws{query}"

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
            "BENCHMARK_APPS": _APPS.get(self.application, ""),
            "BENCHMARK_QUIET": "1" if self.application == "panther" else "",
            "BENCHMARK_LAYER": self.layer,
            "BENCHMARK_ADDRESS": address,
            "BENCHMARK_PROTOCOL": self.application
            if self.application in WORDS
            else {"own": "own"}.get(self.server, ""),
        }
        # In the folder, since Panther makes one for its logs wherever it is started.
        options: Any = {"log_path": folder / f"{self.name}.log", "env": env, "cwd": folder}
        if self.server == "gunicorn":
            return GunicornServer(application, args=args, **options)
        if self.application == "bolt":
            # Its command stands in a project's manage.py.
            return PeerServer(
                *("-m", "django", "runbolt", "--host", "127.0.0.1", "--port", "{port}"), **options
            )
        if self.server == "own":
            how = "async" if self.application.endswith("-async") else "sync"
            script = "tests.benchmarks.applications.webrockets"
            return PeerServer("-m", script, "{port}", how, **options)
        return Server(self.server, application, args=args, **options)


def _outside(workers: int) -> Iterable[Target]:
    for server in SERVER_NAMES if workers == 1 else ("uvicorn",):
        for layer in ("local", "pubsub", "core"):
            yield Target(server, "ours", layer, workers)
        yield Target(server, "channels", "pubsub", workers)
    yield Target("uvicorn", "panther", "pubsub", workers)
    yield Target("gunicorn", "panther", "manager", workers)


def _peers() -> Iterable[Target]:
    for application in PEERS:
        name = application.partition("-")[0]
        if find_spec(_MODULES.get(name, name)) is not None:
            yield Target("own" if name in ("webrockets", "bolt") else "uvicorn", application)


def _layered(*pairs: str) -> Iterable[Target]:
    """On each server the same: applications, with a layer after a colon."""
    for server in ALL_SERVERS:
        for application, _, layer in (pair.partition(":") for pair in pairs):
            yield Target(server, application, layer)


ROWS: dict[str, tuple[Target, ...]] = {
    "memory": tuple(_layered("ours", "ours:local", "ours:pubsub", "channels:pubsub")),
    "echo": (
        *(Target("daphne", application) for application in ("raw", "ours", "channels")),
        *(Target("uvicorn", application) for application in TITLES if application not in PEERS),
        *(Target("picows", application) for application in ("raw", "ours")),
        *_peers(),
    ),
    "connects": (
        *_layered("raw", "ours", "ours:local", "ours:pubsub", "channels", "channels:pubsub"),
        Target("uvicorn", "panther"),
        *(target for target in _peers() if target.application != "socketio"),
    ),
    "outside": (*_outside(1), *_outside(4)),
    "sync": tuple(
        Target("uvicorn", application, layer, how="sync")
        for layer in ("local", "pubsub")
        for application in ("ours", "channels")
    ),
    "reach": tuple(
        Target("uvicorn", "ours", layer, workers)
        for layer in ("local", "pubsub")
        for workers in (1, 4)
    ),
}


# Whose latency is measured, at which rates, and at how many milliseconds it stops.
PACED = (
    *(Target(server, "ours") for server in ("picows", "uvicorn", "daphne")),
    Target("uvicorn", "raw"),
    Target("daphne", "channels"),
    Target("uvicorn", "panther"),
)
RATES = (1000, 3000, 10_000, 20_000, 40_000)
OVERLOADED = 250


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
