"""The echo of Panther as it comes: every message is written to its log."""

from panther import Panther
from panther.websocket import GenericWebsocket


class Echo(GenericWebsocket):
    async def connect(self) -> None:
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


# Panther calls whatever stands in the annotations of connect(), "return" included.
Echo.connect.__annotations__.clear()

application = Panther(__name__, configs=__name__, urls={"ws": Echo})
