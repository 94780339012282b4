"""WebSockets as Panther writes them: a class with hooks, and two functions to reach it."""

import logging
import re
from asyncio import Task
from collections.abc import Coroutine, Iterable, Mapping
from functools import cached_property
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from panther_channels import status
from panther_channels._consumer import Connection
from panther_channels._encoding import to_json
from panther_channels._handshake import problem_with_names
from panther_channels._lines import shown
from panther_channels._request import Address, Headers, query_params
from panther_channels._state import OPEN, Ending, State
from panther_channels._tasks import Tasks
from panther_channels.connections import (
    check_close,
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

logger = logging.getLogger("panther_channels")

_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Websocket(Connection):
    """One connection: what its handshake request said, and what may be done with it.

    Annotations use this name; to write a handler, subclass :class:`GenericWebsocket`.
    """

    auth: Any = None
    permissions: Any = None

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

    @property
    def connection_id(self) -> str:
        """The id by which this connection is reached from outside, 32 hexadecimal digits.

        Empty before ``accept()`` and after the end; ``disconnect()`` can still read it.
        """
        return self._id if self.is_connected or self._in_disconnect else ""

    @property
    def state(self) -> str:
        """One of "Connected" (not decided yet), "Accepted", "Closed" and "Rejected"."""
        return self._socket.state.value

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open."""
        return self._socket.state is OPEN

    @property
    def messages_received(self) -> int:
        """How many messages the client has sent so far."""
        return self._socket.received

    @property
    def messages_sent(self) -> int:
        """How many messages it has been sent so far."""
        return self._socket.sent

    @property
    def is_rejected(self) -> bool:
        """Whether the handshake was refused."""
        return self._socket.state is State.REJECTED

    @cached_property
    def headers(self) -> Headers:
        """The headers of the request, by attribute or by item; a missing one is ``None``."""
        return Headers(self.scope["headers"])

    @cached_property
    def query_params(self) -> dict[str, str]:
        """The query parameters; of a repeated name the last, blank values dropped."""
        return query_params(self.scope.get("query_string", b""))

    @property
    def path(self) -> str:
        """The path of the URL, percent-decoded."""
        return str(self.scope["path"])

    @property
    def client(self) -> Address | None:
        """The client's address (``ip``, ``port``), ``None`` over a Unix socket."""
        return _address(self.scope.get("client"))

    @property
    def server(self) -> Address | None:
        """The server's address (``ip``, ``port``), where the server tells it."""
        return _address(self.scope.get("server"))

    @property
    def scheme(self) -> str:
        """``"ws"``, or ``"wss"`` over TLS."""
        return str(self.scope.get("scheme", "ws"))

    @property
    def http_version(self) -> str:
        """The HTTP version of the handshake, such as ``"1.1"``."""
        return str(self.scope.get("http_version", "1.1"))

    async def accept(
        self,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Open the connection; from here on it has a ``connection_id`` and can be reached by it.

        Args:
            subprotocol: one of those that the client offered (``scope["subprotocols"]``).
                Default: the one that carried the token, if one did.
            headers: more headers for the response, as a dict or as ASGI's pairs of bytes.

        Raises:
            WebsocketError: the connection was accepted or closed before.
            ValueError: the client didn't offer the subprotocol (RFC 6455 section 4.2.2), or a
                header holds a line break or another control character.
        """
        subprotocol = subprotocol or self.default_subprotocol
        offered = self.scope.get("subprotocols") or []
        if subprotocol is not None and subprotocol not in offered:
            # Not which it did offer: a token may be among them.
            raise ValueError(f"The client didn't offer the subprotocol {subprotocol!r}.")
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        encoded = [(_header_part(name).lower(), _header_part(value)) for name, value in pairs]
        await self._accept(
            {"type": "websocket.accept", "subprotocol": subprotocol, "headers": encoded}
        )

    async def send(self, data: Any = None) -> None:
        """Send a message: a ``str`` as text, ``bytes`` as binary, everything else as JSON.

        Args:
            data: the message; ``None`` is the JSON ``null``.

        Raises:
            WebsocketError: the connection is not open, or the client has gone.
            TypeError: the data can't be encoded as JSON.
        """
        socket = self._socket
        if socket.state is not OPEN:
            raise socket.illegal("send() is legal between accept() and the end of the connection")
        if isinstance(data, str):
            message: dict[str, Any] = {"type": "websocket.send", "text": data}
        elif isinstance(data, bytes):
            message = {"type": "websocket.send", "bytes": data}
        else:
            message = {"type": "websocket.send", "text": to_json(data)}
        try:  # not by socket.emit(): a coroutine less for every message
            await socket.asgi_send(message)
        except (OSError, RuntimeError) as error:
            raise socket.gone() from error
        socket.sent += 1

    async def close(self, code: int = status.WS_1000_NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection; before ``accept()`` that refuses the handshake (HTTP 403).

        Closing a connection that has ended already does nothing.

        Args:
            code: the close code, 1000 by default.
            reason: at most 123 bytes of UTF-8, empty by default.

        Raises:
            ValueError: the code can't be sent, or the reason is too long.
            TypeError: the code is no ``int``, or the reason no ``str``.
        """
        check_close(code, reason)
        if self._socket.state is State.CONNECTING:
            # Of the client's side, there is at most the reason in the answer.
            text = "WebSocket %s was refused by close(%d, %s)."
            logger.info(text, shown(self.path), code, shown(reason))
        await self._close(Ending(code, reason, detail=reason or Ending().detail))

    async def refresh_token(self, token: str) -> None:
        """Take a fresh token of the same user, and with it its later expiry.

        Args:
            token: a token of the kind that let this connection in.

        Raises:
            AuthenticationAPIError: the token is bad, or of another user; uncaught, it closes the
                connection with 1008.
            ImproperlyConfigured: no authentication with tokens let this connection in.
        """
        refresh = getattr(self.authentication, "refresh", None)
        if refresh is None:
            raise ImproperlyConfigured(
                f"{type(self).__qualname__}.refresh_token(): this connection was not let in by a "
                "token"
            )
        await refresh(self, token)
        self._watch_token()

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None
    ) -> "Task[Any]":
        """Run a coroutine beside the hooks, for as long as the connection lasts.

        When the connection ends, the task is cancelled, and ``disconnect()`` waits for it, though
        not longer than two seconds. An exception is logged, and the connection goes on. Unlike
        :func:`asyncio.create_task`, nobody has to keep the task.

        Args:
            coroutine: what to run.
            name: of the task, for logs.

        Raises:
            WebsocketError: the connection has ended.
        """
        if self._socket.state not in {State.CONNECTING, OPEN}:
            coroutine.close()  # or Python warns that it was never awaited
            raise self._socket.illegal("create_task() is legal up to the end of the connection")
        if self._tasks is None:
            self._tasks = Tasks(self._task_failed)
        return self._tasks.create(coroutine, name)

    async def connect(self, *args: Any, **path_variables: Any) -> None:
        """Decide on the connection: ``accept()`` it, or leave it, which refuses it (HTTP 403).

        Runs after authentication and permissions. Parameters take the variables of the URL, cast
        to their annotations; one annotated :class:`Websocket` takes the connection. Nothing is
        ever passed by position: ``*args`` lets type checkers accept every signature here.
        """

    async def receive(self, data: str | bytes) -> None:
        """Handle one message of the client; the next one waits until this returns.

        Args:
            data: a ``str`` for a text frame, ``bytes`` for a binary one.
        """

    async def disconnect(self, code: int) -> None:
        """Clean up; runs exactly once for every accepted connection, whatever ended it.

        Nothing can be sent any more. ``connection_id`` can still be read.

        Args:
            code: the close code that was sent or received; 1005 where there was none, 1006 where
                the connection was lost.
        """


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
        groups: groups of the channel layer to be in while the connection is open. Default: none.
    """


def _address(pair: Any) -> Address | None:
    return None if pair is None else Address(pair[0], pair[1])


def _header_part(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode("latin-1")
    if _CONTROL_CHARACTER.search(encoded):  # not every server looks, and it would end the header
        raise ValueError(f"{value!r} can't be part of a header.")
    return encoded
