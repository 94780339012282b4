"""The code of the documentation, run as it is printed there."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.core.cache import cache
from django.core.checks import run_checks
from django.db import transaction
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from rest_framework_simplejwt.tokens import AccessToken

from panther_channels.authentications import SessionAuthentication
from panther_channels.test import WebsocketClient
from panther_channels.websocket import GenericWebsocket, send_message_to_websocket
from tests.docs.client import check, ending, serve
from tests.pages import DOCS, block, blocks, code_of, module
from tests.servers import ROOT

ACCESS = "howto/authentication-and-permissions"
OUTSIDE = "howto/reach-from-outside"


@pytest.fixture(autouse=True)
def _layer(folder) -> Iterator[None]:
    layer = {
        "BACKEND": "panther_channels.layers.LocalChannelLayer",
        "CONFIG": {"directory": folder},
    }
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        yield


@pytest.mark.parametrize(
    "page",
    # The quickstart's blocks are files of a project: see test_quickstart.py.
    [
        str(path.relative_to(DOCS).with_suffix(""))
        for path in sorted(DOCS.rglob("*.md"))
        if "```python" in path.read_text() and path.stem != "quickstart"
    ],
)
def test_the_python_of_every_page_runs(page):
    assert module(page)


NAMED: dict[str, Any] = {"query_params": {"name": "Ann"}}
SEAT = '{"row":5,"day":"2024-02-29","side":"%s"}'
ORDER = "7e82d57c-9ec0-4787-b019-16910a9f45aa"


@pytest.mark.parametrize(
    ("name", "path", "options", "expected"),
    [
        ("accept-and-reject.Lounge", "/", NAMED, 101),
        ("accept-and-reject.Lounge", "/", {}, 403),
        ("accept-and-reject.Lounge", "/", {"query_params": {"name": "nobody"}}, 403),
        ("accept-and-reject.Lounge", "/", {**NAMED, "headers": {"user-agent": "scraper"}}, 403),
        ("urls.ticket_urls", "/seats/5/2024-02-29", {}, SEAT % "left"),
        ("urls.ticket_urls", "/seats/5/2024-02-29/right/", {}, SEAT % "right"),
        ("urls.ticket_urls", f"/paint/red/{ORDER}/TRUE", {}, "RED 4 True"),
        ("urls.ticket_urls", "/any/5/a-b", {}, '{"number":5,"word":"a-b"}'),
        ("urls.ticket_urls", "/seats/five/2024-02-29", {}, 400),
        ("urls.ticket_urls", "/seats/5/2024-02-30", {}, 400),
        ("urls.ticket_urls", "/seats/5/2024-02-29/up", {}, 400),
        ("urls.ticket_urls", f"/paint/green/{ORDER}/1", {}, 400),
        ("urls.ticket_urls", "/any/five/a", {}, 404),
        ("urls.websocket_urls", "/", {}, '["/",{}]'),
        ("urls.websocket_urls", "/ws/chat", {}, '["/ws/chat",{}]'),
        ("urls.websocket_urls", "/ws/chat/lobby/", {}, '["/ws/chat/lobby/",{}]'),
        ("urls.websocket_urls", "/ws/chat/kitchen", {}, '["/ws/chat/kitchen",{"room":"kitchen"}]'),
        ("urls.websocket_urls", "/ws/users/5/inbox", {}, '["/ws/users/5/inbox",{"user_id":"5"}]'),
        *(
            ("urls.websocket_urls", path, {}, 404)
            for path in ("/ws", "/ws/chat/lobby/more", "/WS/chat")
        ),
        ("urls.websocket_urls", "/ws/users//inbox", {}, 404),
    ],
)
async def test_what_a_page_says_of_a_path(name, path, options, expected):
    page, _, item = name.partition(".")
    await check(serve(getattr(module(f"howto/{page}"), item)), path, expected, **options)


async def test_a_reason_after_accepting():
    async with serve(module("howto/accept-and-reject").Reasoned).connect("/") as ws:
        assert await ending(ws) == (3003, "Buy a ticket first.")


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["chat.v1", "chat.v2"], "chat.v2"), (["other"], None), ([], None)]
)
async def test_subprotocol_and_headers(offered, chosen):
    client = serve(module("howto/accept-and-reject").Versioned)
    async with client.connect("/", subprotocols=offered) as ws:
        assert ws.subprotocol == chosen
        assert (b"x-served-by", b"lounge") in ws.headers


async def test_an_asgi_application_among_the_urls():
    async with serve(module("howto/urls").websocket_urls).connect("/ws/bare") as ws:
        assert await ending(ws) == (1000, "that was all")


async def test_a_router_of_ones_own():
    await check(WebsocketClient(module("howto/urls").application), "/ws/hello", "hello")


# From outside


@pytest.fixture
def parcels() -> WebsocketClient:
    return serve({"parcels/<number>": module(OUTSIDE).Parcel})


async def test_views_send_and_close(parcels):
    views, request = module(OUTSIDE), AsyncRequestFactory().get("/")
    async with parcels.connect("/parcels/7") as ws:
        assert await ws.receive() == "ready"
        assert (await views.moved(request, number=7)).status_code == 204
        assert await ws.receive() == '{"parcel":7,"place":"in the van"}'
        await views.delivered(request, number=7)
        assert await ending(ws) == (1000, "Your parcel is there.")
    assert await cache.aget("parcel-7") is None
    assert (await views.moved(request, number=7)).status_code == 204


async def test_a_sync_view_sends_and_closes(parcels):
    async with parcels.connect("/parcels/10") as ws:
        assert await ws.receive() == "ready"
        await sync_to_async(module(OUTSIDE).lost)(RequestFactory().get("/"), 10)
        assert await ws.receive() == '{"parcel":10,"place":"unknown"}'
        assert await ending(ws) == (1000, "We are sorry.")


async def test_a_group_and_a_user(ann):
    auction = type("Known", (module(OUTSIDE).Auction,), {"auth": SessionAuthentication})
    client, path = serve({"lots/<lot>": auction}), "/lots/7"
    async with client.connect(path, user=ann) as buyer, client.connect(path) as other:
        assert [await ws.receive() for ws in (buyer, other)] == ["ready", "ready"]
        await buyer.send("5")
        assert await other.receive_json() == {"bid": "5"}
        await module(OUTSIDE).sell(7, ann)
        assert await buyer.receive_json() == {"bought": 7}
        for ws in (buyer, other):
            assert await ws.receive_json() == {"sold": 7}
            assert await ending(ws) == (1000, "That was it.")


async def test_a_confirmed_message(parcels):
    ring = module(OUTSIDE).ring
    async with parcels.connect("/parcels/8") as ws:
        assert await ws.receive() == "ready"
        connection_id = await cache.aget("parcel-8")
        assert await ring(connection_id) == "it rings"
        assert await ws.receive() == "ring"
    assert await ring(connection_id) == "nobody there"


async def test_a_report_of_who_is_connected(ann):
    client = serve(module("howto/chat").websocket_urls)
    async with client.connect("/ws/chat/lobby", user=ann) as ws:
        assert set(await ws.receive_json()) <= {"members", "joined"}
        first, last = (await module("howto/who-is-connected").report()).splitlines()
    assert first.startswith("ann from 127.0.0.1:50000, since 20")
    assert last == "1 in all, 1 users"


async def test_a_message_after_the_commit_and_an_overridden_send(ann):
    ids: list[str] = []

    class Told(module(OUTSIDE).Stamped):  # type: ignore[misc]
        async def connect(self):
            await super().connect()
            ids.append(self.connection_id)

    def fail() -> None:
        with transaction.atomic():
            module(OUTSIDE).rename(ann, "Eve", ids[0])
            transaction.set_rollback(True)

    async with serve(Told).connect("/") as ws:
        await sync_to_async(fail)()
        await sync_to_async(module(OUTSIDE).rename)(ann, "Ann", ids[0])
        assert await ws.receive() == '{"number":1,"data":{"name":"Ann"}}'
        await send_message_to_websocket(ids[0], "from outside")
        assert await ws.receive() == '{"number":2,"data":"from outside"}'
    assert await User.objects.filter(first_name="Ann").aexists()


@pytest.mark.parametrize("having", ['6379"]},\n', "prefix"])
async def test_the_settings_of_redis(parcels, redis_server, having):
    given: dict[str, Any] = {}
    exec(block("howto/redis", having), given)
    layers = given["CHANNEL_LAYERS"]
    with override_settings(CHANNEL_LAYERS=layers):
        messages = run_checks()
    assert [item.id for item in messages if "panther_channels" in str(item.id)] == []
    text = json.dumps(layers).replace("redis://127.0.0.1:6379", redis_server.url)
    with override_settings(CHANNEL_LAYERS=json.loads(text)):
        async with parcels.connect("/parcels/11") as ws:
            assert await ws.receive() == "ready"
            await module(OUTSIDE).moved(AsyncRequestFactory().get("/"), number=11)
            assert await ws.receive() == '{"parcel":11,"place":"in the van"}'


# Authentication, permissions, middlewares


@pytest.fixture
def access() -> WebsocketClient:
    from tests.docs.access_urls import websocket_urls  # its code connects to Django's signals

    return serve(websocket_urls)


@pytest.fixture
def ann(transactional_db) -> User:
    return User.objects.create_user(username="ann", password="secret")


def session_of(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"}


def greeter(auth: str) -> WebsocketClient:
    """A class with an authentication of the page."""
    page = module(ACCESS)
    return serve(type("Greeter", (page.Greeting,), {"auth": getattr(page, auth)}))


def bearer(token: object) -> dict[str, Any]:
    return {"headers": {"authorization": f"Bearer {token}"}}


async def test_authentications_of_ones_own(ann, caplog):
    caplog.set_level(logging.INFO, "panther_channels")
    token = AccessToken.for_user(ann)
    await check(greeter("NamedCookie"), "/", "Hello, ann.", headers={"cookie": f"jwt={token}"})

    for_sockets = greeter("ForSockets")
    await check(for_sockets, "/", 401, **bearer(token))
    assert "made for something else" in caplog.text
    token["use"] = "websocket"
    await check(for_sockets, "/", "Hello, ann.", **bearer(token))

    ticket, gone = (signing.dumps(key, salt="websocket") for key in (ann.pk, ann.pk + 1))
    for text, expected in ((ticket, "Hello, ann."), (f"{ticket}x", 401), (gone, 401)):
        await check(greeter("TicketAuthentication"), "/", expected, query_params={"token": text})
    assert "the ticket is forged" in caplog.text
    assert "user has gone" in caplog.text


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Key": "k-2"}, "door"),
        ({"X-Badge": "cleaner"}, "cleaner"),
        ({"X-Key": "k-3", "X-Badge": "cleaner"}, 401),
        ({}, 401),
    ],
)
async def test_a_shared_key_is_a_machine(access, headers, expected):
    await check(access, "/ws/machine", expected, headers=headers)


@pytest.mark.parametrize(
    ("staff", "allowed", "expected"),
    [(0, 0, 403), (1, 0, "Hello, ann."), (0, 1, "Hello, ann."), (1, 1, "Hello, ann.")],
)
async def test_permissions_combined(access, ann, staff, allowed, expected):
    def prepare() -> dict[str, str]:
        ann.is_staff = bool(staff)
        ann.save()
        if allowed:
            ann.user_permissions.add(Permission.objects.get(codename="change_user"))
        return session_of(ann)

    headers = await sync_to_async(prepare)()
    await check(access, "/ws/editor", expected, headers=headers)
    await check(access, "/ws/editor", 401)


async def test_a_list_of_permissions(access, ann):
    headers = await sync_to_async(session_of)(ann)
    await check(access, "/ws/pages/ann", "This is your page, ann.", headers=headers)
    await check(access, "/ws/pages/bob", 403, headers=headers)
    await check(access, "/ws/pages/ann", 403, headers={**headers, "X-Day": "Sunday"})
    ann.is_staff = True
    await ann.asave()
    await check(access, "/ws/pages/ann", 403, headers=headers)


async def test_a_function_beside_a_class():
    page = module(ACCESS)
    members = {"auth": page.ByBadge, "permissions": page.IsAuthenticated & page.office_hours}
    client = serve(type("Combined", (page.Machine,), members))
    await check(client, "/", "ann", headers={"X-Badge": "ann"})
    await check(client, "/", 403, headers={"X-Badge": "ann", "X-Day": "Sunday"})
    await check(client, "/", 401)


@override_settings(
    WS_AUTHENTICATION=[f"{code_of(ACCESS)}.{name}" for name in ("by_shared_key", "ByBadge")]
)
async def test_the_authentication_of_the_settings():
    class Plain(module(ACCESS).GenericWebsocket):  # type: ignore[misc]
        async def connect(self):
            await self.accept()
            await self.send(self.user)

    await check(serve(Plain), "/", "printer", headers={"X-Key": "k-1"})
    await check(serve(Plain), "/", "cleaner", headers={"X-Badge": "cleaner"})
    await check(serve(Plain), "/", "null")


# As types-channels has them, which mypy asks for.
STUBS = """
class AsyncWebsocketConsumer:
    async def connect(self) -> None: ...
    async def receive(
        self, text_data: str | None = ..., bytes_data: bytes | None = ...
    ) -> None: ...
    async def disconnect(self, code: int) -> None: ...
