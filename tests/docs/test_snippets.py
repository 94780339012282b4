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

from panther_channels.asgi import get_asgi_application
from panther_channels.test import (
    ConnectionClosed,
    HandshakeRejected,
    TestConnection,
    WebsocketClient,
)
from panther_channels.websocket import send_message_to_websocket

MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


def snippet(name: str) -> ModuleType:
    return importlib.import_module(f"docs.snippets.{name}")


def serve(urls: dict[str, Any]) -> WebsocketClient:
    return WebsocketClient(get_asgi_application(urls))


async def refusal(client: WebsocketClient, path: str, **options: Any) -> int:
    with pytest.raises(HandshakeRejected) as caught:
        async with client.connect(path, **options):
            pass
    return caught.value.status


async def first(client: WebsocketClient, path: str, **options: Any) -> str | bytes:
    async with client.connect(path, **options) as ws:
        return await ws.receive()


async def ending(ws: TestConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await ws.receive()
    return caught.value.code, caught.value.reason


# Accepting and rejecting


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"query_params": {"name": "nobody"}},
        {"query_params": {"name": "Ann"}, "headers": {"user-agent": "scraper"}},
    ],
)
async def test_the_lounge_refuses_in_three_ways(options):
    assert await refusal(serve({"": snippet("accept_and_reject").Lounge}), "/", **options) == 403


async def test_the_lounge_accepts():
    client = serve({"": snippet("accept_and_reject").Lounge})
    async with client.connect("/", query_params={"name": "Ann"}) as ws:
        assert ws.close_code is None


async def test_a_reason_after_accepting():
    client = serve({"": snippet("accept_and_reject").Reasoned})
    async with client.connect("/") as ws:
        assert await ending(ws) == (3003, "Buy a ticket first.")


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["chat.v1", "chat.v2"], "chat.v2"), (["other"], None), ([], None)]
)
async def test_subprotocol_and_headers(offered, chosen):
    client = serve({"": snippet("accept_and_reject").Versioned})
    async with client.connect("/", subprotocols=offered) as ws:
        assert ws.subprotocol == chosen
        assert (b"x-served-by", b"lounge") in ws.headers


# From outside


@pytest.fixture
def parcels() -> WebsocketClient:
    return serve({"parcels/<number>": snippet("outside").Parcel})


@override_settings(CHANNEL_LAYERS=MEMORY)
async def test_a_view_sends(parcels):
    async with parcels.connect("/parcels/7") as ws:
        assert await ws.receive() == "ready"
        request = AsyncRequestFactory().get("/")
        response = await snippet("outside").moved(request, number=7)
        assert response.status_code == 204
        assert await ws.receive() == '{"parcel":7,"place":"in the van"}'
    assert await cache.aget("parcel-7") is None


@override_settings(CHANNEL_LAYERS=MEMORY)
async def test_a_view_closes(parcels):
    async with parcels.connect("/parcels/8") as ws:
        assert await ws.receive() == "ready"
        await snippet("outside").delivered(AsyncRequestFactory().get("/"), number=8)
        assert await ending(ws) == (1000, "Your parcel is there.")


async def test_a_view_that_finds_nobody(parcels):
    response = await snippet("outside").moved(AsyncRequestFactory().get("/"), number=9)
    assert response.status_code == 204


@pytest.fixture(params=["memory", "pubsub", "local"])
def each_layer(request, folder) -> Iterator[None]:
    layers: dict[str, Any] = {
        "memory": MEMORY["default"],
        "local": {
            "BACKEND": "panther_channels.layers.LocalChannelLayer",
            "CONFIG": {"directory": folder},
        },
    }
    if request.param == "pubsub":
        layers["pubsub"] = {
            "BACKEND": "panther_channels.layers.RedisChannelLayer",
            "CONFIG": {"hosts": [request.getfixturevalue("redis_server").url]},
        }
    with override_settings(CHANNEL_LAYERS={"default": layers[request.param]}):
        yield


@pytest.mark.usefixtures("each_layer")
async def test_a_sync_view_sends_and_closes(parcels):
    async with parcels.connect("/parcels/10") as ws:
        assert await ws.receive() == "ready"
        await sync_to_async(snippet("outside_sync").lost)(RequestFactory().get("/"), 10)
        assert await ws.receive() == '{"parcel":10,"place":"unknown"}'
        assert await ending(ws) == (1000, "We are sorry.")


