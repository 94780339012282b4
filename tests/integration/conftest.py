"""The site of tests/integration/access, in process and on both servers, with one database."""

import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from django.db import connections
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from panther_channels.asgi import get_asgi_application
from tests.client import Client, InProcess
from tests.conftest import StartServer
from tests.integration.access.site import Site
from tests.servers import SERVER_NAMES, Server, ServerName, python, with_settings
from tests.waiting import until

SETTINGS = "tests.integration.access.settings"

StartAccess = Callable[..., Server]
RunScript = Callable[[Server, str], str]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The database with its users; at the end, no credential may be in a log of its servers."""
    database = str(tmp_path_factory.mktemp("access") / "db.sqlite3")
    seed = Path(__file__).parent / "access" / "seed.py"
    done = python(str(seed), env={"DJANGO_SETTINGS_MODULE": SETTINGS, "TEST_DATABASE": database})
    assert (done.returncode, done.stderr) == (0, "")
    found = Site(database, **json.loads(done.stdout))
    yield found
    assert {server.log_path.name: found.leaks(server.log) for server in found.servers} == {
        server.log_path.name: [] for server in found.servers
    }


@pytest.fixture(scope="session")
def start_access(site: Site, shared_server: StartServer) -> StartAccess:
    """Starts the site, over Redis: `start_access("daphne", WS_ALLOWED_ORIGINS=["*"])`."""

    def start(name: ServerName, args: tuple[str, ...] = (), **settings: Any) -> Server:
        environment = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "TEST_DATABASE": site.database,
            **with_settings(**settings),
        }
        server = shared_server(name, redis=True, env=environment, args=args)
        if server not in site.servers:
            site.servers.append(server)
        return server

    return start


@pytest.fixture
def access(server_name: ServerName, start_access: StartAccess) -> Server:
    """The site on each server in turn, with its own settings; shared."""
    return start_access(server_name)


@dataclass
class Door:
    """The site, however it is served: its client, and what it has logged since then."""

    connect: Client
    log: Callable[[], str]

    async def logged(self, pattern: str) -> None:
        await until(lambda: re.search(pattern, self.log(), re.MULTILINE), 10)


OpenDoor = Callable[..., AbstractAsyncContextManager[Door]]


@pytest.fixture(scope="module")
def _database(site: Site, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """That of the site, in this process."""
    connections.close_all()
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
        patch.setitem(connections.databases["default"], "NAME", site.database)
        yield
        connections.close_all()


@pytest.fixture
def in_process(site: Site, _database: None, caplog: pytest.LogCaptureFixture) -> OpenDoor:
    """Opens the site without a server, with settings of the test's: `async with` gives a Door."""
    from tests.integration.access import settings as own  # not before Django is set up
    from tests.integration.access.websockets import by_name

    names = ("WS_AUTHENTICATION", "WS_MIDDLEWARES", "PASSWORD_HASHERS")
    known = {name: getattr(own, name) for name in names}
    # Here and not in the test: it configures the logging anew, without pytest's handlers.
    application = get_asgi_application({"ws": by_name})

    @asynccontextmanager
    async def enter(**settings: Any) -> AsyncIterator[Door]:
        caplog.set_level(logging.INFO)
        channel_layers.backends.clear()  # each test has an event loop of its own
        with override_settings(**known, **settings):
            try:
                async with InProcess(application) as client:
                    yield Door(client, lambda: caplog.text)
            finally:
                await sync_to_async(connections.close_all)()
        assert site.leaks(caplog.text) == []

    return enter


@pytest.fixture(params=("in_process", *SERVER_NAMES))
def open_door(
    request: pytest.FixtureRequest, start_access: StartAccess, in_process: OpenDoor
) -> OpenDoor:
    """As in_process, and on each server in turn."""

    @asynccontextmanager
    async def enter(**settings: Any) -> AsyncIterator[Door]:
        server = start_access(request.param, **settings)
        mark = server.mark()
        async with Client(server) as client:
            yield Door(client, lambda: server.log[mark:])

    return enter if request.param in SERVER_NAMES else in_process


@pytest.fixture
async def door(open_door: OpenDoor) -> AsyncIterator[Door]:
    """The site with its own settings, in process and on each server in turn."""
    async with open_door() as opened:
        yield opened


@pytest.fixture
def run_script() -> RunScript:
    """Runs code in another process of a server's site; any warning fails it."""

    def run(server: Server, code: str) -> str:
        script = f"import django\ndjango.setup()\n{code}"
        done = python("-W", "error", "-c", script, env=server.env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run
