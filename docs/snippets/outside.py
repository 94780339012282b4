from django.core.cache import cache
from django.http import HttpRequest, HttpResponse

from panther_channels import status
from panther_channels.websocket import (
    GenericWebsocket,
    close_websocket_connection,
    send_message_to_websocket,
)


class Parcel(GenericWebsocket):
    """Tells a browser where its parcel is."""

    async def connect(self, number: int):
        self.key = f"parcel-{number}"
        await self.accept()
        await cache.aset(self.key, self.connection_id)
        await self.send("ready")

    async def disconnect(self, code: int):
        await cache.adelete(self.key)


async def moved(request: HttpRequest, number: int) -> HttpResponse:
    if connection_id := await cache.aget(f"parcel-{number}"):
        await send_message_to_websocket(connection_id, {"parcel": number, "place": "in the van"})
    return HttpResponse(status=status.HTTP_204_NO_CONTENT)


async def delivered(request: HttpRequest, number: int) -> HttpResponse:
    if connection_id := await cache.aget(f"parcel-{number}"):
        await close_websocket_connection(
            connection_id,
            code=status.WS_1000_NORMAL_CLOSURE,
            reason="Your parcel is there.",
        )
    return HttpResponse(status=status.HTTP_204_NO_CONTENT)
