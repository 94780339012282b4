import asyncio

from panther_channels.exceptions import WebsocketError
from panther_channels.websocket import GenericWebsocket


class Ticker(GenericWebsocket):
    """Counts for as long as the client listens."""

    async def connect(self):
        await self.accept()
        self.ticking = asyncio.create_task(self.tick())

    async def tick(self):
        number = 0
        while self.is_connected:
            try:
                await self.send(number)
            except WebsocketError:
                return  # the client went away while this was on its way
            number += 1
            await asyncio.sleep(1)

    async def disconnect(self, code: int):
        self.ticking.cancel()
