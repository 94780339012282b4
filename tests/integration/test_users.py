"""Who is deactivated or deleted, or is to log in again, loses all connections, and nobody else."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from django.contrib.auth.models import User

from panther_channels._hub.addresses import user_group
from tests.client import Client, Connection
from tests.conftest import StartRedis, StartServer
from tests.integration.access.site import Site
from tests.integration.conftest import RunScript, StartAccess
from tests.servers import Server, ServerName, suspended

_numbers = itertools.count(1)


@pytest.fixture
def going() -> str:
    """A user whom no other test needs."""
    return f"going-{next(_numbers)}"


@pytest.fixture
def servers(start_access: StartAccess) -> list[Server]:
    return [start_access("daphne"), start_access("uvicorn")]


@asynccontextmanager
async def everywhere(
    site: Site, servers: list[Server], user: str
) -> AsyncIterator[list[Connection]]:
    """Connections of a user on both servers, by token and by session; others' stay open."""

    async def by(connect: Client, name: str, who: str) -> Connection:
        value = {
            "header": {"Authorization": f"Bearer {site.token(who)}"},
            "session": {"Cookie": f"sessionid={site.sessions[who]}"},
            "default": {},
        }[name]
        client = await connect(f"/ws/{name}", headers=value)
        assert json.loads(str(await client.receive()))["user"] == (
            None if name == "default" else who
        )
        return client

    async with AsyncExitStack() as stack:
        theirs, others = [], []
        for server in servers:
            connect = await stack.enter_async_context(Client(server))
            theirs += [await by(connect, name, user) for name in ("header", "session")]
            ways = (("header", "alice"), ("session", "bob"), ("default", "bob"))
            others += [await by(connect, name, who) for name, who in ways]
        yield theirs
        for client in others:
            assert await client.ask("still here") == "still here"


def test_users_whose_keys_differ_in_case_are_two():
    assert user_group(User(pk="Alice")) != user_group(User(pk="alice"))


PREPARE = """
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import transaction
from panther_channels.websocket import close_user_websockets
user = User.objects.get(username="{user}")
"""
DEACTIVATE = PREPARE + "user.is_active = False\nuser.save()\n"
DELETE = PREPARE + "user.delete()\n"
BY_QUERY = PREPARE + 'User.objects.filter(username="{user}").delete()\n'
CLOSE = PREPARE + 'async_to_sync(close_user_websockets)(user, 4100, "log in again")\n'
BY_PROXY = (
    PREPARE
    + """
class Customer(User):
    class Meta:
        proxy = True
        app_label = "auth"
user = Customer.objects.get(username="{user}")
"""
)


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (DEACTIVATE, (1008, "user deactivated")),
        (DELETE, (1008, "user deleted")),
        (BY_QUERY, (1008, "user deleted")),
        (CLOSE, (4100, "log in again")),
        (BY_PROXY + "user.is_active = False\nuser.save()\n", (1008, "user deactivated")),
        (BY_PROXY + "user.delete()\n", (1008, "user deleted")),
    ],
    ids=["deactivate", "delete", "delete-query", "close", "deactivate-proxy", "delete-proxy"],
)
async def test_another_process_closes_a_users_connections(
    site: Site,
    servers: list[Server],
    going: str,
    run_script: RunScript,
    code: str,
    ending: tuple[int, str],
):
    async with everywhere(site, servers, going) as theirs:
        await asyncio.to_thread(run_script, servers[0], code.format(user=going))
        for client in theirs:
            assert await client.closed() == ending


NOT_YET = (
    PREPARE
    + """
try:
    with transaction.atomic():
        user.is_active = False
        user.save()
        user.delete()
        raise KeyError
except KeyError:
    pass
user = User.objects.get(username="{user}")
user.first_name = "saved, and active"
user.save()
"""
)


async def test_what_is_rolled_back_closes_nothing(
    site: Site, servers: list[Server], going: str, run_script: RunScript
):
    async with everywhere(site, servers, going) as theirs:
        await asyncio.to_thread(run_script, servers[0], NOT_YET.format(user=going))
        # What was sent before this close would have come before it.
        await asyncio.to_thread(run_script, servers[0], CLOSE.format(user=going))
        for client in theirs:
            assert await client.closed() == (4100, "log in again")


@pytest.mark.parametrize("view", ["close-seen", "close", "close-async"])
async def test_a_view_closes_the_connections_of_who_asks(
    site: Site, servers: list[Server], server_name: str, view: str
):
    (server,) = (each for each in servers if each.name == server_name)
    async with everywhere(site, servers, "staff") as theirs:
        await asyncio.to_thread(get, server, f"/{view}/", site.sessions["staff"])
        for client in theirs:
            assert await client.closed() == (4100, "log in again")


def get(server: Server, path: str, session: str = "") -> str:
    request = Request(f"{server.url}{path}", headers={"Cookie": f"sessionid={session}"})
    with urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.fixture
def failing(what: str, start_redis: StartRedis, folder: Path) -> Iterator[dict[str, str]]:
    """What makes a channel layer fail."""
    if what == "not ours":
        Path(folder, "layer").mkdir()
        Path(folder, "layer").chmod(0o777)  # as good as that of somebody else
        yield {"LOCAL_LAYER": f"{folder}/layer", "REDIS_URL": ""}
        return
    redis = start_redis()
    if what == "down":
        redis.kill()
    with suspended(redis) if what == "silent" else nullcontext():
        yield {"REDIS_URL": redis.url}


@pytest.mark.parametrize(
    ("what", "server_name"), [("down", "daphne"), ("silent", "uvicorn"), ("not ours", "daphne")]
)
async def test_a_failing_layer_does_not_touch_the_database(
    failing: dict[str, str],
    site: Site,
    server_name: ServerName,
    start_server: StartServer,
    start_access: StartAccess,
):
    environment = {**start_access(server_name).env, **failing}
    server = start_server(server_name, env=environment)
    for how in ("deactivate", "delete"):
        name, mark, start = f"going-{next(_numbers)}", server.mark(), time.monotonic()
        answer = await asyncio.to_thread(get, server, f"/go/{name}/{how}/")
        assert time.monotonic() - start < 2.5  # to fail takes the layer five
        assert answer == "later"
        await asyncio.to_thread(server.wait_log, "^ERROR .* are not closed: ", since=mark)
    # Of the one in the database who was inactive from the beginning, nobody was asked.
    assert server.log.count("are not closed") == 2
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("where", "code"),
    [("auth", DEACTIVATE), ("permission", DELETE), ("connect", DEACTIVATE)],
    ids=["auth", "permission", "connect"],
)
async def test_a_user_who_goes_during_the_handshake(
    site: Site, access: Server, going: str, run_script: RunScript, where: str, code: str
):
    """Nobody comes in of whom the processes were told before they could know of the connection."""
    headers = {"Authorization": f"Bearer {site.token(going)}"}
    mark = access.mark()
    async with Client(access) as connect:
        opening = asyncio.create_task(connect(f"/ws/hesitant-{where}", headers=headers))
        await asyncio.to_thread(access.wait_log, f"hesitating about {going}", since=mark)
        await asyncio.to_thread(run_script, access, code.format(user=going))
        answer = await opening
    assert (answer.status, answer.detail) == (401, "User deactivated or deleted")
    assert "Traceback" not in access.log[mark:]
