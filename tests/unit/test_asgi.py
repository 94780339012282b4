import asyncio
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from channels.sessions import CookieMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, override_settings
from django.urls import path, reverse

from panther_channels.asgi import get_asgi_application
from panther_channels.test import HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer


class Echo(GenericWebsocket):
    async def connect(self, **kwargs):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("django")


urlpatterns = [path("", view, name="root"), path("both", view), path("slashed/", view)]
URLS = {"ws/<name>": Echo, "only": Echo, "both": Echo, "slashed": Echo}
ROUTER = {"": URLRouter([path("chat/", Echo.as_asgi())])}
# Channels' middleware for cookies, around routers at the root and in each other.
WRAPPED = {
    "": CookieMiddleware(ROUTER[""]),
    "deep": CookieMiddleware(URLRouter([path("a/", CookieMiddleware(ROUTER[""]))])),
}
pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def application() -> Any:
    """Built before the test, since Django then sets logging up, to which caplog is added."""
    return get_asgi_application(URLS)


async def get(
    target: str, application: Any, root_path: str = ""
) -> tuple[int, Any, dict[bytes, bytes]]:
    scope = {**AsyncRequestFactory().get(target).scope, "root_path": root_path}
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "http.request", "body": b""})
    start = await communicator.receive_output(5)
    body = await communicator.receive_output(5)
    await communicator.wait(5)
    return start["status"], body["body"], dict(start["headers"])


@pytest.mark.parametrize(
    ("target", "root_path", "urls", "status"),
    [
        ("/", "", URLS, 200),
        ("/both", "", URLS, 200),
        ("/slashed/", "", URLS, 200),
        ("/nowhere", "", URLS, 404),
        ("/ws", "", URLS, 404),
        ("/ws/a/b", "", URLS, 404),
        ("/only", "", URLS, 426),
        ("/only/", "", URLS, 426),
        ("/ws/a", "", URLS, 426),
        ("/app/", "/app", URLS, 200),
        ("/app/both", "/app", URLS, 200),
        ("/app/only", "/app", URLS, 426),
        ("/app/x", "/app", URLS, 404),
        ("/application/only", "/app", URLS, 404),
        ("/apponly", "/app", URLS, 404),
        ("/app/only", "", URLS, 404),
        # A proxy may have taken it off; twice is another path.
        ("/both", "/app", URLS, 200),
        ("/only", "/app", URLS, 426),
        ("/app/app/only", "/app", URLS, 404),
        ("/app/v1/only", "/app/v1", URLS, 426),
        ("/app/only", "/app/v1", URLS, 404),
        ("/app/chat/", "/app", WRAPPED, 426),
        # The root path is no part of the URL.
        ("/app/only", "/app", {"app/only": Echo}, 404),
        # A router at the root leaves unknown paths to Django.
        ("/nowhere", "", ROUTER, 404),
        *(("/chat/", "", urls, 426) for urls in (ROUTER, WRAPPED)),
        *((target, "", WRAPPED, 404) for target in ("/nowhere", "/deep/nowhere/", "/deep/a/")),
        ("/deep/a/chat/", "", WRAPPED, 426),
    ],
)
@pytest.mark.parametrize("is_forced", [False, True], ids=["root path", "FORCE_SCRIPT_NAME"])
async def test_http(target: str, root_path: str, urls: Any, status: int, is_forced: bool):
    application = get_asgi_application(urls)
    if is_forced:
        forced, root_path = root_path, "/overruled" if root_path else ""
    with override_settings(FORCE_SCRIPT_NAME=forced if is_forced else None):
        assert (await get(target, application, root_path))[0] == status
        async with Peer(application, target, root_path=root_path) as peer:
            is_websocket = (await peer.next())["type"] == "websocket.accept"
    assert is_websocket == (status == 426 or target.endswith(("/both", "/slashed/")))


@pytest.mark.parametrize("prefix", ["/app", "/app/"])
async def test_links_lead_below_the_path(prefix: str):
    class Linking(GenericWebsocket):
        async def connect(self):
            await self.accept()
            await self.send([reverse("root"), self.path])

    application = get_asgi_application({"only": Linking})
    async with Peer(application, "/app/only", root_path=prefix) as peer:
        await peer.next()
        assert (await peer.next())["text"] == '["/app/","/app/only"]'


async def test_the_demand_to_upgrade(application: Any):
    _status, body, headers = await get("/only", application)
    assert set(json.loads(body)) == {"detail"}
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body)
    # RFC 9110 section 15.5.22
    assert (headers[b"upgrade"], headers[b"connection"]) == (b"websocket", b"upgrade")


async def test_django_appends_the_slash_to_its_own_url(application: Any):
    with override_settings(MIDDLEWARE=["django.middleware.common.CommonMiddleware"]):
        status, _body, headers = await get("/slashed", get_asgi_application(URLS))
        assert (status, headers[b"Location"]) == (301, b"/slashed/")
    with override_settings(APPEND_SLASH=False):
        assert (await get("/slashed", application))[0] == 426


@pytest.mark.parametrize("extensions", [{}, None, {"other": {}}])
async def test_an_unknown_path_is_refused_with_one_line(
    application: Any, extensions: Any, caplog: pytest.LogCaptureFixture
):
    async with Peer(application, "/no\nwhere", extensions=extensions) as peer:
        assert [message["type"] for message in await peer.ended()] == ["websocket.close"]
    (record,) = caplog.records
    assert (record.name, record.levelname, record.exc_info) == ("panther_channels", "INFO", None)
    assert r"'/no\nwhere'" in record.getMessage()


async def test_a_refusal_in_process_takes_no_time(application: Any):
    async with asyncio.timeout(0.5):
        with pytest.raises(HandshakeRejected) as caught:
            async with WebsocketClient(application).connect("/nowhere"):
                pass
    assert (caught.value.status, json.loads(caught.value.body)["detail"]) == (404, "Not Found")


async def test_lifespan(application: Any):
    communicator = ApplicationCommunicator(application, {"type": "lifespan"})
    for phase in ("startup", "shutdown"):
        await communicator.send_input({"type": f"lifespan.{phase}"})
        assert await communicator.receive_output(1) == {"type": f"lifespan.{phase}.complete"}
    await asyncio.wait_for(asyncio.shield(communicator.future), 1)


@pytest.mark.parametrize(("urls", "text"), [(None, "WS_URLS"), ({"a b": Echo}, "'a b'")])
def test_a_mistake_is_told_at_the_start(urls: Any, text: str):
    with override_settings(WS_URLS=None), pytest.raises(ImproperlyConfigured, match=text):
        get_asgi_application(urls)


async def test_no_urls_are_no_default():
    with override_settings(WS_URLS={"from/setting": Echo}):
        empty = get_asgi_application({})
    with pytest.raises(HandshakeRejected):
        async with WebsocketClient(empty).connect("/from/setting"):
            pass
