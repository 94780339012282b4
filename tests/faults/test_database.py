"""Many sockets share few database connections, and outlive what happens to the database."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import StartServer
from tests.faults.postgres import PostgresServer, new_cluster
from tests.servers import Server, ServerName

pytestmark = pytest.mark.faults

SECONDS = 20.0
WAYS = ("orm", "database", "sync")
END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'site' AND pid <> pg_backend_pid()"
)

StartSite = Callable[..., Server]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One for all tests here; each leaves it running."""
    folder = new_cluster()
    log_path = tmp_path_factory.mktemp("postgres") / "postgres.log"
    try:
        with PostgresServer(folder, log_path=log_path) as server:
            server.query(
                "CREATE TABLE django_content_type "
                "(id serial PRIMARY KEY, app_label varchar(100), model varchar(100))"
            )
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def start_site(
    postgres: PostgresServer, server_name: ServerName, shared_server: StartServer
) -> StartSite:
    """Starts each server in turn: `start_site(CONN_MAX_AGE=60)`; shared."""

    def start(**database: Any) -> Server:
        options = {"application_name": name(server_name, database)}
        settings = {"PORT": postgres.port, "OPTIONS": options, **database}
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.faults.database_settings",
            "DATABASE": json.dumps(settings),
        }
        return shared_server(server_name, env=env)

    return start


def name(server_name: ServerName, database: dict[str, Any]) -> str:
    """By which PostgreSQL tells the connections of one server from those of the others."""
    return f"{server_name}-{sorted(database.items())}".translate({ord("'"): None})


class Clients:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(self, server: Server, count: int) -> list[ClientConnection]:
        url = f"{server.ws_url}/ws/asking"
        connecting = (connect(url, open_timeout=SECONDS, ping_interval=None) for _ in range(count))
        opened = await asyncio.gather(*connecting)
        self._stack.push_async_callback(_close, opened)
        return list(opened)


async def _close(clients: list[ClientConnection]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield Clients(stack)


async def ask(client: ClientConnection, way: str = "orm") -> str:
    """The answer, or the code that closed the connection."""
    try:
        await client.send(way)
        return str(await asyncio.wait_for(client.recv(), SECONDS))
    except ConnectionClosed as error:
        return str(error.rcvd and error.rcvd.code)


async def all_ask(clients: list[ClientConnection]) -> list[str]:
    """Each in one of the ways, all at once."""
    return await asyncio.gather(
        *(ask(client, WAYS[number % len(WAYS)]) for number, client in enumerate(clients))
    )


def restart(postgres: PostgresServer) -> None:
    postgres.crash()
    postgres.start()


def end_backends(postgres: PostgresServer) -> None:
    postgres.query(END_BACKENDS)


ENDS = [restart, end_backends]


@pytest.mark.parametrize("max_age", [0, 60])
async def test_as_many_connections_as_threads(
    start_site: StartSite,
    server_name: ServerName,
    postgres: PostgresServer,
    clients: Clients,
    max_age: int,
):
    server = start_site(CONN_MAX_AGE=max_age)
    site = name(server_name, {"CONN_MAX_AGE": max_age})
    opened = await clients.open(server, 300)
    await ask(opened.pop())  # perhaps with a connection that the test before has ended
    for _ in range(2):
        assert await all_ask(opened) == ["0"] * 299
        threads = psutil.Process(server.pid).num_threads()
        assert bool(max_age) <= postgres.backends(site) <= min(threads, 10)
    await ask(opened[0], "orm")  # Channels itself closes none of these until the next message
    # All are open still, and nobody says anything.
    async with asyncio.timeout(SECONDS):
        while postgres.backends(site) > (1 if max_age else 0):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await ask(opened[0], "echo") == "echo"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "database",
    [{"CONN_MAX_AGE": 0}, {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}],
    ids=["new", "health-checks"],
)
async def test_the_next_message_works(
    start_site: StartSite,
    postgres: PostgresServer,
    clients: Clients,
    database: dict[str, Any],
    end: Callable[[PostgresServer], None],
):
    opened = await clients.open(start_site(**database), 30)
    for _ in range(2):
        assert await all_ask(opened) == ["0"] * 30
        end(postgres)
        assert await all_ask(opened) == ["0"] * 30


@pytest.mark.parametrize("end", ENDS)
async def test_without_health_checks_one_message_fails(
    start_site: StartSite,
    postgres: PostgresServer,
    clients: Clients,
    end: Callable[[PostgresServer], None],
):
    server = start_site(CONN_MAX_AGE=60)
    opened = await clients.open(server, 31)
    await ask(opened.pop())  # perhaps with a connection that the test before has ended
    assert await all_ask(opened) == ["0"] * 30
    end(postgres)
    answers = await asyncio.gather(*(ask(client) for client in opened))
    assert sorted(answers) == ["0"] * 29 + ["1011"]


async def test_a_handler_that_catches_the_error(
    start_site: StartSite, postgres: PostgresServer, clients: Clients
):
    (client,) = await clients.open(start_site(CONN_MAX_AGE=60), 1)
    assert {await ask(client, "caught"), await ask(client, "caught")} <= {"0", "failed"}
    end_backends(postgres)
    assert await ask(client, "caught") == "failed"
    assert await ask(client, "caught") == "0"


async def test_while_the_database_is_away(
    start_site: StartSite, postgres: PostgresServer, clients: Clients
):
    opened = await clients.open(start_site(CONN_MAX_AGE=0), 10)
    assert await all_ask(opened) == ["0"] * 10
    postgres.crash()
    try:
        assert await all_ask(opened[:5]) == ["1011"] * 5
        assert await ask(opened[5], "caught") == "failed"
        assert await ask(opened[5], "echo") == "echo"
    finally:
        postgres.start()
    assert await all_ask(opened[5:]) == ["0"] * 5
    opened = await clients.open(start_site(CONN_MAX_AGE=0), 1)
    assert await all_ask(opened) == ["0"]
