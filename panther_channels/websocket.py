"""WebSockets as Panther writes them: a class with hooks, and two functions to reach it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Self

from django.core.exceptions import ImproperlyConfigured

from panther_channels._connection import Connection
from panther_channels._handshake.questions import problem_with_names
from panther_channels._socket.state import Message
from panther_channels._socket.websocket import CONNECTION, Websocket
from panther_channels.connections import (
    close_user_websockets,
    close_websocket_connection,
    send_message_to_websocket,
)

__all__ = [
    "GenericWebsocket",
    "Websocket",
    "close_user_websockets",
    "close_websocket_connection",
    "send_message_to_websocket",
]


class GenericWebsocket(Websocket):
    """The class to subclass for a WebSocket, as in Panther.

    Override ``connect``, ``receive`` and ``disconnect``. Overriding ``send`` or ``close`` changes
    what outside sends and closes do, too.

    Attributes:
        auth: an async callable, or a class of one, that takes the connection and returns the
            user or ``None``, or raises to refuse; or a list, of which the first that finds a user
            counts. Default: the setting ``WS_AUTHENTICATION``.
        permissions: one, or a list, of async callables, or classes of them, that take the
            connection; a falsy answer refuses it. Default: none.
        close_on_token_expiry: close with 1008 when the token expires by which the connection was
            let in. Default: the setting ``WS_CLOSE_ON_TOKEN_EXPIRY``.
        reject_with_close_code: accept a refused handshake and close it at once, with 4401 or 4403
            and the reason, which is all that a browser's script can see. Default: ``False``.
        user: the authenticated user, or ``None``.
        token: the claims of the token by which the connection was let in, or ``None``.
        throttle: a :class:`~panther_channels.throttling.Throttle`, which limits how many messages
            the client may send. Default: none.
        groups: groups of the channel layer to be in while the connection is open. Default: none.
    """

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Give it its connection; not in ``__init__()``, which a class need not call."""
        handler: Self = super().__new__(cls)
        setattr(handler, CONNECTION, Connection(handler))
        return handler

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """The ASGI application for a ``URLRouter`` of your own, as in Channels.

        Args:
            initkwargs: what an ``__init__()`` of yours takes.

        Raises:
            ImproperlyConfigured: the class, or an argument, says who may come in by a name that
                means nothing here.
        """
        if (problem := problem_with_names(cls, initkwargs)) is not None:
            raise ImproperlyConfigured(f"{problem}.")
        return super().as_asgi(**initkwargs)

    def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> Awaitable[None]:
        """Serve one connection, as an ASGI application."""
        self.scope = scope
        self.path_variables = dict(scope.get("url_route", {}).get("kwargs", {}))
        connection: Connection = getattr(self, CONNECTION)
        return connection.serve(scope, receive, send, _run)


def _run(connection: Websocket) -> Awaitable[Any]:
    served: Connection = getattr(connection, CONNECTION)
    return served.run()
