"""The real Panther, and us in process and on both servers, each server started once."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.test import override_settings

from panther_channels.asgi import Application, get_asgi_application
from tests.client import Client, InProcess
from tests.conftest import StartServer
from tests.contracts.applications import django_settings
from tests.contracts.applications.urls import urls
from tests.contracts.scenarios.registry import Scenario
from tests.servers import ALL_SERVERS, ROOT, RedisServer, Server, ServerName

APPLICATIONS = "tests.contracts.applications"
OURS = ("in_process", *ALL_SERVERS)

Play = Callable[[Scenario], Awaitable[object]]
StartContract = Callable[[ServerName], Server]


@cache
def application() -> Application:
    """Made before a scenario: Django sets logging up then, and takes caplog's handler away."""
    return get_asgi_application(urls)


async def play_on(server: Server, scenario: Scenario) -> object:
    """What the client sees of one scenario on one server."""
    async with Client(server, *_options(scenario)) as client:
        return await scenario.play(client)


async def play_in_process(scenario: Scenario) -> object:
    """The same without a server; nothing may be left on the channel layer."""
    names = [name for name in dir(django_settings) if name.startswith("WS_")]
    settings = {name: getattr(django_settings, name) for name in names}
    with override_settings(ROOT_URLCONF=f"{APPLICATIONS}.django_settings", **settings):
        async with InProcess(application(), *_options(scenario)) as client:
            seen = await scenario.play(client)
    layer = get_channel_layer()
    assert isinstance(layer, InMemoryChannelLayer)
    assert (layer.groups, layer.channels) == ({}, {})
    return seen


def _options(scenario: Scenario) -> tuple[dict[str, str], str]:
    return {"X-Run": scenario.name}, scenario.url


@pytest.fixture(params=OURS)
async def ours(
    request: pytest.FixtureRequest, contract_server: StartContract, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Play]:
    """Plays a scenario with our classes: in process, on daphne, on uvicorn."""
    if request.param in ALL_SERVERS:
        server = contract_server(request.param)
        yield lambda scenario: play_on(server, scenario)
    else:
        application()
        channel_layers.backends.clear()  # each test has an event loop of its own
        yield play_in_process
        assert [record for record in caplog.get_records("call") if not _is_meant(record)] == []


def _is_meant(record: logging.LogRecord) -> bool:
    error = record.exc_info and record.exc_info[1]
    text = f"{error} {record.getMessage()}"
    # Users of a token may have other keys than those in the table.
    is_noted = "meant: " in text or "can't be a primary key" in text
    return record.levelno < logging.WARNING or is_noted


@pytest.fixture(scope="session")
def contract_server(redis_server: RedisServer, shared_server: StartServer) -> StartContract:
    """Our side of the contract on the named server."""
    env = {
        "CONTRACT_PACKAGE": "panther_channels",
        "DJANGO_SETTINGS_MODULE": f"{APPLICATIONS}.django_settings",
        "REDIS_PORT": str(redis_server.port),
    }
    return lambda name: shared_server(name, f"{APPLICATIONS}.django_application:app", env=env)


@pytest.fixture(scope="session")
def panther(tmp_path_factory: pytest.TempPathFactory, shared_server: StartServer) -> Iterator[Play]:
    """Asks the real Panther; each scenario is played once per session."""
    folder = tmp_path_factory.mktemp("panther")
    answers: dict[str, object] = {}
    # One of its own: Panther listens on one channel, whatever the database.
    with RedisServer(log_path=folder / "redis.log") as redis:
        env = {
            "CONTRACT_PACKAGE": "panther",
            "PYTHONPATH": str(ROOT),
            "REDIS_PORT": str(redis.port),
        }

        async def ask(scenario: Scenario) -> object:
            if scenario.name not in answers:
                of = {"RUINED_BY": scenario.name} if scenario.ruins_panther else {}
                server = shared_server(
                    "uvicorn",
                    f"{APPLICATIONS}.panther_application:app",
                    env={**env, **of},
                    cwd=folder,  # where it makes a folder "logs"
                )
                answers[scenario.name] = await play_on(server, scenario)
            return answers[scenario.name]

        yield ask