@pytest.mark.usefixtures("each_layer")
async def test_a_message_after_the_commit(ann):
    ids: list[str] = []

    class Told(snippet("overridden_send").GenericWebsocket):  # type: ignore[misc]
        async def connect(self):
            await self.accept()
            ids.append(self.connection_id)

    def fail() -> None:
        with transaction.atomic():
            snippet("outside_sync").rename(ann, "Eve", ids[0])
            transaction.set_rollback(True)

    async with serve({"": Told}).connect("/") as ws:
        await sync_to_async(fail)()
        await sync_to_async(snippet("outside_sync").rename)(ann, "Ann", ids[0])
        assert await ws.receive() == '{"name":"Ann"}'
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


async def test_an_overridden_send():
    ids: list[str] = []

    class Told(snippet("overridden_send").Stamped):  # type: ignore[misc]
        async def connect(self):
            await super().connect()
            ids.append(self.connection_id)

    client = serve({"": Told})
    with override_settings(CHANNEL_LAYERS=MEMORY):
        async with client.connect("/") as ws:
            await send_message_to_websocket(ids[0], "from outside")
            assert await ws.receive() == '{"number":1,"data":"from outside"}'


# Path variables and URLs


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/seats/5/2024-02-29", '{"row":5,"day":"2024-02-29","side":"left"}'),
        ("/seats/5/2024-02-29/right/", '{"row":5,"day":"2024-02-29","side":"right"}'),
        ("/paint/red/7e82d57c-9ec0-4787-b019-16910a9f45aa/TRUE", "RED 4 True"),
        ("/any/5/a-b", '{"number":5,"word":"a-b"}'),
    ],
)
async def test_path_variables(path, answer):
    assert await first(serve(snippet("path_variables").websocket_urls), path) == answer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/seats/five/2024-02-29", 400),
        ("/seats/5/2024-02-30", 400),
        ("/seats/5/2024-02-29/up", 400),
        ("/paint/green/7e82d57c-9ec0-4787-b019-16910a9f45aa/1", 400),
        ("/any/five/a", 404),
    ],
)
async def test_path_variables_that_do_not_fit(path, status):
    assert await refusal(serve(snippet("path_variables").websocket_urls), path) == status


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", '["/",{}]'),
        ("/ws/chat", '["/ws/chat",{}]'),
        ("/ws/chat/lobby/", '["/ws/chat/lobby/",{}]'),
        ("/ws/chat/kitchen", '["/ws/chat/kitchen",{"room":"kitchen"}]'),
        ("/ws/users/5/inbox", '["/ws/users/5/inbox",{"user_id":"5"}]'),
    ],
)
async def test_urls(path, answer):
    assert await first(serve(snippet("routing").websocket_urls), path) == answer


async def test_urls_that_are_not_there():
    client = serve(snippet("routing").websocket_urls)
    for path in ("/ws", "/ws/chat/lobby/more", "/WS/chat", "/ws/users//inbox"):
        assert await refusal(client, path) == 404


async def test_an_asgi_application_among_the_urls():
    async with serve(snippet("routing").websocket_urls).connect("/ws/bare") as ws:
        assert await ending(ws) == (1000, "that was all")


async def test_a_router_of_ones_own():
    client = WebsocketClient(snippet("own_router").application)
    assert await first(client, "/ws/hello") == "hello"


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
    """A class with an authentication of the snippet; as it is, for setting up resets logging."""
    module = snippet("access")
    greeting = type("Greeter", (module.Greeting,), {"auth": getattr(module, auth)})
    return WebsocketClient(greeting.as_asgi())  # type: ignore[attr-defined]


async def test_three_carriers(access, ann):
    token = str(AccessToken.for_user(ann))
    for options in (
        {"headers": await sync_to_async(session_of)(ann)},
        {"subprotocols": ["bearer", token]},
        {"headers": {"authorization": f"Bearer {token}"}},
    ):
        assert await first(access, "/ws/feed", **options) == "Hello, ann."
    assert await first(access, "/ws/inbox", subprotocols=["bearer", token]) == "Hello, ann."
    assert await refusal(access, "/ws/inbox", headers={"authorization": f"Bearer {token}"}) == 403
    assert await refusal(access, "/ws/feed", headers={"authorization": "Bearer no-token"}) == 401


async def test_nobody_and_a_bad_token_in_the_log(access, caplog, transactional_db):
    caplog.set_level(logging.INFO, "panther_channels")
    assert await refusal(access, "/ws/inbox") == 403
    assert await refusal(access, "/ws/inbox", subprotocols=["bearer", "forged"]) == 401
    assert [record.getMessage() for record in caplog.records] == [
        "WebSocket '/ws/inbox' was refused: 'Permission Denied'",
        "SubprotocolJWTAuthentication refused a connection: AccessToken: Token is invalid",
        "WebSocket '/ws/inbox' was refused: 'Authentication Error'",
    ]


