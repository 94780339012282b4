"""`pytest tests/faults --plain`: what the same tests see of plain Channels, a line for each."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.conftest import GetRedis, StartServer
from tests.faults.plain.run import PlainRun


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="serve plain Channels to tests/faults")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("plain", default=False):
        config.pluginmanager.register(PlainRun(config), "plain")


@pytest.fixture(autouse=True)
def _at_full_speed(unmeasured: None) -> None:
    pass


@pytest.fixture(scope="session")
def plain_run(pytestconfig: pytest.Config) -> PlainRun | None:
    """`None` without --plain, when nothing here does anything."""
    found: PlainRun | None = pytestconfig.pluginmanager.get_plugin("plain")
    return found


@pytest.fixture(autouse=True)
def swapped(request: pytest.FixtureRequest, plain_run: PlainRun | None) -> Iterator[None]:
    with plain_run.of(request.node) if plain_run else nullcontext():
        yield


@pytest.fixture
def start_server(
    start_server: StartServer, get_redis: GetRedis, plain_run: PlainRun | None
) -> Iterator[StartServer]:
    yield from _swapped(start_server, get_redis, plain_run)


@pytest.fixture(scope="session")
def shared_server(
    shared_server: StartServer, get_redis: GetRedis, plain_run: PlainRun | None
) -> Iterator[StartServer]:
    yield from _swapped(shared_server, get_redis, plain_run)


def _swapped(
    start: StartServer, get_redis: GetRedis, plain_run: PlainRun | None
) -> Iterator[StartServer]:
    plain = plain_run and plain_run.instead_of(start, get_redis)
    with plain or nullcontext(start) as started:
        yield started
