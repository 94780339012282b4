from django.contrib.auth import get_user_model
from django.core import signing

from panther_channels.authentications import BaseAuthentication
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.permissions import BasePermission
from panther_channels.websocket import GenericWebsocket, Websocket


async def by_ticket(request: Websocket):
    """The user named by a signed ticket in the URL, which is good for half a minute."""
    ticket = request.query_params.get("ticket")
    if ticket is None:
        return None
    try:
        user_id = signing.loads(ticket, salt="websocket", max_age=30)
    except signing.BadSignature as error:
        raise AuthenticationAPIError("The ticket is not good.") from error
    return await get_user_model().objects.filter(pk=user_id, is_active=True).afirst()


MACHINES = {"k-1": "printer", "k-2": "door"}


class BySharedKey(BaseAuthentication):
    """The name of the machine that a key in a header belongs to."""

    async def __call__(self, request: Websocket):
        key = request.headers.x_key
        if key is None:
            return None
        if key not in MACHINES:
            raise AuthenticationAPIError("Nobody has this key.")
        return MACHINES[key]


async def signed_in(request: Websocket) -> bool:
    return request.user is not None


class FromOurPages(BasePermission):
    """A browser names the page in Origin; other clients needn't."""

    def __init__(self, *origins: str) -> None:
        self.origins = origins or ("https://example.com",)

    async def __call__(self, request: Websocket) -> bool:
        return request.headers.origin in {None, *self.origins}


class Inbox(GenericWebsocket):
    auth = by_ticket
    permissions = (signed_in, FromOurPages("https://example.com", "https://example.org"))

    async def connect(self):
        await self.accept()
        await self.send(f"Hello, {self.user.get_username()}.")


class Machine(GenericWebsocket):
    auth = BySharedKey
    permissions = signed_in

    async def connect(self):
        await self.accept()
        await self.send(self.user)