async def test_a_cookie_of_another_name(ann):
    headers = {"cookie": f"jwt={AccessToken.for_user(ann)}"}
    assert await first(greeter("NamedCookie"), "/", headers=headers) == "Hello, ann."


async def test_a_token_for_sockets_only(ann, caplog):
    caplog.set_level(logging.INFO, "panther_channels")
    client = greeter("ForSockets")
    token = AccessToken.for_user(ann)
    assert await refusal(client, "/", headers={"authorization": f"Bearer {token}"}) == 401
    assert "made for something else" in caplog.text
    token["use"] = "websocket"
    assert await first(client, "/", headers={"authorization": f"Bearer {token}"}) == "Hello, ann."


async def test_a_ticket_is_a_user(ann, caplog):
    caplog.set_level(logging.INFO, "panther_channels")
    client = greeter("TicketAuthentication")
    ticket = signing.dumps(ann.pk, salt="websocket")
    assert await first(client, "/", query_params={"token": ticket}) == "Hello, ann."
    assert await refusal(client, "/", query_params={"token": f"{ticket}x"}) == 401
    assert "the ticket is forged" in caplog.text
    gone = signing.dumps(ann.pk + 1, salt="websocket")
    assert await refusal(client, "/", query_params={"token": gone}) == 401
    assert "user has gone" in caplog.text


async def test_a_shared_key_is_a_machine(access):
    assert await first(access, "/ws/machine", headers={"X-Key": "k-2"}) == "door"
    assert await first(access, "/ws/machine", headers={"X-Badge": "cleaner"}) == "cleaner"
    both = {"X-Key": "k-3", "X-Badge": "cleaner"}
    assert await refusal(access, "/ws/machine", headers=both) == 401
    assert await refusal(access, "/ws/machine") == 403


@pytest.mark.parametrize(
    ("staff", "allowed", "answer"), [(0, 0, 403), (1, 0, None), (0, 1, None), (1, 1, None)]
)
async def test_permissions_combined(access, ann, staff, allowed, answer):
    def prepare() -> dict[str, str]:
        ann.is_staff = bool(staff)
        ann.save()
        if allowed:
            ann.user_permissions.add(Permission.objects.get(codename="change_user"))
        return session_of(ann)

    headers = await sync_to_async(prepare)()
    if answer is None:
        assert await first(access, "/ws/editor", headers=headers) == "Hello, ann."
    else:
        assert await refusal(access, "/ws/editor", headers=headers) == answer
    assert await refusal(access, "/ws/editor") == 403


async def test_a_list_of_permissions(access, ann):
    headers = await sync_to_async(session_of)(ann)
    answer = "This is your page, ann."
    assert await first(access, "/ws/pages/ann", headers=headers) == answer
    assert await refusal(access, "/ws/pages/bob", headers=headers) == 403
    assert await refusal(access, "/ws/pages/ann", headers={**headers, "X-Day": "Sunday"}) == 403
    ann.is_staff = True
    await ann.asave()
    assert await refusal(access, "/ws/pages/ann", headers=headers) == 403


async def test_a_function_beside_a_class():
    module = snippet("access")
    members = {"auth": module.ByBadge, "permissions": module.IsAuthenticated & module.office_hours}
    client = serve({"": type("Combined", (module.Machine,), members)})
    assert await first(client, "/", headers={"X-Badge": "ann"}) == "ann"
    assert await refusal(client, "/", headers={"X-Badge": "ann", "X-Day": "Sunday"}) == 403
    assert await refusal(client, "/") == 403


@override_settings(
    WS_AUTHENTICATION=["docs.snippets.access.by_shared_key", "docs.snippets.access.ByBadge"]
)
async def test_the_authentication_of_the_settings():
    class Plain(snippet("access").GenericWebsocket):  # type: ignore[misc]
        async def connect(self):
            await self.accept()
            await self.send(self.user)

    client = serve({"": Plain})
    assert await first(client, "/", headers={"X-Key": "k-1"}) == "printer"
    assert await first(client, "/", headers={"X-Badge": "cleaner"}) == "cleaner"
    assert await first(client, "/") == "null"


