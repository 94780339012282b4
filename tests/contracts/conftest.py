"""The real Panther, and us in process and on both servers, each server started once."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.test import override_settings

from panther_channels.asgi import Application, get_asgi_application
from tests.client import Client, InProcess
from tests.contracts.applications import django_settings
from tests.contracts.applications.urls import urls
from tests.contracts.scenarios.registry import Scenario
from tests.servers import ROOT, SERVER_NAMES, RedisServer, Server, ServerName

APPLICATIONS = "tests.contracts.applications"
OURS = ("in_process", *SERVER_NAMES)

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
    if request.param in SERVER_NAMES:
        server = contract_server(request.param)
        yield lambda scenario: play_on(server, scenario)
    else:
        application()
        channel_layers.backends.clear()  # each test has an event loop of its own
        yield play_in_process
        assert [record for record in caplog.get_records("call") if not _is_meant(record)] == []


def _is_meant(record: logging.LogRecord) -> bool:
    error = record.exc_info and record.exc_info[1]
    return record.levelno < logging.WARNING or "meant: " in str(error)


@pytest.fixture(scope="session")
def contract_server(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartContract]:
    """Our side of the contract on the named server."""
    folder: Path = tmp_path_factory.mktemp("contract")
    env = {
        "CONTRACT_PACKAGE": "panther_channels",
        "DJANGO_SETTINGS_MODULE": f"{APPLICATIONS}.django_settings",
        "REDIS_PORT": str(redis_server.port),
    }
    with ExitStack() as running:

        @cache
        def start(name: ServerName) -> Server:
            log_path = folder / f"{name}.log"
            server = Server(
                name, f"{APPLICATIONS}.django_application:app", log_path=log_path, env=env
            )
            return running.enter_context(server)

        yield start


@pytest.fixture(scope="session")
def panther(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Asks the real Panther; each scenario is played once per session."""
    folder = tmp_path_factory.mktemp("panther")
    answers: dict[str, object] = {}
    with ExitStack() as running:
        # One of its own: Panther listens on one channel, whatever the database.
        redis = running.enter_context(RedisServer(log_path=folder / "redis.log"))
        env = {
            "CONTRACT_PACKAGE": "panther",
            "PYTHONPATH": str(ROOT),
            "REDIS_PORT": str(redis.port),
        }

        @cache
        def start(name: str) -> Server:
            server = Server(
                "uvicorn",
                f"{APPLICATIONS}.panther_application:app",
                log_path=folder / f"{name}.log",
                env=env,
                cwd=folder,  # where it makes a folder "logs"
            )
            return running.enter_context(server)

        async def ask(scenario: Scenario) -> object:
            if scenario.name not in answers:
                server = start(scenario.name if scenario.ruins_panther else "panther")
                answers[scenario.name] = await play_on(server, scenario)
            return answers[scenario.name]

        yield ask
