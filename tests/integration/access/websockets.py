"""The WebSockets of the project: one for each way to say who connects, or to refuse."""

import asyncio
import logging

from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.exceptions import DenyConnection
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.models import Session
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.shortcuts import get_object_or_404
from django.urls import path, resolve
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication as DRFBaseAuthentication
from rest_framework.authentication import BasicAuthentication, TokenAuthentication
from rest_framework.authentication import SessionAuthentication as DRFSessionAuthentication
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.authentication import JWTAuthentication as SimpleJWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken

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


class Cookies(GenericWebsocket):
    """Tells all cookies."""

    async def connect(self):
        await self.accept()
        await self.send(self.headers.get_cookies())


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


class RestRaising(DRFBaseAuthentication):
    """Raises what a header names."""

    def authenticate(self, request):
        raise RAISES[request.headers["X-What"]]()


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


class HesitantSession(SessionAuthentication):
    async def __call__(self, connection):
        user = await super().__call__(connection)
        logger.info("hesitating about %s", user.username)
        while await Session.objects.filter(pk=connection.token.session_key).aexists():  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # only who takes his time is looked at again
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


async def of_scope(connection):
    """The user that Channels' middleware has found."""
    user = connection.scope["user"]
    return user if user.is_authenticated else None


class Unavailable(APIException):
    status_code, default_detail = 503, "Come back later."


#: What a view may raise, and what is a mistake in one.
RAISES = {
    "missing": lambda: get_object_or_404(User, pk=0),
    "resolver": lambda: resolve("/no/such/page/"),
    "forbidden": lambda: PermissionDenied("inner words"),
    "suspicious": lambda: SuspiciousOperation("inner words"),
    "host": lambda: DisallowedHost("inner words"),
    "bad": lambda: BadRequest("inner words"),
    "denied": DenyConnection,
    "rest-missing": lambda: exceptions.NotFound("No such book."),
    "rest-forbidden": exceptions.PermissionDenied,
    "rest-nobody": exceptions.NotAuthenticated,
    "rest-throttled": lambda: exceptions.Throttled(wait=30),
    "rest-invalid": lambda: exceptions.ValidationError({"name": ["Too long."]}),
    "rest-away": Unavailable,
    "token": lambda: InvalidToken({"messages": ["inner words"]}),
    "no-row": lambda: User.objects.get(pk=0),
    "invalid": lambda: ValidationError("inner words"),
}


class Raises(GenericWebsocket):
    """Raises what the query names in the hook that the query names."""

    async def raise_in(self, hook):
        if self.query_params.get("in") == hook:
            raise await sync_to_async(RAISES[self.query_params["what"]])()

    async def auth(self, connection):
        await connection.raise_in("auth")

    async def permissions(self, connection):
        await connection.raise_in("permissions")
        return True

    async def connect(self):
        await self.raise_in("connect")
        await self.accept()
        await self.raise_in("accepted")

    async def receive(self, data):
        await self.raise_in("receive")
        await self.channel_layer.send(self.channel_name, {"type": "an.event"})

    async def an_event(self, event):
        await self.raise_in("event")

    async def disconnect(self, code):
        await self.raise_in("disconnect")


async def is_alice(connection):
    return connection.user.username == "alice"


async def is_not_bob(connection):
    return connection.user.username != "bob"


async def anonymous(connection):
    """Whom Django's middleware finds where nobody is logged in."""
    return AnonymousUser()


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
    "cookies": Cookies,
    "session": _with(auth=SessionAuthentication),
    "channels": AuthMiddlewareStack(URLRouter([path("who/", _with(auth=of_scope).as_asgi())])),
    "token": _with(auth=DRFAuthentication(TokenAuthentication)),
    "session-of-drf": _with(auth=DRFAuthentication(DRFSessionAuthentication)),
    "simplejwt": _with(auth=DRFAuthentication(SimpleJWTAuthentication())),
    "several": _with(auth=several),
    "key": _with(auth=KeyAuthentication),
    "rest-raises": _with(auth=DRFAuthentication(RestRaising)),
    "rest-key": _with(auth=DRFAuthentication(RestKeyAuthentication)),
    "hesitant-auth": _with(auth=HesitantAuthentication),
    "hesitant-session": _with(auth=HesitantSession),
    "hesitant-permission": HesitantPermission,
    "hesitant-connect": HesitantConnect,
    "broken": _with(auth=Raising),
    "expiring": _with(auth=JWTAuthentication, close_on_token_expiry=True),
    "lasting": _with(auth=JWTAuthentication, close_on_token_expiry=False),
    "coded": _with(
        IsAuthenticated,
        is_not_bob,
        auth=[SubprotocolJWTAuthentication, QueryParamJWTAuthentication],
        reject_with_close_code=True,
    ),
    "authenticated": _with(IsAuthenticated),
    "by-django": _with(IsAuthenticated, auth=anonymous),
    "staff": _with(IsStaff),
    "may-change": _with(HasPermission("auth.change_user")),
    "may-delete": _with(HasPermission("auth.delete_user")),
    "staff-or-may": _with(IsAuthenticated & (IsStaff | HasPermission("auth.change_user"))),
    "not-staff": _with(~IsStaff),
    "alice": _with(is_alice),
    "authenticated-alice": _with(IsAuthenticated & is_alice),
    "raising": _with(RaisingPermission),
    "raises": Raises,
    "alice-then-raising": _with(is_alice, RaisingPermission),
}
