"""The WebSockets of the project: one for each way to say who connects, or to refuse."""

import asyncio
import logging
import time

from rest_framework.authentication import BasicAuthentication, TokenAuthentication
from rest_framework_simplejwt.authentication import JWTAuthentication as SimpleJWTAuthentication

from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
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
                "authentication": type(self.authentication).__name__,
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


class Header(Who):
    auth = JWTAuthentication


class Query(Who):
    auth = QueryParamJWTAuthentication


class Cookie(Who):
    auth = CookieJWTAuthentication()


class Subprotocol(Who):
    auth = SubprotocolJWTAuthentication


class SubprotocolChat(Who):
    """Selects a subprotocol that the client may not have offered."""

    auth = SubprotocolJWTAuthentication

    async def connect(self):
        await self.accept(subprotocol="chat")


class Session(Who):
    auth = SessionAuthentication


class Token(Who):
    auth = DRFAuthentication(TokenAuthentication)


class SimpleJWT(Who):
    auth = DRFAuthentication(SimpleJWTAuthentication())


class Several(Who):
    auth = [  # noqa: RUF012
        SessionAuthentication,
        CookieJWTAuthentication,
        JWTAuthentication,
        DRFAuthentication(TokenAuthentication),
        DRFAuthentication(BasicAuthentication),
        SubprotocolJWTAuthentication,
    ]


class Slow(JWTAuthentication):
    """As slow as a database far away."""

    def find_user(self, validated):
        time.sleep(1.5)
        return super().find_user(validated)


class Slowly(Who):
    auth = Slow


class Hesitant(Who):
    """Takes longer than the process of another test, before it accepts."""

    auth = JWTAuthentication

    async def connect(self):
        logger.info("hesitating about %s", self.user.username)
        await asyncio.sleep(1.5)
        await super().connect()


class Raising(BaseAuthentication):
    async def __call__(self, connection):
        raise RuntimeError("raised in auth")


class Broken(Who):
    auth = Raising


class RaisingPermission(BasePermission):
    async def __call__(self, connection):
        raise RuntimeError("raised in a permission")


async def is_alice(connection):
    return connection.user.username == "alice"


class Expiring(Who):
    auth = JWTAuthentication
    close_on_token_expiry = True


class Lasting(Who):
    auth = JWTAuthentication
    close_on_token_expiry = False


class Coded(Who):
    auth = [SubprotocolJWTAuthentication, QueryParamJWTAuthentication]  # noqa: RUF012
    permissions = IsAuthenticated
    reject_with_close_code = True


def _with(*permissions):
    return type("Permitted", (Who,), {"permissions": list(permissions)})


by_name = {
    "default": Who,
    "header": Header,
    "query": Query,
    "cookie": Cookie,
    "subprotocol": Subprotocol,
    "subprotocol-chat": SubprotocolChat,
    "session": Session,
    "token": Token,
    "simplejwt": SimpleJWT,
    "several": Several,
    "slow": Slowly,
    "hesitant": Hesitant,
    "broken": Broken,
    "expiring": Expiring,
    "lasting": Lasting,
    "coded": Coded,
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
