"""The WebSockets of the project: one for each way to say who connects, or to refuse."""

import asyncio
import logging

from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication as DRFBaseAuthentication
from rest_framework.authentication import BasicAuthentication, TokenAuthentication
from rest_framework_simplejwt.authentication import JWTAuthentication as SimpleJWTAuthentication

from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    CredentialAuthentication,
    DRFAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
    SubprotocolJWTAuthentication,
)
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.permissions import BasePermission, HasPermission, IsAuthenticated, IsStaff
from panther_channels.websocket import GenericWebsocket

logger = logging.getLogger("tests.access")


class Who(GenericWebsocket):
    """Tells whom it found; "refresh TOKEN" takes a fresh token, all else is an echo."""

    async def connect(self):
        await self.accept()
        await self.send(
            {
                "user": getattr(self.user, "username", None),
                "authentication": type(self._Websocket__connection.authentication).__name__,
                "has_token": self.token is not None,
            }
        )

    async def receive(self, data: str | bytes):
        order, _, token = str(data).partition(" ")
        if order == "refresh":
            await self.refresh_token(token)
            await self.send("refreshed")
        elif order == "try":
            try:
                await self.refresh_token(token)
            except AuthenticationAPIError as error:
                await self.send(str(error))
        else:
            await self.send(data)


class SubprotocolChat(Who):
    """Selects a subprotocol that the client may not have offered."""

    auth = SubprotocolJWTAuthentication

    async def connect(self):
        await self.accept(subprotocol="chat")


class KeyAuthentication(CredentialAuthentication):
    """A user's id in a header of its own."""

    credential_headers = ("X-Api-Key",)

    def find_credential(self, connection):
        return connection.headers["x-api-key"]

    def validate(self, credential):
        return credential.rpartition("-")[2]

    def find_user(self, validated):
        return User.objects.get(pk=validated)


class RestKeyAuthentication(DRFBaseAuthentication):
    """The same for Django REST framework."""

    credential_headers = ("X-Rest-Key",)

    def authenticate(self, request):
        pk = request.headers["X-Rest-Key"].rpartition("-")[2]
        return User.objects.get(pk=pk), None


async def hesitate(user):
    """Wait until the user has gone, which this process is yet to hear of."""
    logger.info("hesitating about %s", user.username)
    while await User.objects.filter(pk=user.pk, is_active=True).aexists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return True


class HesitantAuthentication(JWTAuthentication):
    async def __call__(self, connection):
        user = await super().__call__(connection)
        await hesitate(user)
        return user


class HesitantPermission(Who):
    auth = JWTAuthentication

    async def permissions(self, connection):
        return await hesitate(connection.user)


class HesitantConnect(Who):
    auth = JWTAuthentication

    async def connect(self):
        await hesitate(self.user)
        await super().connect()


class Raising(BaseAuthentication):
    async def __call__(self, connection):
        raise RuntimeError("raised in auth")


class RaisingPermission(BasePermission):
    async def __call__(self, connection):
        raise RuntimeError("raised in a permission")


async def is_alice(connection):
    return connection.user.username == "alice"


def _with(*permissions, base=Who, **attributes):
    return type("Made", (base,), {"permissions": list(permissions), **attributes})


several = [
    SessionAuthentication,
    CookieJWTAuthentication,
    JWTAuthentication,
    DRFAuthentication(TokenAuthentication),
    DRFAuthentication(BasicAuthentication),
    SubprotocolJWTAuthentication,
]
by_name = {
    "default": Who,
    "header": _with(auth=JWTAuthentication),
    "query": _with(auth=QueryParamJWTAuthentication),
    "cookie": _with(auth=CookieJWTAuthentication()),
    "subprotocol": _with(auth=SubprotocolJWTAuthentication),
    "subprotocol-chat": SubprotocolChat,
    "session": _with(auth=SessionAuthentication),
    "token": _with(auth=DRFAuthentication(TokenAuthentication)),
    "simplejwt": _with(auth=DRFAuthentication(SimpleJWTAuthentication())),
    "several": _with(auth=several),
    "key": _with(auth=KeyAuthentication),
    "rest-key": _with(auth=DRFAuthentication(RestKeyAuthentication)),
    "hesitant-auth": _with(auth=HesitantAuthentication),
    "hesitant-permission": HesitantPermission,
    "hesitant-connect": HesitantConnect,
    "broken": _with(auth=Raising),
    "expiring": _with(auth=JWTAuthentication, close_on_token_expiry=True),
    "lasting": _with(auth=JWTAuthentication, close_on_token_expiry=False),
    "coded": _with(
        IsAuthenticated,
        auth=[SubprotocolJWTAuthentication, QueryParamJWTAuthentication],
        reject_with_close_code=True,
    ),
    "authenticated": _with(IsAuthenticated),
    "staff": _with(IsStaff),
    "may-change": _with(HasPermission("auth.change_user")),
    "staff-or-may": _with(IsAuthenticated & (IsStaff | HasPermission("auth.change_user"))),
    "not-staff": _with(~IsStaff),
    "alice": _with(is_alice),
    "authenticated-alice": _with(IsAuthenticated & is_alice),
    "raising": _with(RaisingPermission),
    "alice-then-raising": _with(is_alice, RaisingPermission),
}
