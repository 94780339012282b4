"""Who is deactivated or deleted, or is to log in again, loses all connections, and nobody else."""

import asyncio
import http.client
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from websockets.asyncio.client import ClientConnection

from panther_channels.connections import user_group
from tests.conftest import StartRedis, StartServer
from tests.integration.access.client import Site, closed, handshake, opened, received
from tests.integration.conftest import RunScript, StartAccess
from tests.servers import Server, ServerName, suspended

pytestmark = pytest.mark.usefixtures("clients")

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
) -> AsyncIterator[tuple[list[ClientConnection], list[ClientConnection]]]:
    """Connections of a user and of others, on both servers, by different ways in."""
    theirs, others = [], []
    for server in servers:
        theirs += [await by_token(server, site, user), await by_session(server, site, user)]
        others += [await by_token(server, site, "alice"), await by_session(server, site, "bob")]
        others.append((await opened(server, "/ws/default"))[0])
    yield theirs, others
    for client in others:
        await client.send("still here")
        assert await received(client) == "still here"
        await client.close()


async def by_token(server: Server, site: Site, user: str) -> ClientConnection:
    headers = [("Authorization", f"Bearer {site.token(user)}")]
    return await as_(user, server, "/ws/header", headers)


async def by_session(server: Server, site: Site, user: str) -> ClientConnection:
    headers = [("Cookie", f"sessionid={site.sessions[user]}")]
    return await as_(user, server, "/ws/session", headers)


async def as_(user: str, server: Server, target: str, headers: Any) -> ClientConnection:
    client: ClientConnection
    client, answer = await opened(server, target, headers)
    assert answer["user"] == user
    return client


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
    async with everywhere(site, servers, going) as (theirs, _others):
        await asyncio.to_thread(run_script, servers[0], code.format(user=going))
        for client in theirs:
            assert await closed(client) == ending


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
    async with everywhere(site, servers, going) as (theirs, _others):
        await asyncio.to_thread(run_script, servers[0], NOT_YET.format(user=going))
        # What was sent before this close would have come before it.
        await asyncio.to_thread(run_script, servers[0], CLOSE.format(user=going))
        for client in theirs:
            assert await closed(client) == (4100, "log in again")


@pytest.mark.parametrize("view", ["close-seen", "close", "close-async"])
async def test_a_view_closes_the_connections_of_who_asks(
    site: Site, servers: list[Server], server_name: str, view: str
):
    (server,) = (each for each in servers if each.name == server_name)
    async with everywhere(site, servers, "staff") as (theirs, _others):
        answer = await asyncio.to_thread(get, server, f"/{view}/", site.sessions["staff"])
        assert answer == 200
        for client in theirs:
            assert await closed(client) == (4100, "log in again")


def get(server: Server, path: str, session: str = "") -> int:
    return fetch(server, path, session)[0]


def fetch(server: Server, path: str, session: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Cookie": f"sessionid={session}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(params=["down", "silent", "not ours"])
def failing(
    request: pytest.FixtureRequest, start_redis: StartRedis, folder: Path
) -> Iterator[dict[str, str]]:
    """What makes a channel layer fail."""
    if request.param == "not ours":
        Path(folder, "layer").mkdir()
        Path(folder, "layer").chmod(0o777)  # as good as that of somebody else
        yield {"LOCAL_LAYER": f"{folder}/layer", "REDIS_URL": ""}
        return
    redis = start_redis()
    if request.param == "down":
        redis.kill()
    with suspended(redis) if request.param == "silent" else nullcontext():
        yield {"REDIS_URL": redis.url}


async def test_a_failing_layer_does_not_touch_the_database(
    failing: dict[str, str],
    site: Site,
    server_name: ServerName,
    start_server: StartServer,
    start_access: StartAccess,
):
    environment = {**start_access(server_name).env, **failing}
    application = "tests.integration.access.asgi:application"
    server = start_server(server_name, application, env=environment)
    for how in ("deactivate", "delete"):
        name, mark, start = f"going-{next(_numbers)}", server.mark(), time.monotonic()
        answer = await asyncio.to_thread(fetch, server, f"/go/{name}/{how}/")
        assert time.monotonic() - start < 2.5  # to fail takes the layer five
        assert answer == (200, "later")
        await asyncio.to_thread(server.wait_log, "^ERROR .* are not closed: ", since=mark)
    # Of the one in the database who was inactive from the beginning, nobody was asked.
    assert server.log.count("are not closed") == 2
    assert "Traceback" not in server.log


@pytest.mark.parametrize("where", ["auth", "permission", "connect"])
@pytest.mark.parametrize("code", [DEACTIVATE, DELETE], ids=["deactivate", "delete"])
async def test_a_user_who_goes_during_the_handshake(
    site: Site, access: Server, going: str, run_script: RunScript, where: str, code: str
):
    """Nobody comes in of whom the processes were told before they could know of the connection."""
    headers = [("Authorization", f"Bearer {site.token(going)}")]
    mark = access.mark()
    opening = asyncio.create_task(handshake(access, f"/ws/hesitant-{where}", headers))
    await asyncio.to_thread(access.wait_log, f"hesitating about {going}", since=mark)
    await asyncio.to_thread(run_script, access, code.format(user=going))
    answer = await opening
    assert (answer.status, answer.detail) == (401, "User deactivated or deleted")
    assert "Traceback" not in access.log[mark:]
