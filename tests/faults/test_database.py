"""Many sockets share few database connections, and outlive what happens to the database.

Of the cache, they leave none.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest
import redis

from tests.client import Client, Closed, Connection
from tests.conftest import StartServer
from tests.faults.postgres import PostgresServer, new_cluster
from tests.servers import SERVER_NAMES, RedisServer, Server, ServerName, misbehaving, python
from tests.waiting import until

pytestmark = pytest.mark.faults

WAYS = ("orm", "database", "sync")
END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename = 'site' AND pid <> pg_backend_pid()"
)
KEPT = {"CONN_MAX_AGE": 60}
OF_SLEEP = "FROM pg_stat_activity WHERE application_name = %s AND query LIKE '%%pg_sleep(%%'"
SLEEPING = f"SELECT count(*) {OF_SLEEP} AND state = 'active'"
END_SLEEP = f"SELECT pg_terminate_backend(pid) {OF_SLEEP}"
SESSION = "s" * 32
FILL = f"""
import django
django.setup()
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
call_command("migrate", verbosity=0)
ContentType.objects.all().delete()
user = User.objects.create_superuser("alice")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session._session_key = "{SESSION}"
session.save(must_create=True)
"""

Open = Callable[..., Awaitable[list[Connection]]]


@pytest.fixture(params=SERVER_NAMES)
def server_name(request: pytest.FixtureRequest) -> ServerName:
    """What breaks here is behind the server: its protocol for frames makes no difference."""
    name: ServerName = request.param
    return name


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One for all tests here; each leaves it running."""
    folder = new_cluster()
    log_path = tmp_path_factory.mktemp("postgres") / "postgres.log"
    try:
        with PostgresServer(folder, log_path=log_path) as server:
            env = misbehaving(DATABASES={"default": server.settings()})
            done = python("-c", FILL, env=env)
            assert (done.returncode, done.stderr) == (0, "")
            yield server
    finally:
        shutil.rmtree(folder)


class Site:
    """Each server in turn, with a setting of its database; shared by all tests of the module."""

    def __init__(self, server: Server, postgres: PostgresServer, name: str) -> None:
        self.server, self._postgres, self.name = server, postgres, name

    def backends(self) -> int:
        return self._postgres.backends(self.name)

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

        async def run(site: Site, count: int, path: str = "/asking") -> list[Connection]:
            cookie = {"Cookie": f"sessionid={SESSION}"}
            connect = await stack.enter_async_context(Client(site.server, cookie))
            return await asyncio.gather(*(connect(path) for _ in range(count)))

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
    opened = await open_clients(site, 100)
    await ask(opened.pop())  # perhaps with a connection that the test before has ended
    for _ in range(2):
        assert await all_ask(opened) == ["0"] * 99
        assert bool(max_age) <= site.backends() <= min(site.threads(), 10)
    await ask(opened[0], "orm")  # Channels itself closes none of these until the next message
    # All are open still, and nobody says anything.
    await until(lambda: site.backends() <= bool(max_age))
    assert await ask(opened[0], "echo") == "echo"


ENTRANCES = ("session", "permitted", "orm", "sync", "task", "lines", "permission")


@pytest.mark.parametrize("way", ["sleep", "database_sleep"])
@pytest.mark.parametrize("max_age", [0, 60])
async def test_who_comes_in_does_not_wait_for_a_handler(
    start_site: Callable[..., Site],
    postgres: PostgresServer,
    open_clients: Open,
    max_age: int,
    way: str,
):
    site = start_site(CONN_MAX_AGE=max_age)
    (busy,) = await open_clients(site, 1)
    await busy.send(way)
    await until(lambda: postgres.query(SLEEPING, site.name) == 1, 10)
    started = time.monotonic()
    for entrance in ENTRANCES:
        opened = await open_clients(site, 10, f"/entered/{entrance}")
        assert [each.status for each in opened] == [101] * 10
    assert time.monotonic() - started < len(ENTRANCES)  # seconds
    assert postgres.query(SLEEPING, site.name) == 1
    # One for the handlers, and a few for those who come.
    assert site.backends() <= 5
    # A connection is closed by its age, though the handlers' thread is busy.
    await until(lambda: max_age or site.backends() == 1)
    postgres.query(END_SLEEP, site.name)
    await busy.closed()


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


@pytest.mark.parametrize("over_redis", [False, True])  # events come in two ways
async def test_what_is_opened_by_the_cache_is_closed(
    server_name: ServerName, shared_server: StartServer, redis_server: RedisServer, over_redis: bool
):
    name = f"cache-{server_name}-{over_redis}"
    cache = {"LOCATION": redis_server.url, "OPTIONS": {"client_name": name}}
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache"}
    env = misbehaving(CACHES={"default": {**backend, **cache}})
    server = shared_server(server_name, redis=over_redis, env=env)

    def count() -> int:
        clients = redis.Redis.from_url(redis_server.url).client_list()
        return sum(each["name"] == name for each in clients)

    async with Client(server) as connect:
        opened = [await connect("/caching") for _ in range(20)]
        await until(lambda: count() == 0)  # what auth and permissions have opened
        assert [await client.ask("use") for client in opened] == ["used"] * 20
        assert count() > 20
        since = server.mark()
        for client in opened[:10]:
            await client.close()
        for client in opened[10:]:
            await client.abort()
        await until(lambda: server.log.count("disconnect called", since) == 20)
        await until(lambda: count() == 0)
