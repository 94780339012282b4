"""Code around every connection: middlewares see it before it is opened and after it has ended."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket


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

    def __init__(self, dispatch: "Callable[..., Awaitable[Websocket]]") -> None:
        self.dispatch = dispatch

    async def __call__(self, connection: "Websocket") -> "Websocket":
        """Let the connection pass; returns it when it has ended."""
        return await self.dispatch(connection=connection)
