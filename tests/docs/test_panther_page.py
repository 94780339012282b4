"""What Panther's page about WebSockets shows, in code of our own, with our imports."""

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework_simplejwt.tokens import AccessToken

from panther_channels import status
from panther_channels.asgi import get_asgi_application
from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
)
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.permissions import BasePermission, IsAuthenticated
from panther_channels.test import ConnectionClosed, HandshakeRejected, WebsocketClient
from panther_channels.websocket import (
    GenericWebsocket,
    Websocket,
    close_websocket_connection,
    send_message_to_websocket,
)

pytestmark = pytest.mark.usefixtures("memory_layer")


@pytest.fixture
def memory_layer():
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    with override_settings(CHANNEL_LAYERS=layers):
        yield


def serve(urls: dict[str, Any]) -> WebsocketClient:
    return WebsocketClient(get_asgi_application(urls))


class Shelf(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(data=f"{self.connection_id=}")

    async def receive(self, data: str | bytes):
        await self.send(data=data)


async def test_an_echo_that_knows_its_id():
    async with serve({"ws/shelf/": Shelf}).connect("/ws/shelf/") as ws:
        greeting = await ws.receive()
        assert isinstance(greeting, str)
        name, _, quoted = greeting.partition("=")
        assert name == "self.connection_id"
        assert uuid.UUID(quoted.strip("'")).hex == quoted.strip("'")
        for message in ("to keep", b"\x00to keep"):
            await ws.send(message)
            assert await ws.receive() == message


async def test_connect_with_keyword_arguments():
    class Parrot(GenericWebsocket):
        async def connect(self, **kwargs):
            await self.accept()

        async def receive(self, data: str | bytes):
            await self.send(data)

    async with serve({"": Parrot, "ws": Parrot}).connect("/ws") as ws:
        await ws.send("Polly")
        assert await ws.receive() == "Polly"


async def test_rejected_unless_accepted():
    class Shy(GenericWebsocket):
        async def connect(self):
            if self.query_params.get("word") == "please" and self.headers.x_polite == "yes":
                await self.accept()

    client = serve({"shy": Shy})
    asked = {"word": "please"}
    async with client.connect("/shy", query_params=asked, headers={"X-Polite": "yes"}) as ws:
        assert ws.close_code is None
    with pytest.raises(HandshakeRejected):
        async with client.connect("/shy", query_params=asked):
            pass


async def test_send_from_outside():
    async with serve({"shelf": Shelf}).connect("/shelf") as ws:
        connection_id = str(await ws.receive()).split("'")[1]
        await send_message_to_websocket(connection_id=connection_id, data="from afar")
        assert await ws.receive() == "from afar"
        # The id on Panther's page, and one that no id can be.
        for other in ("7e82d57c9ec0478787b01916910a9f45", "nobody"):
            await send_message_to_websocket(connection_id=other, data="lost")
        await ws.send("nothing came between")
        assert await ws.receive() == "nothing came between"


async def test_close_from_outside():
    async with serve({"shelf": Shelf}).connect("/shelf") as ws:
        connection_id = str(await ws.receive()).split("'")[1]
        await close_websocket_connection(
            connection_id=connection_id,
            code=status.WS_1008_POLICY_VIOLATION,
            reason="Enough",
        )
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        assert (ws.close_code, ws.close_reason) == (1008, "Enough")


async def test_close_inside():
    class Brief(GenericWebsocket):
        async def connect(self):
            await self.accept()
            await self.close(code=status.WS_1000_NORMAL_CLOSURE, reason="That was it")

    async with serve({"brief": Brief}).connect("/brief") as ws:
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        assert (ws.close_code, ws.close_reason) == (1000, "That was it")


async def by_badge(request: Websocket) -> str | None:
    return request.headers.x_badge


class ByBadge(BaseAuthentication):
    async def __call__(self, request: Websocket) -> str | None:
        if request.headers.x_badge == "stolen":
            raise AuthenticationAPIError
        return request.headers.x_badge


class Named(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(self.user)


@pytest.mark.parametrize("auth", [by_badge, ByBadge, ByBadge()], ids=["function", "class", "one"])
async def test_auth_of_a_class(auth):
    client = serve({"named": type("Badged", (Named,), {"auth": auth})})
    async with client.connect("/named", headers={"X-Badge": "Ann"}) as ws:
        assert await ws.receive() == "Ann"
    async with client.connect("/named") as ws:  # nobody, and no permission minds
        assert await ws.receive() == "null"


async def test_auth_that_raises():
    client = serve({"named": type("Badged", (Named,), {"auth": ByBadge})})
    with pytest.raises(HandshakeRejected) as caught:
        async with client.connect("/named", headers={"X-Badge": "stolen"}):
            pass
    assert (caught.value.status, caught.value.body) == (401, b'{"detail": "Authentication Error"}')


async def test_auth_of_the_settings():
    client = serve({"named": Named})
    with override_settings(WS_AUTHENTICATION=f"{__name__}.ByBadge"):
        async with client.connect("/named", headers={"X-Badge": "Bob"}) as ws:
            assert await ws.receive() == "Bob"


async def allows(request: Websocket) -> bool:
    return True


async def forbids(request: Websocket) -> bool:
    return False


class Allows(BasePermission):
    async def __call__(self, request: Websocket) -> bool:
        return True


class Forbids(BasePermission):
    async def __call__(self, request: Websocket) -> bool:
        return False


@pytest.mark.parametrize(
    ("permissions", "let_in"),
    [
        (allows, True),
        (forbids, False),
        (Allows, True),
        (Forbids, False),
        ([allows, Allows], True),
        ([allows, Forbids], False),
        ([forbids, Allows], False),
    ],
)
async def test_permissions(permissions, let_in):
    client = serve({"": type("Guarded", (Named,), {"permissions": permissions})})
    if let_in:
        async with client.connect("/") as ws:
            assert await ws.receive() == "null"
    else:
        with pytest.raises(HandshakeRejected) as caught:
            async with client.connect("/"):
                pass
        assert (caught.value.status, caught.value.body) == (403, b'{"detail": "Permission Denied"}')


@pytest.mark.parametrize(
    ("auth", "carrier"),
    [
        (JWTAuthentication, {"headers": {"Authorization": "Bearer {}"}}),
        (QueryParamJWTAuthentication, {"query_params": {"authorization": "{}"}}),
        (CookieJWTAuthentication, {"headers": {"Cookie": "access_token={}"}}),
    ],
)
async def test_tokens_by_panther_names(transactional_db, auth, carrier):
    ann = await User.objects.acreate(username="ann")
    token = str(AccessToken.for_user(ann))
    ((kind, fields),) = carrier.items()
    options: Any = {kind: {name: value.format(token) for name, value in fields.items()}}
    members = {"auth": auth, "permissions": IsAuthenticated}
    client = serve({"": type("Guarded", (Hello,), members)})
    async with client.connect("/", **options) as ws:
        assert await ws.receive() == "ann"
    with pytest.raises(HandshakeRejected):
        async with client.connect("/"):
            pass


class Hello(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(self.user.username)


async def test_path_variables():
    class Desk(GenericWebsocket):
        async def connect(self, floor_id: int, desk_id: str):
            await self.accept()
            await self.send([floor_id, desk_id])

    async with serve({"/ws/<floor_id>/<desk_id>/": Desk}).connect("/ws/3/12/") as ws:
        assert await ws.receive() == '[3,"12"]'
