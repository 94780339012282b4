"""Classes that limit or are limited, and their URLs."""

from datetime import timedelta
from types import SimpleNamespace

from panther_channels.throttling import Throttle
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


class Throttled(Numbered):
    throttle = Throttle(rate=20, duration=timedelta(minutes=1))


class Dropping(Numbered):
    throttle = Throttle(rate=20, duration=timedelta(minutes=1), drop=True)


websocket_urls = {
    "ws": {
        "limited": Numbered,
        "limited-with-code": WithCode,
        "throttled": Throttled,
        "dropping": Dropping,
    }
}
