"""Who is deactivated or deleted, or is to log in again, loses all connections, and nobody else."""

import asyncio
import itertools
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from django.contrib.auth.models import User

from panther_channels._hub.addresses import user_group
from tests.client import Client, Connection
from tests.conftest import GetRedis, StartRedis, StartServer
from tests.integration.access.site import Site
from tests.integration.conftest import RunScript, StartAccess
from tests.servers import Server, ServerName, over_core, suspended, with_settings

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
CLOSE = PREPARE + 'async_to_sync(close_user_websockets)(user, 4100, "log in again")\n'

# Access that is lost: who has come in by that way is closed, and nobody else.

BY_TOKEN = ("header", "staff", "may-change", "may-delete")
BY_SESSION = ("session", "session-of-drf", "channels/who/")
ENDED, DENIED = (1008, "session ended"), (1008, "Permission Denied")
DEACTIVATED, DELETED = (
    dict.fromkeys((*BY_TOKEN, *BY_SESSION), (1008, f"user {how}"))
    for how in ("deactivated", "deleted")
)
REQUEST = """
from django.contrib.auth import login, logout
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
request = HttpRequest()
request.user = user
request.session = SessionStore("{session}")
"""
GROUP = """
from django.contrib.auth.models import Group, Permission
group = Group.objects.get(name="group of {user}")
change = Permission.objects.get(codename="change_user")
delete = Permission.objects.get(codename="delete_user")
"""
UPDATE = """
from panther_channels import sync, websocket
User.objects.filter(pk=user.pk).update(is_staff=False)
"""
BY_PROXY = """
class Customer(User):
    class Meta:
        proxy = True
        app_label = "auth"
user = Customer.objects.get(username="{user}")
"""
LOST: dict[str, tuple[str, dict[str, tuple[int, str]]]] = {
    "deactivated": ("user.is_active = False\nuser.save()", DEACTIVATED),
    "deleted": ("user.delete()", DELETED),
    "deleted by a query": ('User.objects.filter(username="{user}").delete()', DELETED),
    "deactivated as a proxy": (BY_PROXY + "user.is_active = False\nuser.save()", DEACTIVATED),
    "deleted as a proxy": ('Customer.objects.get(username="{user}").delete()', DELETED),
    "closed": (
        'async_to_sync(close_user_websockets)(user, 4100, "log in again")',
        dict.fromkeys((*BY_TOKEN, *BY_SESSION), (4100, "log in again")),
    ),
    "logout": (REQUEST + "logout(request)", dict.fromkeys(BY_SESSION, ENDED)),
    "flush": (REQUEST + "request.session.flush()", dict.fromkeys(BY_SESSION, ENDED)),
    "session deleted": (
        "from django.contrib.sessions.models import Session\n"
        'Session.objects.filter(pk="{session}").delete()',
        dict.fromkeys(BY_SESSION, ENDED),
    ),
    "password": ('user.set_password("another")\nuser.save()', dict.fromkeys(BY_SESSION, ENDED)),
    "staff": ("user.is_staff = False\nuser.save()", {"staff": DENIED}),
    "group left": (GROUP + "user.groups.remove(group)", {"may-change": DENIED}),
    "groups cleared": (GROUP + "user.groups.clear()", {"may-change": DENIED}),
    "put out": (GROUP + "group.user_set.remove(user)", {"may-change": DENIED}),
    "all put out": (GROUP + "group.user_set.clear()", {"may-change": DENIED}),
    "group deleted": (GROUP + "group.delete()", {"may-change": DENIED}),
    "group's permissions": (GROUP + "group.permissions.set([])", {"may-change": DENIED}),
    "permission's groups": (GROUP + "change.group_set.remove(group)", {"may-change": DENIED}),
    "permission": (GROUP + "user.user_permissions.set([])", {"may-delete": DENIED}),
    "permission's users": (GROUP + "delete.user_set.remove(user)", {"may-delete": DENIED}),
    "said": (UPDATE + "sync.recheck_user_websockets(user)", {"staff": DENIED}),
    "said in a transaction": (
        UPDATE + "with transaction.atomic():\n"
        "    sync.recheck_user_websockets(user, on_commit=True)",
        {"staff": DENIED},
    ),
    "said, async": (
        UPDATE + "async_to_sync(websocket.recheck_user_websockets)(user)",
        {"staff": DENIED},
    ),
    # What takes nothing away.
    "login elsewhere": (REQUEST + "request.session = SessionStore()\nlogin(request, user)", {}),
    "name": ('user.first_name = "Another"\nfor _ in range(500):\n    user.save()', {}),
    "more": (GROUP + "user.user_permissions.add(change)\ngroup.permissions.add(delete)", {}),
    "expired sessions": (
        'from django.core.management import call_command\ncall_command("clearsessions")',
        {},
    ),
}


