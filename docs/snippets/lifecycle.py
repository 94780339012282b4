import asyncio

from panther_channels.websocket import GenericWebsocket


class Ticker(GenericWebsocket):
    """Counts for as long as the client listens."""

    async def connect(self):
        await self.accept()
        self.create_task(self.tick())

    async def tick(self):
        number = 0
        while True:
            await self.send(number)
            number += 1
            await asyncio.sleep(1)
