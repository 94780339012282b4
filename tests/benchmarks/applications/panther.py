"""The echo of Panther, and the outside sends; as it comes, every message is written to its log."""

import asyncio
import json
import logging
import os
from urllib.parse import urlsplit

from panther import Panther
from panther.websocket import GenericWebsocket, send_message_to_websocket

from tests.benchmarks.sender import AsyncSender, Orders

if os.environ.get("BENCHMARK_QUIET"):
    logging.getLogger("panther").setLevel(logging.WARNING)
if os.environ.get("BENCHMARK_LAYER") == "pubsub":
    _address = urlsplit(os.environ["BENCHMARK_ADDRESS"])
    REDIS = {
        "class": "panther.db.connections.RedisConnection",
        "host": _address.hostname,
        "port": _address.port,
    }


class Echo(GenericWebsocket):
    async def connect(self) -> None:
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


class Outside(Echo):
    async def connect(self) -> None:
        await self.accept()
        await self.send(f"{os.getpid()} {self.connection_id}")


class Sender(Echo):
    """The sender of ``tests.benchmarks.sender``, with its orders from this connection.

    Without Redis, only processes that were forked from the one that made Panther's manager share
    it: no script can send, so a task in one of the server's processes does.
    """

    task = None

    async def receive(self, data: str | bytes) -> None:
        if self.task is None:
            self.sender = AsyncSender(Orders(json.loads(data)), send_message_to_websocket)
            self.task = asyncio.create_task(self.run())
        else:
            self.sender.take(data if isinstance(data, bytes) else data.encode())

    async def run(self) -> None:
        await self.send(str(await self.sender.flood()))
        await self.sender.singles()


# Panther calls whatever stands in the annotations of connect(), "return" included.
for endpoint in (Echo, Outside):
    endpoint.connect.__annotations__.clear()

application = Panther(
    __name__, configs=__name__, urls={"ws": Echo, "outside": Outside, "sender": Sender}
)
