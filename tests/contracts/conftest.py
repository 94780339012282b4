"""The real Panther, and us on both servers, each started once."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contracts.client import Client
from tests.contracts.scenarios.registry import Scenario
from tests.servers import ROOT, RedisServer, Server, ServerName

APPLICATIONS = "tests.contracts.applications"

StartContract = Callable[[ServerName], Server]
Panther = Callable[[Scenario], Awaitable[object]]


async def play(server: Server, scenario: Scenario) -> object:
    """What the client sees of one scenario on one server."""
    client = Client(server.host, server.port, scenario.name)
    try:
        return await scenario.play(client)
    finally:
        await client.leave()


@pytest.fixture(scope="session")
def panther_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server of Panther's own: it listens on one channel, whatever the database."""
    with RedisServer(log_path=tmp_path_factory.mktemp("panther-redis") / "redis.log") as server:
        yield server


@pytest.fixture(scope="session")
def panther(
    panther_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Panther]:
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
                        answers[scenario.name] = await play(own, scenario)
                else:
                    if not shared:
                        shared.append(running.enter_context(start(1)))
                    answers[scenario.name] = await play(shared[0], scenario)
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
