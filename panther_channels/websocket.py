"""WebSockets as Panther writes them: a class with hooks, and functions to reach it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Self

from django.core.exceptions import ImproperlyConfigured

from panther_channels import conf
from panther_channels._connection import Connection
from panther_channels._handshake.parameters import problem_with_hooks
from panther_channels._handshake.questions import problem_with_names
from panther_channels._hub.listing import PresentUser
from panther_channels._socket.state import Message
from panther_channels._socket.websocket import CONNECTION, Websocket
from panther_channels.connections import (
    close_all_websockets,
    close_group_websockets,
    close_user_websockets,
    close_websocket_connection,
    count_connections,
    get_connection,
    list_connections,
    online_users,
    recheck_user_websockets,
    send_message_to_all,
    send_message_to_group,
    send_message_to_user,
    send_message_to_websocket,
    send_messages,
    websocket_exists,
)

__all__ = [
    "GenericWebsocket",
    "Websocket",
    "close_all_websockets",
    "close_group_websockets",
    "close_user_websockets",
    "close_websocket_connection",
    "count_connections",
    "get_connection",
    "list_connections",
    "online_users",
    "recheck_user_websockets",
    "send_message_to_all",
    "send_message_to_group",
    "send_message_to_user",
    "send_message_to_websocket",
    "send_messages",
    "websocket_exists",
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
        groups: groups to be in while the connection is open, any texts. Default: none.
        announces_presence: whether the members of its groups are told of its user, and it of
            theirs, by ``user_joined`` and ``user_left``. Default: ``False``.
    """

    announces_presence = False

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Give it its connection; not in ``__init__()``, which a class need not call."""
        handler: Self = super().__new__(cls)
        setattr(handler, CONNECTION, Connection(handler))
        return handler

    async def user_joined(self, group: str, user: PresentUser) -> None:
        """Somebody has come to a group that this connection is in: its own user, too.

        Called in all members of the group whose class has ``announces_presence``, once for a user,
        however many connections that has, in whatever processes. Who was there before isn't told.
        It runs in the order of what comes from outside, and what it raises closes the connection.

        Args:
            group: what :meth:`join` was given, or is in ``groups``.
            user: the user.
        """

    async def user_left(self, group: str, user: PresentUser) -> None:
        """The last connection of a user has left a group, two seconds ago.

        Who is back by then, as after a reload of the page, hasn't left. If a process is killed, or
        hangs, those in it have left within half a minute.

        Args:
            group: as in :meth:`user_joined`.
            user: the user.
        """

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """The ASGI application for a ``URLRouter`` of your own, as in Channels.

        Args:
            initkwargs: what an ``__init__()`` of yours takes.

        Raises:
            ImproperlyConfigured: the class, or an argument, says who may come in by a name that
                means nothing here; a hook takes other arguments than it is given; or this package
                is missing in ``INSTALLED_APPS``.
        """
        conf.check_installed()
        if (problem := problem_with_names(cls, initkwargs)) is not None:
            raise ImproperlyConfigured(f"{problem}.")
        if (problem := problem_with_hooks(cls)) is not None:
            raise ImproperlyConfigured(f"{cls.__qualname__}.{problem}.")
        return super(Websocket, cls).as_asgi(**initkwargs)

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
