"""The real Panther, and us in process and on both servers, each server started once."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.test import override_settings

from panther_channels.asgi import get_asgi_application
from tests.client import Client, InProcess
from tests.contracts.applications import django_settings
from tests.contracts.scenarios.registry import Scenario
from tests.servers import ROOT, SERVER_NAMES, RedisServer, Server, ServerName

APPLICATIONS = "tests.contracts.applications"
OURS = ("in_process", *SERVER_NAMES)

Play = Callable[[Scenario], Awaitable[object]]
StartContract = Callable[[ServerName], Server]


async def play_on(server: Server, scenario: Scenario) -> object:
    """What the client sees of one scenario on one server."""
    async with Client(server, *_options(scenario)) as client:
        return await scenario.play(client)


async def play_in_process(scenario: Scenario) -> object:
    """The same without a server; nothing may be left on the channel layer."""
    names = [name for name in dir(django_settings) if name.startswith("WS_")]
    settings = {name: getattr(django_settings, name) for name in names}
    with override_settings(ROOT_URLCONF=f"{APPLICATIONS}.django_settings", **settings):
        async with InProcess(
            get_asgi_application(), {"X-Run": scenario.name}, scenario.url
        ) as client:
            seen = await scenario.play(client)
    layer = get_channel_layer()
    assert isinstance(layer, InMemoryChannelLayer)
    assert (layer.groups, layer.channels) == ({}, {})
    return seen


def _options(scenario: Scenario) -> tuple[dict[str, str], str]:
    return {"X-Run": scenario.name}, scenario.url


@pytest.fixture(params=OURS)
async def ours(
    request: pytest.FixtureRequest, contract_server: StartContract
) -> AsyncIterator[Play]:
    """Plays a scenario with our classes: in process, on daphne, on uvicorn."""
    if request.param in SERVER_NAMES:
        server = contract_server(request.param)
        yield lambda scenario: play_on(server, scenario)
    else:
        channel_layers.backends.clear()  # each test has an event loop of its own
        yield play_in_process


@pytest.fixture(scope="session")
def panther_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server of Panther's own: it listens on one channel, whatever the database."""
    with RedisServer(log_path=tmp_path_factory.mktemp("panther-redis") / "redis.log") as server:
        yield server


@pytest.fixture(scope="session")
def panther(panther_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Asks the real Panther; each scenario is played once per session."""
    folder = tmp_path_factory.mktemp("panther")
    answers: dict[str, object] = {}

    def start(number: int) -> Server:
        return Server(
            "uvicorn",
            f"{APPLICATIONS}.panther_application:app",
            log_path=folder / f"panther-{number}.log",
            env={
                "CONTRACT_PACKAGE": "panther",
                "PYTHONPATH": str(ROOT),
                "REDIS_PORT": str(panther_redis.port),
            },
            # Panther makes a folder "logs" where it is started.
            cwd=folder,
        )

    with ExitStack() as running:
        shared: list[Server] = []

        async def ask(scenario: Scenario) -> object:
            if scenario.name not in answers:
                if scenario.ruins_panther:
                    with start(2) as own:
                        answers[scenario.name] = await play_on(own, scenario)
                else:
                    if not shared:
                        shared.append(running.enter_context(start(1)))
                    answers[scenario.name] = await play_on(shared[0], scenario)
            return answers[scenario.name]

        yield ask


@pytest.fixture(scope="session")
def contract_server(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartContract]:
    """Our side of the contract on the named server."""
    folder: Path = tmp_path_factory.mktemp("contract")
    servers: dict[str, Server] = {}
    with ExitStack() as running:

        def start(name: ServerName) -> Server:
            if name not in servers:
                server = Server(
                    name,
                    f"{APPLICATIONS}.django_application:app",
                    log_path=folder / f"{name}.log",
                    env={
                        "CONTRACT_PACKAGE": "panther_channels",
                        "DJANGO_SETTINGS_MODULE": f"{APPLICATIONS}.django_settings",
                        "REDIS_PORT": str(redis_server.port),
                    },
                )
                servers[name] = running.enter_context(server)
            return servers[name]

        yield start
