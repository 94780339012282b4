"""A WebSocket as its hooks see it: what its request said, and what may be done with it."""

import logging
import re
from asyncio import Task
from collections.abc import Coroutine, Iterable, Mapping, MutableMapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from panther_channels import status
from panther_channels._process.log_lines import shown
from panther_channels._socket.closing import Ending, check_close
from panther_channels._socket.encoding import size_of, to_text
from panther_channels._socket.request import Address, Headers, query_params
from panther_channels._socket.state import OPEN, State
from panther_channels.throttling import Throttle

if TYPE_CHECKING:
    # Hooks have Panther's signatures; types-channels would refuse each override of them.
    from typing import Any as AsyncWebsocketConsumer
else:
    from channels.generic.websocket import AsyncWebsocketConsumer

logger = logging.getLogger("panther_channels")

#: The one private attribute of a handler: its connection.
CONNECTION = "_Websocket__connection"

_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Websocket(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One connection: what its handshake request said, and what may be done with it.

    Annotations use this name; to write a handler, subclass
    :class:`~panther_channels.websocket.GenericWebsocket`.
    """

    # Whatever isn't documented is the user's to name. So there is one attribute more, which no
    # class has by chance; what else is known of the connection is in it.
    __connection: Any  # of `_connection`, which stands above

    auth: Any = None
    permissions: Any = None
    throttle: Throttle | None = None
    close_on_token_expiry: bool | None = None  # None: the setting WS_CLOSE_ON_TOKEN_EXPIRY
    reject_with_close_code = False

    user: Any = None
    token: Any = None
    path_variables: dict[str, Any]

    scope: MutableMapping[str, Any]
    channel_layer: Any = None
    channel_name: str = ""

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """Nothing that could be served: that is a subclass of ``GenericWebsocket``.

        Raises:
            ImproperlyConfigured: always.
        """
        raise ImproperlyConfigured(
            f"{cls.__qualname__} is derived from Websocket, a name for annotations: derive it from "
            "GenericWebsocket."
        )

    @property
    def connection_id(self) -> str:
        """The id by which this connection is reached from outside, 32 hexadecimal digits.

        Empty before ``accept()`` and after the end; ``disconnect()`` can still read it.
        """
        connection = self.__connection
        return str(connection.id) if connection.state is OPEN or connection.is_ending else ""

    @property
    def state(self) -> str:
        """One of "Connected" (not decided yet), "Accepted", "Closed" and "Rejected"."""
        return str(self.__connection.state.value)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open."""
        return self.__connection.state is OPEN

    @property
    def messages_received(self) -> int:
        """How many messages the client has sent so far."""
        return int(self.__connection.received)

    @property
    def messages_sent(self) -> int:
        """How many messages it has been sent so far."""
        return int(self.__connection.sent)

    @property
    def labels(self) -> dict[str, Any]:
        """A dict of what you want to be known of this connection where connections are listed."""
        connection = self.__connection
        if connection.labels is None:
            connection.labels = {}
        labels: dict[str, Any] = connection.labels
        return labels

    @property
    def is_rejected(self) -> bool:
        """Whether the handshake was refused."""
        return self.__connection.state is State.REJECTED

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
        subprotocol = subprotocol or self.__connection.subprotocol
        offered = self.scope.get("subprotocols") or []
        if subprotocol is not None and subprotocol not in offered:
            # Not which it did offer: a token may be among them.
            raise ValueError(f"The client didn't offer the subprotocol {subprotocol!r}.")
        encoded = []
        if headers:
            pairs = headers.items() if isinstance(headers, Mapping) else headers
            encoded = [(_header_part(name).lower(), _header_part(value)) for name, value in pairs]
        await self.__connection.open(
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
        connection = self.__connection
        # Not by the property, which costs more than the rest of these lines.
        if connection._state is not OPEN:
            what = "send() is legal between accept() and the end of the connection"
            raise connection.illegal(what)
        if isinstance(data, bytes):
            message: dict[str, Any] = {"type": "websocket.send", "bytes": data}
            size = len(data)
        else:
            text = data if type(data) is str else to_text(data)
            message = {"type": "websocket.send", "text": text}
            size = len(text) if text.isascii() else size_of(text)
        try:  # not by emit(): a coroutine less for every message
            await connection.asgi_send(message)
        except (OSError, RuntimeError) as error:
            raise connection.gone() from error
        connection.sent += 1
        connection.bytes_sent += size

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
        if self.__connection.state is State.CONNECTING:
            # Of the client's side, there is at most the reason in the answer.
            text, by = "WebSocket %s was refused%s: close(%d, %s)", self.__connection.by
            logger.info(text, shown(self.path), by, code, shown(reason))
        await self.__connection.end(Ending(code, reason, detail=reason or Ending().detail))

    async def refresh_token(self, token: str) -> None:
        """Take a fresh token of the same user, and with it its later expiry.

        Args:
            token: a token of the kind that let this connection in.

        Raises:
            AuthenticationAPIError: the token is bad, or of another user; uncaught, it closes the
                connection with 1008.
            ImproperlyConfigured: no authentication with tokens let this connection in.
        """
        refresh = getattr(self.__connection.authentication, "refresh", None)
        if refresh is None:
            raise ImproperlyConfigured(
                f"{type(self).__qualname__}.refresh_token(): this connection was not let in by a "
                "token"
            )
        await refresh(self, token)
        self.__connection.expire_with_token()

    async def join(self, group: str) -> None:
        """Become a member of a group, up to the end of the connection or to :meth:`leave`.

        From the return of this on, what is sent to the group reaches this connection, but not
        before it is open. Being in a group already does nothing.

        Args:
            group: any text.

        Raises:
            TypeError: it is no ``str``.
            WebsocketError: the connection has ended.
            ImproperlyConfigured: there is no channel layer.
            ChannelLayerError: it is in trouble, or gave no answer within 1.5 seconds.
        """
        await self.__connection.join(group)

    async def leave(self, group: str) -> None:
        """Leave a group; not being in it does nothing. At the end, all are left without this.

        Args:
            group: what :meth:`join` was given, or is in ``groups``.

        Raises:
            ChannelLayerError: the channel layer is in trouble.
        """
        await self.__connection.leave(group)

    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        exclude: Any = None,
        confirm_within: float | None = None,
    ) -> int | None:
        """Send a message to all connections in a group, in whatever process.

        The same as :func:`~panther_channels.websocket.send_message_to_group`. This connection
        need not be in the group; where it is, it gets the message, too.

        Args:
            group: any text.
            data: the message, as in :meth:`send`.
            exclude: ids of connections that don't get it, or one, or ``self``.
            confirm_within: seconds to wait until the connections have it; by default, nobody waits.

        Returns:
            How many connections took it, with ``confirm_within``; else ``None``.

        Raises:
            TypeError: the group is no ``str``, or the data can't be encoded as JSON.
            ValueError: the message is too large for the channel layer.
            ImproperlyConfigured: there is no channel layer.
            ChannelLayerError: it failed, or gave no answer within five seconds.
            DeliveryTimeoutError: not all have confirmed in time.
        """
        took: int | None
        took = await self.__connection.send_to_group(group, data, exclude, confirm_within)
        return took

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
        task: Task[Any] = self.__connection.create_task(coroutine, name)
        return task

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


def _address(pair: Any) -> Address | None:
    return None if pair is None else Address(pair[0], pair[1])


def _header_part(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode("latin-1")
    if _CONTROL_CHARACTER.search(encoded):  # not every server looks, and it would end the header
        raise ValueError(f"{value!r} can't be part of a header.")
    return encoded