async def test_whose_access_ends_is_closed(
    site: Site, servers: list[Server], run_script: RunScript
):
    users = {name: f"going-{next(_numbers)}" for name in LOST}
    code = "".join(
        (PREPARE + change + "\n").format(user=user, session=site.sessions[user])
        for user, (change, _) in zip(users.values(), LOST.values(), strict=True)
    )
    async with AsyncExitStack() as stack:
        clients: dict[str, list[tuple[str, Connection]]] = {name: [] for name in LOST}
        for server in servers:
            connect = await stack.enter_async_context(Client(server))
            for name, user in users.items():
                for way in (*BY_TOKEN, *BY_SESSION):
                    cookie = {"Cookie": f"sessionid={site.sessions[user]}"}
                    token = {"Authorization": f"Bearer {site.token(user)}"}
                    client = await connect(
                        f"/ws/{way}", headers=token if way in BY_TOKEN else cookie
                    )
                    assert json.loads(str(await client.receive()))["user"] == user
                    clients[name].append((way, client))
        marks = [server.mark() for server in servers]
        await asyncio.to_thread(run_script, servers[0], code)
        for name, (_, lost) in LOST.items():
            for way, client in clients[name]:
                if way in lost:
                    assert await client.closed() == lost[way], (name, way)
        for name, (_, lost) in LOST.items():
            for way, client in clients[name]:
                if way not in lost:
                    assert await client.ask("still here") == "still here", (name, way)
    for server, mark in zip(servers, marks, strict=True):
        assert "Traceback" not in server.log[mark:]


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
        name, start = f"going-{next(_numbers)}", time.monotonic()
        answer = await asyncio.to_thread(get, server, f"/go/{name}/{how}/")
        assert time.monotonic() - start < 2.5  # to fail takes the layer five
        assert answer == "later"
    await asyncio.to_thread(server.wait_log, "^ERROR .* asked again: ")
    # An outage is one line in ten seconds, and of a user who is new, nobody is asked.
    assert server.log.count("asked again: ") == 1
    assert "Traceback" not in server.log


def exclusively(site: Site) -> sqlite3.Connection:
    """Keep everybody else from the database."""
    database = sqlite3.connect(site.database, isolation_level=None, timeout=60)
    database.execute("BEGIN EXCLUSIVE")
    return database


async def test_nobody_is_closed_because_the_database_is_away(
    site: Site, access: Server, going: str, run_script: RunScript
):
    """Who is asked meanwhile is asked until there is an answer."""
    tell = (
        "from django.contrib.auth.models import User\n"
        "from panther_channels.sync import recheck_user_websockets\n"
        f"for _ in range(100):\n    recheck_user_websockets(User(pk={site.ids[going]}))"
    )
    headers = {"Authorization": f"Bearer {site.token(going)}"}
    async with Client(access) as connect:
        ways = ("staff", "header", "may-change", "staff", "header", "staff")
        clients = [(way, await connect(f"/ws/{way}", headers=headers)) for way in ways]
        for _, client in clients:
            await client.receive()
        mark = access.mark()
        with closing(exclusively(site)) as database:
            await asyncio.to_thread(run_script, access, tell)
            await asyncio.to_thread(access.wait_log, "stays until it is: ", since=mark)
            for _, client in clients:
                assert await client.ask("still here") == "still here"
            database.execute("UPDATE auth_user SET is_staff = 0 WHERE username = ?", (going,))
            database.execute("COMMIT")
        for way, client in clients:
            if way == "staff":
                assert await client.closed() == DENIED
        for way, client in clients:
            if way != "staff":
                assert await client.ask("still here") == "still here"
    assert access.log[mark:].count("stays until it is: ") == 1  # not one for each


