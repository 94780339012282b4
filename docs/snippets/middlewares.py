import logging
import time

from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import Websocket

logger = logging.getLogger(__name__)


class Timed(WebsocketMiddleware):
    async def __call__(self, connection: Websocket) -> Websocket:
        start = time.monotonic()
        connection = await self.dispatch(connection=connection)
        seconds = time.monotonic() - start
        logger.info("%s: %s after %.1f s", connection.path, connection.state, seconds)
        return connection


class OnlyLocal(WebsocketMiddleware):
    async def __call__(self, connection: Websocket) -> Websocket:
        if connection.client is None or connection.client.ip != "127.0.0.1":
            await connection.close()  # before accept(): the handshake is refused
            return connection
        return await self.dispatch(connection=connection)
