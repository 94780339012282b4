from typing import Any

from panther_channels.websocket import GenericWebsocket


class Stamped(GenericWebsocket):
    async def connect(self):
        self.sent = 0
        await self.accept()

    async def send(self, data: Any = None):
        self.sent += 1
        await super().send({"number": self.sent, "data": data})