@pytest.mark.parametrize("way", ["header", "simplejwt"])
async def test_a_token_that_a_new_password_revokes(
    site: Site,
    server_name: ServerName,
    start_access: StartAccess,
    going: str,
    run_script: RunScript,
    way: str,
):
    server = start_access(server_name, SIMPLE_JWT={"CHECK_REVOKE_TOKEN": True})
    token = site.token(going, hash_password=site.revocations[going])
    async with Client(server) as connect:
        client = await connect(f"/ws/{way}", headers={"Authorization": f"Bearer {token}"})
        await client.receive()
        code = PREPARE + "user.set_password('another')\nuser.save()"
        await asyncio.to_thread(run_script, server, code.format(user=going))
        assert await client.closed() == (1008, "Authentication Error")


@pytest.mark.parametrize(
    ("kind", "server_name"), [("local", "daphne"), ("core", "uvicorn"), ("pubsub", "daphne")]
)
async def test_access_is_asked_again_over_any_layer(
    kind: str,
    site: Site,
    server_name: ServerName,
    start_server: StartServer,
    start_access: StartAccess,
    get_redis: GetRedis,
    folder: Path,
    going: str,
    run_script: RunScript,
):
    layer = {"LOCAL_LAYER": str(folder), "REDIS_URL": ""}
    if kind == "core":
        layer = over_core(get_redis().url)
    elif kind == "pubsub":
        backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
        config = {"hosts": [get_redis().url]}
        layer = with_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": config}})
    environment = {**start_access(server_name).env, **layer}
    server = start_server(server_name, env=environment)
    async with Client(server) as connect:
        headers = {"Authorization": f"Bearer {site.token(going)}"}
        lost, kept = [await connect(f"/ws/{way}", headers=headers) for way in ("staff", "header")]
        code = PREPARE + "user.is_staff = False\nuser.save()"
        await asyncio.to_thread(run_script, server, code.format(user=going))
        assert await lost.closed() == DENIED
        await kept.receive()
        assert await kept.ask("still here") == "still here"


SESSION_DELETED = "DELETE FROM django_session WHERE session_key = ?"


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("auth", DEACTIVATE),
        ("permission", DELETE),
        ("connect", DEACTIVATE),
        ("session", SESSION_DELETED),
    ],
    ids=["auth", "permission", "connect", "session"],
)
async def test_a_user_who_goes_during_the_handshake(
    site: Site, access: Server, going: str, run_script: RunScript, where: str, code: str
):
    """Nobody comes in of whom the processes were told before they could know of the connection."""
    headers = {
        "Authorization": f"Bearer {site.token(going)}",
        "Cookie": f"sessionid={site.sessions[going]}",
    }
    mark = access.mark()
    async with Client(access) as connect:
        opening = asyncio.create_task(connect(f"/ws/hesitant-{where}", headers=headers))
        await asyncio.to_thread(access.wait_log, f"hesitating about {going}", since=mark)
        if code == SESSION_DELETED:  # by SQL, of which nobody is told
            with closing(sqlite3.connect(site.database, timeout=60)) as database, database:
                database.execute(code, (site.sessions[going],))
        else:
            await asyncio.to_thread(run_script, access, code.format(user=going))
        answer = await opening
    detail = "session ended" if where == "session" else "User deactivated or deleted"
    assert (answer.status, answer.detail) == (401, detail)
    assert "Traceback" not in access.log[mark:]
