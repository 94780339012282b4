from panther_channels import status
from panther_channels.authentications import SubprotocolJWTAuthentication
from panther_channels.exceptions import BaseError
from panther_channels.permissions import IsAuthenticated
from panther_channels.websocket import GenericWebsocket


class Explained(GenericWebsocket):
    auth = SubprotocolJWTAuthentication
    permissions = IsAuthenticated
    reject_with_close_code = True

    async def connect(self):
        await self.accept()


class Full(GenericWebsocket):
    async def connect(self):
        raise BaseError("No seats left.", status.HTTP_429_TOO_MANY_REQUESTS)


websocket_urls = {"ws": {"explained": Explained, "full": Full}}
