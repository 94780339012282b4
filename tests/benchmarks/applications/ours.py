"""The echo of this package, and a connection to be reached from outside."""

import os
from typing import ClassVar

from panther_channels.asgi import get_asgi_application
from panther_channels.websocket import GenericWebsocket


class Echo(GenericWebsocket):
    async def connect(self) -> None:
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


class Outside(GenericWebsocket):
    async def connect(self) -> None:
        await self.accept()
        await self.send(f"{os.getpid()} {self.connection_id}")


class Member(Outside):
    groups: ClassVar = ["room"]


application = get_asgi_application({"ws": Echo, "outside": Outside, "member": Member})