"""
TYPED = """
from django.contrib.auth.models import User
from panther_channels.authentications import SessionAuthentication
from panther_channels.permissions import IsAuthenticated
from panther_channels.websocket import GenericWebsocket

class Numbered(GenericWebsocket):
    async def connect(self, number: int) -> None: ...
    async def receive(self, data: str | bytes) -> None: ...
"""


def test_types_hold_with_those_of_channels_and_without(tmp_path):
    stubs = tmp_path / "stubs" / "channels" / "generic"
    stubs.mkdir(parents=True)
    (stubs / "websocket.pyi").write_text(STUBS)
    for package in (stubs, stubs.parent):
        (package / "__init__.pyi").touch()
    profile = block(ACCESS, "user: User")
    wrong = profile.replace("get_full_name", "get_fool_name")
    assert wrong != profile
    for name, code in (("right", TYPED + profile), ("wrong", TYPED + wrong)):
        (tmp_path / f"{name}.py").write_text(code)
    command = (sys.executable, "-m", "mypy", "--config-file", os.devnull, "right.py", "wrong.py")
    for path in (str(ROOT), f"{ROOT}{os.pathsep}{tmp_path / 'stubs'}"):
        environment = {**os.environ, "MYPYPATH": path}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        (error,) = re.findall(r"^\w+\.py:\d+: error: .*", done.stdout, re.MULTILINE)
        assert error.startswith("wrong.py:")
        assert "get_fool_name" in error


async def test_an_annotated_user(ann):
    await User.objects.filter(pk=ann.pk).aupdate(first_name="Ann", last_name="Lee")
    headers = await sync_to_async(session_of)(ann)
    await check(serve(module(ACCESS).Profile), "/", "Ann Lee", headers=headers)


async def test_middlewares(caplog, settings):
    page = module("howto/middlewares")
    settings.WS_MIDDLEWARES = [f"{page.__name__}.{name}" for name in ("Timed", "OnlyLocal")]
    application = module("README").Echo.as_asgi()
    caplog.set_level(logging.INFO, page.__name__)
    await check(WebsocketClient(application), "/echo", 101)
    (record,) = caplog.records
    assert record.getMessage().startswith("/echo: Closed after 0.")

    async def from_afar(scope, receive, send):
        await application({**scope, "client": ("192.0.2.1", 5)}, receive, send)

    await check(WebsocketClient(from_afar), "/echo", 403)


async def test_a_room_of_channels_beside_ours(ann):
    page = module("coming-from-channels")
    client, headers = serve(page.websocket_urls), await sync_to_async(session_of)(ann)
    async with (
        client.connect("/ws/old/red", headers=headers) as old,
        client.connect("/ws/rooms/red", headers=headers) as new,
    ):
        for ws in (old, new):
            await ws.send({"text": "hello"})
            assert json.loads(await old.receive()) == {"text": "hello"}
            assert await new.receive() == '{"text":"hello"}'
    await check(client, "/ws/old/red", 403)
    await check(client, "/ws/rooms/red", 401)


async def test_a_user_is_locked_out_everywhere(ann):
    headers = await sync_to_async(session_of)(ann)
    client = serve({"feed": module(ACCESS).Feed})
    async with (
        client.connect("/feed", headers=headers) as first,
        client.connect("/feed", headers=headers) as second,
    ):
        await module(OUTSIDE).lock(ann)
        for ws in (first, second):
            assert await ws.receive() == "Hello, ann."
            assert await ending(ws) == (4001, "Your account is locked.")


# Groups, tasks, limits


async def test_groups():
    page = module("howto/channels-groups")
    client = serve({"rooms/<room>": page.Room, "news": page.News})
    async with (
        client.connect("/rooms/red") as ann,
        client.connect("/rooms/red") as bob,
        client.connect("/rooms/blue") as eve,
        client.connect("/news") as reader,
    ):
        await ann.send("hello")
        for ws in (ann, bob):
            assert await ws.receive() == '{"room":"room.red","text":"hello"}'
        await eve.send("alone")
        assert await eve.receive() == '{"room":"room.blue","text":"alone"}'
        await page.announce("It works")
        assert await reader.receive() == "It works"


async def test_who_is_there(ann):
    headers = await sync_to_async(session_of)(ann)
    bob = await User.objects.acreate(username="bob")
    client = serve({"rooms/<room>": module("howto/presence").Room})
    async with client.connect("/rooms/red", headers=headers) as first:
        news = sorted([await first.receive(), await first.receive()])  # its own may come before
        assert news == [f'{{"here":[[{ann.pk},"ann"]]}}', f'{{"joined":[{ann.pk},"ann"]}}']
        headers = await sync_to_async(session_of)(bob)
        async with client.connect("/rooms/red", headers=headers):
            assert await first.receive() == f'{{"joined":[{bob.pk},"bob"]}}'
        assert await first.receive() == f'{{"left":[{bob.pk},"bob"]}}'
    await check(client, "/rooms/red", 401)


async def test_the_language_of_an_event():
    class Confirming(module("topics/how-a-message-travels").Announcements):  # type: ignore[misc]
        async def receive(self, data):
            await super().receive(data)
            await self.send("set")

    client = serve(Confirming)
    async with client.connect("/") as german, client.connect("/") as english:
        for ws, language in ((german, "de"), (english, "en")):
            await ws.send(language)
            assert await ws.receive() == "set"
        event = {"type": "announcement", "text": "Monday"}
        await get_channel_layer().group_send("announcements", event)
        assert [await german.receive(), await english.receive()] == ["Montag", "Monday"]


async def test_which_context_variables_an_event_sees():
    spoken = ContextVar("spoken", default="nothing")

    class Speaking(GenericWebsocket):
        async def connect(self):
            spoken.set("before")
            await self.accept()
            spoken.set("after")

        async def receive(self, data: str | bytes):
            await self.send(f"hook: {spoken.get()}")
            await self.channel_layer.send(self.channel_name, {"type": "an.event"})

        async def an_event(self, event):
            await self.send(f"event: {spoken.get()}")
            spoken.set("in an event")

    async with serve(Speaking).connect("/") as ws:
        for seen in ("before", "in an event"):
            await ws.send("go")
            assert [await ws.receive(), await ws.receive()] == ["hook: after", f"event: {seen}"]


async def test_a_task_ends_with_its_connection():
    ended: list[str] = []

    class Watched(module("topics/how-a-message-travels").Ticker):  # type: ignore[misc]
        async def tick(self):
            try:
                await super().tick()
            finally:
                ended.append("task")

        async def disconnect(self, code):
            ended.append("connection")

    await check(serve(Watched), "/", "0")
    assert ended == ["task", "connection"]


async def test_limits():
    client = serve(module("howto/limits").websocket_urls)
    async with client.connect("/ws/chat") as connection:
        for number in range(21):
            await connection.send(str(number))
        assert [await connection.receive() for _ in range(20)] == [str(n) for n in range(20)]
        assert (await ending(connection))[0] == 1008
    async with client.connect("/ws/pointer") as connection:
        await connection.send("1,2")
        assert await connection.receive() == "1,2"


# Testing


def test_the_tests_of_the_page_in_a_project_set_up_as_it_says(tmp_path):
    settings = block("howto/test", "DJANGO_SETTINGS_MODULE").replace('"project.', '"tests.project.')
    (tmp_path / "pyproject.toml").write_text(settings)
    code = "\n".join(blocks("howto/test", "python"))
    (tmp_path / "test_page.py").write_text(code)
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"\n{code.count('async def test_')} passed in " in done.stdout, done.stderr
