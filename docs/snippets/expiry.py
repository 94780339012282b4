import json

from django.contrib.auth.signals import user_logged_out
from django.dispatch import receiver

from panther_channels.authentications import JWTAuthentication, SubprotocolJWTAuthentication
from panther_channels.permissions import IsAuthenticated
from panther_channels.sync import close_user_websockets
from panther_channels.websocket import GenericWebsocket


class Prices(GenericWebsocket):
    auth = (SubprotocolJWTAuthentication, JWTAuthentication)
    permissions = IsAuthenticated
    close_on_token_expiry = True

    async def connect(self):
        await self.accept()
        await self.send({"expires": self.token["exp"]})

    async def receive(self, data: str | bytes):
        message = json.loads(data)
        if "token" in message:
            await self.refresh_token(message["token"])
            await self.send({"expires": self.token["exp"]})


@receiver(user_logged_out)
def close_websockets(sender, user, **kwargs):
    if user is not None:
        close_user_websockets(user, reason="logged out")


websocket_urls = {"ws": {"prices": Prices}}