@pytest.mark.parametrize(
    ("allowed", "origin", "answer"),
    [
        (None, "http://testserver", 101),
        (None, "https://testserver:8443", 403),
        (None, "https://evil.example", 403),
        (None, "null", 403),
        (["https://app.example.com"], "https://app.example.com", 101),
        (["https://app.example.com"], "https://app.example.com:443", 101),
        (["https://app.example.com"], "http://app.example.com", 403),
        (["https://app.example.com"], "http://testserver", 403),
        (["https://*.example.com"], "https://a.b.example.com", 101),
        (["https://*.example.com"], "https://example.com", 403),
        (["*"], "null", 101),
    ],
)
async def test_what_the_page_says_about_origins(echo, allowed, origin, answer):
    with override_settings(WS_ALLOWED_ORIGINS=allowed):
        if answer == 101:
            async with echo.connect("/echo", headers={"origin": origin}) as ws:
                assert ws.close_code is None
        else:
            assert await refusal(echo, "/echo", headers={"origin": origin}) == answer


async def test_what_the_page_says_about_hosts(echo, caplog):
    assert await refusal(echo, "/echo", headers={"host": "evil.example"}) == 403
    assert "the host 'evil.example' is not in ALLOWED_HOSTS" in caplog.text
    with override_settings(ALLOWED_HOSTS=["*"]):
        for origin, answer in [("https://shop.example", 101), ("https://evil.example", 403)]:
            headers = {"host": "shop.example", "origin": origin}
            if answer == 101:
                async with echo.connect("/echo", headers=headers) as ws:
                    assert ws.close_code is None
            else:
                assert await refusal(echo, "/echo", headers=headers) == answer


@pytest.fixture
def echo() -> WebsocketClient:
    # In a fixture: it sets Django up again, whose logging would push that of pytest out.
    return serve({"echo": snippet("quickstart.websockets").Echo})


@override_settings(
    WS_MIDDLEWARES=["docs.snippets.middlewares.Timed", "docs.snippets.middlewares.OnlyLocal"]
)
async def test_middlewares(echo, caplog):
    caplog.set_level(logging.INFO, "docs.snippets.middlewares")
    async with echo.connect("/echo"):
        assert not caplog.records
    (record,) = caplog.records
    assert record.getMessage().startswith("/echo: Closed after 0.")


@override_settings(WS_MIDDLEWARES=["docs.snippets.middlewares.OnlyLocal"])
async def test_a_middleware_refuses():
    application = get_asgi_application({"echo": snippet("quickstart.websockets").Echo})

    async def from_afar(scope, receive, send):
        await application({**scope, "client": ("192.0.2.1", 5)}, receive, send)

    assert await refusal(WebsocketClient(from_afar), "/echo") == 403


# Channels


@override_settings(CHANNEL_LAYERS=MEMORY)
async def test_groups():
    client = serve(snippet("groups").websocket_urls)
    async with (
        client.connect("/rooms/red") as ann,
        client.connect("/rooms/red") as bob,
        client.connect("/rooms/blue") as eve,
    ):
        await ann.send("hello")
        for ws in (ann, bob):
            assert await ws.receive() == '{"room":"room.red","text":"hello"}'
        await eve.send("alone")
        assert await eve.receive() == '{"room":"room.blue","text":"alone"}'


@override_settings(CHANNEL_LAYERS=MEMORY)
async def test_an_announcement():
    async with serve(snippet("groups").websocket_urls).connect("/news") as ws:
        await snippet("announce").announce("It works")
        assert await ws.receive() == "It works"


async def test_a_task_ends_with_its_connection():
    tickers = []

    class Watched(snippet("lifecycle").Ticker):  # type: ignore[misc]
        async def connect(self):
            await super().connect()
            tickers.append(self)

        async def disconnect(self, code):
            assert not self._tasks._tasks

    async with serve({"": Watched}).connect("/") as ws:
        assert await ws.receive() == "0"
        (ticking,) = tickers[0]._tasks._tasks
    assert ticking.cancelled()


# Testing


@pytest.mark.parametrize(
    "test",
    [item for name, item in vars(snippet("testing")).items() if name.startswith("test_")],
    ids=lambda test: test.__name__,
)
async def test_the_tests_of_the_snippet(test: Callable[[], Any]):
    assert inspect.iscoroutinefunction(test)
    await test()


async def test_limits():
    client = serve(snippet("limits").websocket_urls)
    async with client.connect("/ws/chat") as connection:
        for number in range(21):
            await connection.send(str(number))
        assert [await connection.receive() for _ in range(20)] == [str(n) for n in range(20)]
        with pytest.raises(ConnectionClosed) as caught:
            await connection.receive()
        assert caught.value.code == 1008
    async with client.connect("/ws/pointer") as connection:
        await connection.send("1,2")
        assert await connection.receive() == "1,2"
