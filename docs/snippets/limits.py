from datetime import timedelta

from panther_channels.throttling import Throttle
from panther_channels.websocket import GenericWebsocket


class Chat(GenericWebsocket):
    throttle = Throttle(rate=20, duration=timedelta(seconds=1))

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


class Pointer(Chat):
    """Where the mouse is: of too many positions, some may get lost."""

    throttle = Throttle(rate=60, duration=timedelta(seconds=1), drop=True)


websocket_urls = {"ws": {"chat": Chat, "pointer": Pointer}}
