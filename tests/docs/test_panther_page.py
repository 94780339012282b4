"""What Panther's page about WebSockets shows, in code of our own, with our imports."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from rest_framework_simplejwt.tokens import AccessToken

from panther_channels import status
from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
)
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.permissions import BasePermission, IsAuthenticated
from panther_channels.test import HandshakeRejected
from panther_channels.websocket import (
    GenericWebsocket,
    Websocket,
    close_websocket_connection,
    send_message_to_websocket,
)
from tests.docs.client import check, ending, serve


@pytest.fixture(autouse=True)
def _memory_layer() -> Iterator[None]:
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    with override_settings(CHANNEL_LAYERS=layers):
        yield


class Shelf(GenericWebsocket):
    async def connect(self, **kwargs):
        await self.accept()
        await self.send(data=f"{self.connection_id=}")

    async def receive(self, data: str | bytes):
        await self.send(data=data)


async def test_an_echo_that_is_reached_from_outside():
    async with serve({"": Shelf, "ws/shelf/": Shelf}).connect("/ws/shelf") as ws:
        name, _, quoted = str(await ws.receive()).partition("=")
        connection_id = quoted.strip("'")
        assert (name, uuid.UUID(connection_id).hex) == ("self.connection_id", connection_id)
        for message in ("to keep", b"\x00to keep"):
            await ws.send(message)
            assert await ws.receive() == message

        await send_message_to_websocket(connection_id=connection_id, data="from afar")
        assert await ws.receive() == "from afar"
        # The id on Panther's page, and one that no id can be.
        for other in ("7e82d57c9ec0478787b01916910a9f45", "nobody"):
            await send_message_to_websocket(connection_id=other, data="lost")
        await ws.send("nothing came between")
        assert await ws.receive() == "nothing came between"

        code = status.WS_1008_POLICY_VIOLATION
        await close_websocket_connection(connection_id=connection_id, code=code, reason="Enough")
        assert await ending(ws) == (1008, "Enough")


async def test_rejected_unless_accepted():
    class Shy(GenericWebsocket):
        async def connect(self):
            if self.query_params.get("word") == "please" and self.headers.x_polite == "yes":
                await self.accept()

    asked: dict[str, Any] = {"query_params": {"word": "please"}}
    await check(serve({"shy": Shy}), "/shy", 101, headers={"X-Polite": "yes"}, **asked)
    await check(serve({"shy": Shy}), "/shy", 403, **asked)


async def test_close_inside():
    class Brief(GenericWebsocket):
        async def connect(self):
            await self.accept()
            await self.close(code=status.WS_1000_NORMAL_CLOSURE, reason="That was it")

    async with serve({"brief": Brief}).connect("/brief") as ws:
        assert await ending(ws) == (1000, "That was it")


async def test_path_variables():
    class Desk(GenericWebsocket):
        async def connect(self, floor_id: int, desk_id: str):
            await self.accept()
            await self.send([floor_id, desk_id])

    await check(serve({"/ws/<floor_id>/<desk_id>/": Desk}), "/ws/3/12/", '[3,"12"]')


# Authentication and permissions


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
    await check(client, "/named", "Ann", headers={"X-Badge": "Ann"})
    await check(client, "/named", "null")  # nobody, and no permission minds


async def test_auth_of_the_settings_and_auth_that_raises():
    client = serve({"named": Named})
    with override_settings(WS_AUTHENTICATION=f"{__name__}.ByBadge"):
        await check(client, "/named", "Bob", headers={"X-Badge": "Bob"})
        with pytest.raises(HandshakeRejected) as caught:
            async with client.connect("/named", headers={"X-Badge": "stolen"}):
                pass
    assert (caught.value.status, caught.value.body) == (401, b'{"detail": "Authentication Error"}')


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
    ("permissions", "expected"),
    [
        (allows, "null"),
        (forbids, 403),
        (Allows, "null"),
        (Forbids, 403),
        ([allows, Allows], "null"),
        ([allows, Forbids], 403),
        ([forbids, Allows], 403),
    ],
)
async def test_permissions(permissions, expected):
    client = serve({"": type("Guarded", (Named,), {"permissions": permissions})})
    await check(client, "/", expected)


class Hello(GenericWebsocket):
    permissions = IsAuthenticated

    async def connect(self):
        await self.accept()
        await self.send(self.user.username)


@pytest.mark.parametrize(
    ("auth", "kind", "name", "value"),
    [
        (JWTAuthentication, "headers", "Authorization", "Bearer {}"),
        (QueryParamJWTAuthentication, "query_params", "authorization", "{}"),
        (CookieJWTAuthentication, "headers", "Cookie", "access_token={}"),
    ],
)
async def test_tokens_by_panther_names(transactional_db, auth, kind, name, value):
    token = AccessToken.for_user(await User.objects.acreate(username="ann"))
    client = serve({"": type("Guarded", (Hello,), {"auth": auth})})
    await check(client, "/", "ann", **{kind: {name: value.format(token)}})
    await check(client, "/", 403)
