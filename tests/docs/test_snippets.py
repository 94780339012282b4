"""The snippets of the documentation, run as they are printed there."""

import importlib
import inspect
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.cache import cache
from django.test import AsyncRequestFactory, override_settings

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


async def test_sync_code_sends_over_redis(parcels, redis_server):
    backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
    layers = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [redis_server.url]}}}
    with override_settings(CHANNEL_LAYERS=layers):
        async with parcels.connect("/parcels/10") as ws:
            assert await ws.receive() == "ready"
            await sync_to_async(snippet("outside").lost, thread_sensitive=False)(10)
            assert await ws.receive() == b"\x00"


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
        ("/seats/five/2024-02-29", 403),
        ("/seats/5/2024-02-30", 403),
        ("/seats/5/2024-02-29/up", 403),
        ("/paint/green/7e82d57c-9ec0-4787-b019-16910a9f45aa/1", 403),
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
    return serve({"inbox": snippet("access").Inbox, "machine": snippet("access").Machine})


@pytest.mark.django_db(transaction=True)
async def test_a_ticket_is_a_user(access):
    user = await get_user_model().objects.acreate(username="ann")
    ticket = signing.dumps(user.pk, salt="websocket")
    options = {"query_params": {"ticket": ticket}}
    assert await first(access, "/inbox", **options) == "Hello, ann."
    for origin, allowed in [("https://example.org", True), ("https://evil.example", False)]:
        options["headers"] = {"origin": origin}
        if allowed:
            assert await first(access, "/inbox", **options) == "Hello, ann."
        else:
            assert await refusal(access, "/inbox", **options) == 403


async def test_no_ticket_and_a_bad_ticket(access, caplog):
    caplog.set_level(logging.INFO, "panther_channels")
    assert await refusal(access, "/inbox") == 403
    assert await refusal(access, "/inbox", query_params={"ticket": "forged"}) == 403
    assert [record.getMessage() for record in caplog.records] == [
        "WebSocket '/inbox' was refused: 'Permission Denied'",
        "WebSocket '/inbox' was refused: 'The ticket is not good.'",
    ]


async def test_a_shared_key_is_a_machine(access):
    assert await first(access, "/machine", headers={"X-Key": "k-2"}) == "door"
    assert await refusal(access, "/machine", headers={"X-Key": "k-3"}) == 403
    assert await refusal(access, "/machine") == 403


@override_settings(WS_AUTHENTICATION="docs.snippets.access.BySharedKey")
async def test_the_authentication_of_the_settings():
    class Plain(snippet("access").GenericWebsocket):  # type: ignore[misc]
        async def connect(self):
            await self.accept()
            await self.send(self.user)

    client = serve({"": Plain})
    assert await first(client, "/", headers={"X-Key": "k-1"}) == "printer"
    assert await first(client, "/") == "null"


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

    async with serve({"": Watched}).connect("/") as ws:
        assert await ws.receive() == "0"
    assert tickers[0].ticking.cancelling()


# Testing


@pytest.mark.parametrize(
    "test",
    [item for name, item in vars(snippet("testing")).items() if name.startswith("test_")],
    ids=lambda test: test.__name__,
)
async def test_the_tests_of_the_snippet(test: Callable[[], Any]):
    assert inspect.iscoroutinefunction(test)
    await test()
