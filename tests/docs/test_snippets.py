"""The snippets of the documentation, run as they are printed there."""

import copy
import importlib
import inspect
import json
import logging
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.core.cache import cache
from django.core.checks import run_checks
from django.db import transaction
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from rest_framework_simplejwt.tokens import AccessToken

from panther_channels.test import WebsocketClient
from panther_channels.websocket import send_message_to_websocket
from tests.docs.client import check, ending, serve


def snippet(name: str) -> ModuleType:
    return importlib.import_module(f"docs.snippets.{name}")


@pytest.fixture(autouse=True)
def _layer(folder) -> Iterator[None]:
    layer = {
        "BACKEND": "panther_channels.layers.LocalChannelLayer",
        "CONFIG": {"directory": folder},
    }
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        yield


NAMED: dict[str, Any] = {"query_params": {"name": "Ann"}}
SEAT = '{"row":5,"day":"2024-02-29","side":"%s"}'
ORDER = "7e82d57c-9ec0-4787-b019-16910a9f45aa"


@pytest.mark.parametrize(
    ("name", "path", "options", "expected"),
    [
        ("accept_and_reject.Lounge", "/", NAMED, 101),
        ("accept_and_reject.Lounge", "/", {}, 403),
        ("accept_and_reject.Lounge", "/", {"query_params": {"name": "nobody"}}, 403),
        ("accept_and_reject.Lounge", "/", {**NAMED, "headers": {"user-agent": "scraper"}}, 403),
        ("path_variables", "/seats/5/2024-02-29", {}, SEAT % "left"),
        ("path_variables", "/seats/5/2024-02-29/right/", {}, SEAT % "right"),
        ("path_variables", f"/paint/red/{ORDER}/TRUE", {}, "RED 4 True"),
        ("path_variables", "/any/5/a-b", {}, '{"number":5,"word":"a-b"}'),
        ("path_variables", "/seats/five/2024-02-29", {}, 400),
        ("path_variables", "/seats/5/2024-02-30", {}, 400),
        ("path_variables", "/seats/5/2024-02-29/up", {}, 400),
        ("path_variables", f"/paint/green/{ORDER}/1", {}, 400),
        ("path_variables", "/any/five/a", {}, 404),
        ("routing", "/", {}, '["/",{}]'),
        ("routing", "/ws/chat", {}, '["/ws/chat",{}]'),
        ("routing", "/ws/chat/lobby/", {}, '["/ws/chat/lobby/",{}]'),
        ("routing", "/ws/chat/kitchen", {}, '["/ws/chat/kitchen",{"room":"kitchen"}]'),
        ("routing", "/ws/users/5/inbox", {}, '["/ws/users/5/inbox",{"user_id":"5"}]'),
        *(("routing", path, {}, 404) for path in ("/ws", "/ws/chat/lobby/more", "/WS/chat")),
        ("routing", "/ws/users//inbox", {}, 404),
    ],
)
async def test_what_a_page_says_of_a_path(name, path, options, expected):
    module, _, item = name.partition(".")
    urls = getattr(snippet(module), item or "websocket_urls")
    await check(serve(urls), path, expected, **options)


async def test_a_reason_after_accepting():
    async with serve(snippet("accept_and_reject").Reasoned).connect("/") as ws:
        assert await ending(ws) == (3003, "Buy a ticket first.")


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["chat.v1", "chat.v2"], "chat.v2"), (["other"], None), ([], None)]
)
async def test_subprotocol_and_headers(offered, chosen):
    client = serve(snippet("accept_and_reject").Versioned)
    async with client.connect("/", subprotocols=offered) as ws:
        assert ws.subprotocol == chosen
        assert (b"x-served-by", b"lounge") in ws.headers


async def test_an_asgi_application_among_the_urls():
    async with serve(snippet("routing").websocket_urls).connect("/ws/bare") as ws:
        assert await ending(ws) == (1000, "that was all")


async def test_a_router_of_ones_own():
    await check(WebsocketClient(snippet("own_router").application), "/ws/hello", "hello")


# From outside


@pytest.fixture
def parcels() -> WebsocketClient:
    return serve({"parcels/<number>": snippet("outside").Parcel})


async def test_views_send_and_close(parcels):
    views, request = snippet("outside"), AsyncRequestFactory().get("/")
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
        await sync_to_async(snippet("outside_sync").lost)(RequestFactory().get("/"), 10)
        assert await ws.receive() == '{"parcel":10,"place":"unknown"}'
        assert await ending(ws) == (1000, "We are sorry.")


async def test_a_message_after_the_commit_and_an_overridden_send(ann):
    ids: list[str] = []

    class Told(snippet("overridden_send").Stamped):  # type: ignore[misc]
        async def connect(self):
            await super().connect()
            ids.append(self.connection_id)

    def fail() -> None:
        with transaction.atomic():
            snippet("outside_sync").rename(ann, "Eve", ids[0])
            transaction.set_rollback(True)

    async with serve(Told).connect("/") as ws:
        await sync_to_async(fail)()
        await sync_to_async(snippet("outside_sync").rename)(ann, "Ann", ids[0])
        assert await ws.receive() == '{"number":1,"data":{"name":"Ann"}}'
        await send_message_to_websocket(ids[0], "from outside")
        assert await ws.receive() == '{"number":2,"data":"from outside"}'
    assert await User.objects.filter(first_name="Ann").aexists()


