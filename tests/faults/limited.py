"""Classes that are limited, and their URLs."""

from types import SimpleNamespace

from panther_channels.websocket import GenericWebsocket


class Numbered(GenericWebsocket):
    """Of the user whose number is in the query."""

    async def auth(self, connection):
        number = self.query_params.get("user")
        return SimpleNamespace(pk=number) if number else None

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(self.connection_id if data == "id" else data)


class WithCode(Numbered):
    reject_with_close_code = True


websocket_urls = {"ws": {"limited": Numbered, "limited-with-code": WithCode}}
