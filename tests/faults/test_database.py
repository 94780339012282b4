"""Many sockets share few database connections, and outlive what happens to the database."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest

from tests.client import Client, Closed, Connection
from tests.conftest import StartServer
from tests.faults.postgres import PostgresServer, new_cluster
from tests.servers import Server, ServerName, misbehaving
from tests.waiting import until

pytestmark = pytest.mark.faults

WAYS = ("orm", "database", "sync")
END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'site' AND pid <> pg_backend_pid()"
)
KEPT = {"CONN_MAX_AGE": 60}

Open = Callable[..., Awaitable[list[Connection]]]


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


class Site:
    """Each server in turn, with a setting of its database; shared by all tests of the module."""

    def __init__(self, server: Server, postgres: PostgresServer, name: str) -> None:
        self.server, self._postgres, self._name = server, postgres, name

    def backends(self) -> int:
        return self._postgres.backends(self._name)

    def threads(self) -> int:
        return psutil.Process(self.server.pid).num_threads()


@pytest.fixture
def start_site(
    postgres: PostgresServer, server_name: ServerName, shared_server: StartServer
) -> Callable[..., Site]:
    def start(**database: Any) -> Site:
        # By which PostgreSQL tells the connections of one server from those of the others.
        name = f"{server_name}-{'-'.join(map(str, database.values()))}"
        options = {"OPTIONS": {"application_name": name}, **database}
        env = misbehaving(DATABASES={"default": {**postgres.settings(), **options}})
        return Site(shared_server(server_name, env=env), postgres, name)

    return start


@pytest.fixture
async def open_clients() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def run(site: Site, count: int) -> list[Connection]:
            connect = await stack.enter_async_context(Client(site.server))
            return await asyncio.gather(*(connect("/asking") for _ in range(count)))

        yield run


async def ask(client: Connection, way: str = "orm") -> str:
    """The answer, or the code that closed the connection."""
    await client.send(way)
    answer = await client.receive(20)
    return str(answer.code if isinstance(answer, Closed) else answer)


async def all_ask(clients: list[Connection], *ways: str) -> list[str]:
    """Each in one of the ways, all at once."""
    ways = ways or WAYS
    asking = (ask(client, ways[number % len(ways)]) for number, client in enumerate(clients))
    return await asyncio.gather(*asking)


def restart(postgres: PostgresServer) -> None:
    postgres.crash()
    postgres.start()


def end_backends(postgres: PostgresServer) -> None:
    postgres.query(END_BACKENDS)


ENDS = pytest.mark.parametrize("end", [restart, end_backends])


@pytest.mark.parametrize("max_age", [0, 60])
async def test_as_many_connections_as_threads(
    start_site: Callable[..., Site], open_clients: Open, max_age: int
):
    site = start_site(CONN_MAX_AGE=max_age)
    opened = await open_clients(site, 300)
    await ask(opened.pop())  # perhaps with a connection that the test before has ended
    for _ in range(2):
        assert await all_ask(opened) == ["0"] * 299
        assert bool(max_age) <= site.backends() <= min(site.threads(), 10)
    await ask(opened[0], "orm")  # Channels itself closes none of these until the next message
    # All are open still, and nobody says anything.
    await until(lambda: site.backends() <= bool(max_age))
    assert await ask(opened[0], "echo") == "echo"


@ENDS
@pytest.mark.parametrize(
    "database", [{"CONN_MAX_AGE": 0}, {**KEPT, "CONN_HEALTH_CHECKS": True}], ids=str
)
async def test_the_next_message_works(
    start_site: Callable[..., Site],
    postgres: PostgresServer,
    open_clients: Open,
    database: dict[str, Any],
    end: Callable[[PostgresServer], None],
):
    opened = await open_clients(start_site(**database), 30)
    for _ in range(2):
        assert await all_ask(opened) == ["0"] * 30
        end(postgres)
        assert await all_ask(opened) == ["0"] * 30


@ENDS
async def test_without_health_checks_one_message_fails(
    start_site: Callable[..., Site],
    postgres: PostgresServer,
    open_clients: Open,
    end: Callable[[PostgresServer], None],
):
    opened = await open_clients(start_site(**KEPT), 31)
    await ask(opened.pop())  # perhaps with a connection that the test before has ended
    assert await all_ask(opened) == ["0"] * 30
    end(postgres)
    assert sorted(await all_ask(opened, "orm")) == ["0"] * 29 + ["1011"]


async def test_a_handler_that_catches_the_error(
    start_site: Callable[..., Site], postgres: PostgresServer, open_clients: Open
):
    (client,) = await open_clients(start_site(**KEPT), 1)
    assert {await ask(client, "caught"), await ask(client, "caught")} <= {"0", "failed"}
    end_backends(postgres)
    assert await ask(client, "caught") == "failed"
    assert await ask(client, "caught") == "0"


async def test_while_the_database_is_away(
    start_site: Callable[..., Site], postgres: PostgresServer, open_clients: Open
):
    site = start_site(CONN_MAX_AGE=0)
    opened = await open_clients(site, 10)
    assert await all_ask(opened) == ["0"] * 10
    postgres.crash()
    try:
        assert await all_ask(opened[:5]) == ["1011"] * 5
        assert await ask(opened[5], "caught") == "failed"
        assert await ask(opened[5], "echo") == "echo"
    finally:
        postgres.start()
    assert await all_ask(opened[5:]) == ["0"] * 5
    assert await all_ask(await open_clients(site, 1)) == ["0"]