@pytest.mark.parametrize("name", ["quickstart.settings_redis", "settings_prefix"])
async def test_the_settings_of_redis(parcels, redis_server, name):
    layers = copy.deepcopy(snippet(name).CHANNEL_LAYERS)
    with override_settings(CHANNEL_LAYERS=layers):
        messages = run_checks()
    assert [item.id for item in messages if "panther_channels" in str(item.id)] == []
    text = json.dumps(layers).replace("redis://127.0.0.1:6379", redis_server.url)
    with override_settings(CHANNEL_LAYERS=json.loads(text)):
        async with parcels.connect("/parcels/11") as ws:
            assert await ws.receive() == "ready"
            await snippet("outside").moved(AsyncRequestFactory().get("/"), number=11)
            assert await ws.receive() == '{"parcel":11,"place":"in the van"}'


# Authentication, permissions, middlewares


@pytest.fixture
def access() -> WebsocketClient:
    return serve(snippet("access").websocket_urls)


@pytest.fixture
def ann(transactional_db) -> User:
    return User.objects.create_user(username="ann", password="secret")


def session_of(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    return {"cookie": f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"}


def greeter(auth: str) -> WebsocketClient:
    """A class with an authentication of the snippet."""
    module = snippet("access")
    return serve(type("Greeter", (module.Greeting,), {"auth": getattr(module, auth)}))


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
        ({}, 403),
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
    await check(access, "/ws/editor", 403)


async def test_a_list_of_permissions(access, ann):
    headers = await sync_to_async(session_of)(ann)
    await check(access, "/ws/pages/ann", "This is your page, ann.", headers=headers)
    await check(access, "/ws/pages/bob", 403, headers=headers)
    await check(access, "/ws/pages/ann", 403, headers={**headers, "X-Day": "Sunday"})
    ann.is_staff = True
    await ann.asave()
    await check(access, "/ws/pages/ann", 403, headers=headers)


async def test_a_function_beside_a_class():
    module = snippet("access")
    members = {"auth": module.ByBadge, "permissions": module.IsAuthenticated & module.office_hours}
    client = serve(type("Combined", (module.Machine,), members))
    await check(client, "/", "ann", headers={"X-Badge": "ann"})
    await check(client, "/", 403, headers={"X-Badge": "ann", "X-Day": "Sunday"})
    await check(client, "/", 403)


@override_settings(
    WS_AUTHENTICATION=["docs.snippets.access.by_shared_key", "docs.snippets.access.ByBadge"]
)
async def test_the_authentication_of_the_settings():
    class Plain(snippet("access").GenericWebsocket):  # type: ignore[misc]
        async def connect(self):
            await self.accept()
            await self.send(self.user)

    await check(serve(Plain), "/", "printer", headers={"X-Key": "k-1"})
    await check(serve(Plain), "/", "cleaner", headers={"X-Badge": "cleaner"})
    await check(serve(Plain), "/", "null")


@override_settings(
    WS_MIDDLEWARES=["docs.snippets.middlewares.Timed", "docs.snippets.middlewares.OnlyLocal"]
)
async def test_middlewares(caplog):
    application = snippet("quickstart.websockets").Echo.as_asgi()
    caplog.set_level(logging.INFO, "docs.snippets.middlewares")
    await check(WebsocketClient(application), "/echo", 101)
    (record,) = caplog.records
    assert record.getMessage().startswith("/echo: Closed after 0.")

    async def from_afar(scope, receive, send):
        await application({**scope, "client": ("192.0.2.1", 5)}, receive, send)

    await check(WebsocketClient(from_afar), "/echo", 403)


# Groups, tasks, limits


async def test_groups():
    client = serve(snippet("groups").websocket_urls)
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
        await snippet("announce").announce("It works")
        assert await reader.receive() == "It works"


async def test_a_task_ends_with_its_connection():
    ended: list[str] = []

    class Watched(snippet("lifecycle").Ticker):  # type: ignore[misc]
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
    client = serve(snippet("limits").websocket_urls)
    async with client.connect("/ws/chat") as connection:
        for number in range(21):
            await connection.send(str(number))
        assert [await connection.receive() for _ in range(20)] == [str(n) for n in range(20)]
        assert (await ending(connection))[0] == 1008
    async with client.connect("/ws/pointer") as connection:
        await connection.send("1,2")
        assert await connection.receive() == "1,2"


# Testing


@pytest.mark.parametrize(
    "test",
    [item for name, item in vars(snippet("testing")).items() if name.startswith("test_")],
    ids=lambda test: test.__name__,
)
async def test_the_tests_of_the_snippet(test: Callable[[], Any]):
    assert inspect.iscoroutinefunction(test)
    await test()
