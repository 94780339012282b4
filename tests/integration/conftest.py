"""The site of tests/integration/access on both servers, with one database for all of them."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.integration.access import client
from tests.integration.access.client import Site
from tests.servers import ROOT, Server, ServerName

SETTINGS = "tests.integration.access.settings"

StartAccess = Callable[..., Server]
RunScript = Callable[[Server, str], str]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The database with its users; at the end, no credential may be in a log of its servers."""
    database = str(tmp_path_factory.mktemp("access") / "db.sqlite3")
    seed = Path(__file__).parent / "access" / "seed.py"
    found = Site(database, **json.loads(_python([str(seed)], {"TEST_DATABASE": database})))
    yield found
    assert {server.log_path.name: found.leaks(server) for server in found.servers} == {
        server.log_path.name: [] for server in found.servers
    }


@pytest.fixture(scope="session")
def start_access(site: Site, shared_server: StartServer) -> StartAccess:
    """Starts the site, over Redis: `start_access("daphne", WS_ALLOWED_ORIGINS=["*"])`."""

    def start(name: ServerName, args: tuple[str, ...] = (), **settings: Any) -> Server:
        environment = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "TEST_DATABASE": site.database,
            "ACCESS_SETTINGS": json.dumps(settings),
        }
        application = "tests.integration.access.asgi:application"
        server = shared_server(name, application, redis=True, env=environment, args=args)
        if server not in site.servers:
            site.servers.append(server)
        return server

    return start


@pytest.fixture
def access(server_name: ServerName, start_access: StartAccess) -> Server:
    """The site on each server in turn, with its own settings; shared."""
    return start_access(server_name)


@pytest.fixture
async def clients() -> AsyncIterator[None]:
    """Closes what opened() has opened, also where the test fails."""
    yield
    while client.clients:
        await client.clients.pop().close()


@pytest.fixture
def run_script() -> RunScript:
    """Runs code in another process of a server's site; any warning fails it."""

    def run(server: Server, code: str) -> str:
        script = f"import django\ndjango.setup()\n{code}"
        return _python(["-W", "error", "-c", script], server.env)

    return run


def _python(arguments: list[str], environment: dict[str, str]) -> str:
    completed = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            **environment,
        },
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert (completed.returncode, completed.stderr.decode()) == (0, "")
    return completed.stdout.decode()
