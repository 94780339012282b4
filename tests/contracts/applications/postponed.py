"""A class in a module whose annotations are postponed."""

from __future__ import annotations

from tests.contracts.applications.package import GenericWebsocket, Websocket


class Postponed(GenericWebsocket):
    async def connect(self, number: int, connection: Websocket):
        await self.accept()
        await connection.send([type(number).__name__, number])
