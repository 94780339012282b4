"""Fixtures for all tests: servers, a redis-server, the system's Chromium."""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections
from hypothesis import settings as hypothesis
from playwright.sync_api import Browser, Page, sync_playwright

from tests.broker import Broker
from tests.client import Client
from tests.servers import ROOT, SERVER_NAMES, RedisServer, Server, ServerName

PROJECT = "tests.project.asgi:application"

# Of Chromium, and milliseconds for it: generous, since a loaded machine is not a failure.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PATIENCE = 15_000

# How long an example takes says how busy the machine is.
hypothesis.register_profile("any machine", deadline=None)
hypothesis.load_profile("any machine")

GetRedis = Callable[[], RedisServer]
StartRedis = Callable[..., RedisServer]
StartServer = Callable[..., Server]


def missing(program: str) -> NoReturn:
    """Skips the test for lack of a program, or fails it: see unavailable()."""
    unavailable(f"{program} is missing; on Debian: apt-get install {program}")


def unavailable(sentence: str) -> NoReturn:
    """Skips the test; where CI is set it fails: nothing is left out there."""
    if os.environ.get("CI"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file, since Django never closes a connection to a database in memory."""
    folder: Path = tmp_path_factory.mktemp("database")
    database: dict[str, Any] = settings.DATABASES["default"]
    database.setdefault("TEST", {})["NAME"] = str(folder / "test.sqlite3")


@pytest.fixture(autouse=True)
def _no_database_connection_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the thread of async code: later tests would meet an open one that they may not use."""
    yield
    is_marked = request.node.get_closest_marker("django_db") is not None
    if is_marked or "transactional_db" in request.fixturenames:
        SyncToAsync.single_thread_executor.submit(connections.close_all).result(10)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets processes run at their full speed, of which coverage takes half."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session")
def get_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GetRedis]:
    """Starts the redis-server of redis_server at the first call.

    A fixture of its own, so that the shared servers, which may ask for it late, end before it.
    """
    with contextlib.ExitStack() as running:

        @functools.cache
        def get() -> RedisServer:
            return _start_redis(running, tmp_path_factory.mktemp("redis") / "redis.log")

        yield get


@pytest.fixture(scope="session")
def redis_server(get_redis: GetRedis) -> RedisServer:
    """One redis-server for all tests; a test that stops or floods it starts one of its own."""
    return get_redis()


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[StartRedis]:
    """Starts redis-servers that belong to this test alone: `start_redis(port=0, args=())`."""
    with contextlib.ExitStack() as running:
        numbers = itertools.count(1)

        def start(**options: Any) -> RedisServer:
            return _start_redis(running, tmp_path / f"redis-{next(numbers)}.log", **options)

        yield start


@pytest.fixture
def broker(start_redis: StartRedis) -> Broker:
    """A redis-server of this test, which may go away and come back."""
    return Broker(start_redis)


@pytest.fixture
async def make_redis_layer(broker: Broker) -> AsyncIterator[Callable[..., Any]]:
    """Makes layers over `broker`: `make_redis_layer("?protocol=3", prefix="mine")`."""
    from panther_channels.layers import RedisChannelLayer

    layers: list[RedisChannelLayer] = []

    def make(query: str = "", **config: Any) -> RedisChannelLayer:
        layers.append(RedisChannelLayer(**{"hosts": [broker.url + query], **config}))
        return layers[-1]

    yield make
    for layer in layers:
        await layer.flush()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a path that is short enough for sockets, unlike that of tmp_path."""
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for example.com and its key, under the names of nginx.conf."""
    if shutil.which("openssl") is None:
        missing("openssl")
    folder: Path = tmp_path_factory.mktemp("certificate")
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:example.com"),
        *("-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing("chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for the tests of a module, of which none is async.

    Playwright's synchronous API keeps an event loop running in this thread for as long as it is
    open.
    """
    with _open_browser(chromium) as browser:
        yield browser


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """Beside async tests: not for longer than a test."""
    with _open_browser(chromium) as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        yield page


@contextlib.contextmanager
def _open_browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def start_server(get_redis: GetRedis, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers that belong to this test alone, and ends them after it.

    `start_server("daphne")` runs tests/project. Other arguments: `application`, `redis` (True:
    the channel layer is Redis pub/sub on the redis_server), `env`, `args`, `cwd`.
    """
    with _ending_together() as run:
        numbers = itertools.count(1)

        def start(name: ServerName, application: str = PROJECT, **options: Any) -> Server:
            log_path = tmp_path / f"{name}-{next(numbers)}.log"
            return run(_build_server(get_redis, log_path, name, application, **options))

        yield start


@pytest.fixture(scope="session")
def shared_server(
    get_redis: GetRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartServer]:
    """As start_server, but a server is started once and then shared by all tests of the session.

    For tests that leave a server as they found it. Its log is shared as well: see Server.mark().
    """
    folder = tmp_path_factory.mktemp("servers")
    servers: dict[str, Server] = {}
    with _ending_together() as run:

        def start(name: ServerName, application: str = PROJECT, **options: Any) -> Server:
            key = repr((name, application, sorted(options.items())))
            if key not in servers:
                log_path = folder / f"{name}-{len(servers) + 1}.log"
                servers[key] = run(_build_server(get_redis, log_path, name, application, **options))
            return servers[key]

        yield start


@pytest.fixture(params=SERVER_NAMES)
def server_name(request: pytest.FixtureRequest) -> ServerName:
    """Runs the test once for each server."""
    name: ServerName = request.param
    return name


@pytest.fixture
def server(server_name: ServerName, shared_server: StartServer) -> Server:
    """tests/project on each server in turn, with the in-memory channel layer; shared."""
    return shared_server(server_name)


@pytest.fixture
async def connect(server: Server) -> AsyncIterator[Client]:
    """Opens connections to `server`, which a test file may define otherwise."""
    async with Client(server) as client:
        yield client


@contextlib.contextmanager
def _ending_together() -> Iterator[Callable[[Server], Server]]:
    """Runs servers, none of which has to wait for another one's end."""
    servers: list[Server] = []
    with contextlib.ExitStack() as running:

        def run(server: Server) -> Server:
            servers.append(running.enter_context(server))
            return server

        yield run
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.terminate, servers))


def _start_redis(running: contextlib.ExitStack, log_path: Path, **options: Any) -> RedisServer:
    if shutil.which("redis-server") is None:
        missing("redis-server")
    return running.enter_context(RedisServer(log_path=log_path, **options))


def _build_server(
    get_redis: GetRedis,
    log_path: Path,
    name: ServerName,
    application: str,
    *,
    redis: bool = False,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    cwd: Path = ROOT,
) -> Server:
    environment = {"DJANGO_SETTINGS_MODULE": "tests.project.settings", **(env or {})}
    if redis:
        environment["REDIS_URL"] = get_redis().url
    return Server(name, application, log_path=log_path, env=environment, args=args, cwd=cwd)
