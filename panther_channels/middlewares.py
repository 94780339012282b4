"""Code around every connection: middlewares see it before it is opened and after it has ended."""

import logging
import time
from collections.abc import Awaitable, Callable

from panther_channels._process.log_lines import shortened
from panther_channels._socket.websocket import Websocket


class WebsocketMiddleware:
    """The shape of a middleware (Panther's ``WebsocketMiddleware``), listed in ``WS_MIDDLEWARES``.

    Override ``__call__``. What stands before ``await self.dispatch(connection=connection)`` runs
    before authentication; what stands after it runs when the connection has ended, or was
    refused, and finds that in ``connection.state``. Closing the connection, raising, or not
    dispatching at all before it is accepted refuses it.

    One instance serves all connections of a process.

    Args:
        dispatch: the next middleware, or the connection itself.
    """

    def __init__(self, dispatch: Callable[..., Awaitable[Websocket]]) -> None:
        self.dispatch = dispatch

    async def __call__(self, connection: Websocket) -> Websocket:
        """Let the connection pass; returns it when it has ended."""
        return await self.dispatch(connection=connection)


class WebsocketMonitoringMiddleware(WebsocketMiddleware):
    """One log line when a connection begins, and one when it has ended (Panther's name).

    On the logger ``panther_channels.monitoring``, with level INFO: path, client, seconds, state,
    and how many messages came in and went out::

        WS | /ws/book/ | 127.0.0.1:50000 | - | Connected
        WS | /ws/book/ | 127.0.0.1:50000 | 12.345 | Closed | 3 in | 4 out
    """

    logger = logging.getLogger("panther_channels.monitoring")

    async def __call__(self, connection: Websocket) -> Websocket:
        """Log around the connection."""
        start = time.perf_counter()
        path, client = shortened(repr(connection.path)[1:-1]), connection.client
        self.logger.info("WS | %s | %s | - | %s", path, client, connection.state)
        try:
            return await self.dispatch(connection=connection)
        finally:
            self.logger.info(
                "WS | %s | %s | %.3f | %s | %d in | %d out",
                path,
                client,
                time.perf_counter() - start,
                connection.state,
                connection.messages_received,
                connection.messages_sent,
            )
