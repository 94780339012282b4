from django.contrib.auth import get_user_model
from django.core import signing
from rest_framework.authentication import TokenAuthentication

from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    CredentialAuthentication,
    DRFAuthentication,
    JWTAuthentication,
    SessionAuthentication,
    SubprotocolJWTAuthentication,
)
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.permissions import BasePermission, HasPermission, IsAuthenticated, IsStaff
from panther_channels.websocket import GenericWebsocket, Websocket


class Greeting(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(f"Hello, {self.user.get_username()}.")


class Account(Greeting):
    auth = SessionAuthentication
    permissions = IsAuthenticated


class Inbox(Greeting):
    auth = SubprotocolJWTAuthentication
    permissions = IsAuthenticated


class Feed(Greeting):
    auth = (SessionAuthentication, SubprotocolJWTAuthentication, JWTAuthentication)
    permissions = IsAuthenticated


class Metrics(Greeting):
    auth = DRFAuthentication(TokenAuthentication)
    permissions = IsAuthenticated


class NamedCookie(CookieJWTAuthentication):
    cookie = "jwt"


class ForSockets(JWTAuthentication):
    """Takes only tokens that were made for WebSockets."""

    def validate(self, credential: str):
        token = super().validate(credential)
        if token.get("use") != "websocket":
            self.refuse("the token was made for something else")
        return token


class TicketAuthentication(CredentialAuthentication):
    """The user named by a signed ticket in the URL, which is good for half a minute."""

    def find_credential(self, connection: Websocket):
        return connection.query_params.get("token")

    def validate(self, credential: str):
        try:
            return signing.loads(credential, salt="websocket", max_age=30)
        except signing.BadSignature:
            self.refuse("the ticket is forged, or too old")

    def find_user(self, validated: int):
        user = get_user_model().objects.filter(pk=validated, is_active=True).first()
        return user or self.refuse("the ticket's user has gone")


MACHINES = {"k-1": "printer", "k-2": "door"}


async def by_shared_key(connection: Websocket):
    """The name of the machine that a key in a header belongs to."""
    key = connection.headers.x_key
    if key is None:
        return None
    if key not in MACHINES:
        raise AuthenticationAPIError("Nobody has this key.")
    return MACHINES[key]


class ByBadge(BaseAuthentication):
    async def __call__(self, connection: Websocket):
        return connection.headers.x_badge


class Machine(GenericWebsocket):
    auth = (by_shared_key, ByBadge)
    permissions = IsAuthenticated

    async def connect(self):
        await self.accept()
        await self.send(self.user)


async def office_hours(connection: Websocket) -> bool:
    return connection.headers.x_day not in {"Saturday", "Sunday"}


class OwnsPage(BasePermission):
    """The URL ends with the user's own name."""

    async def __call__(self, connection: Websocket) -> bool:
        return connection.path_variables["username"] == connection.user.get_username()


class Editor(Greeting):
    auth = SessionAuthentication
    permissions = IsAuthenticated & (IsStaff | HasPermission("auth.change_user"))


class Page(GenericWebsocket):
    auth = SessionAuthentication
    permissions = (IsAuthenticated, ~IsStaff, OwnsPage, office_hours)

    async def connect(self, username: str):
        await self.accept()
        await self.send(f"This is your page, {username}.")


websocket_urls = {
    "ws": {
        "account": Account,
        "inbox": Inbox,
        "feed": Feed,
        "metrics": Metrics,
        "machine": Machine,
        "editor": Editor,
        "pages/<username>": Page,
    }
}
