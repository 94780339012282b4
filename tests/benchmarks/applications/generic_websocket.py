"""The echo of this package."""

from panther_channels.asgi import get_asgi_application
from panther_channels.websocket import GenericWebsocket


class Echo(GenericWebsocket):
    async def connect(self) -> None:
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


application = get_asgi_application({"ws": Echo})
