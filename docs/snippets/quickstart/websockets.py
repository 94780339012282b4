from panther_channels.websocket import GenericWebsocket


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(f"You are {self.connection_id}")

    async def receive(self, data: str | bytes):
        await self.send(data)
