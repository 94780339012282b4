"""The connection: its states, its loop, and the one place that talks ASGI.

Channels' own loop makes a task and a thread hop of every message. This one awaits the server and
the handler in the task that the server gave, and leaves a second task to what comes over the
channel layer, so that neither way waits for the other.
"""

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import django.db
from asgiref.sync import iscoroutinefunction
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

from panther_channels import _database, conf, status
from panther_channels._encoding import from_event, to_json
from panther_channels._handshake import authenticate, authorize, middleware_chain
from panther_channels._path_variables import parameters
from panther_channels.connections import EVENT_TYPE, Inbox, check_close, group_name
from panther_channels.exceptions import BaseError, WebsocketError

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket

logger = logging.getLogger("panther_channels")

Message = MutableMapping[str, Any]


class State(enum.Enum):
    """The states of a connection, with Panther's words for them."""

    CONNECTING = "Connected"
    OPEN = "Accepted"
    CLOSED = "Closed"
    REJECTED = "Rejected"


_OPEN = State.OPEN  # a global is read faster than an attribute of an enum


class IllegalStateError(WebsocketError):
    """A method was called in a state in which it is not legal."""


class GoneError(IllegalStateError):
    """The client has gone, or somebody else closed the connection: nobody's mistake."""


class Connection(AsyncWebsocketConsumer):
    """The machinery under :class:`panther_channels.websocket.Websocket`."""

    channel_layer_alias: str | None = None  # None: the setting WS_CHANNEL_LAYER

    scope: MutableMapping[str, Any]
    channel_layer: Any = None
    channel_name: str = ""
    path_variables: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._state = State.CONNECTING
        self._id = ""
        self._was_accepted = False
        self._in_disconnect = False
        self._close_code: int | None = None
        self._is_gone = False  # the client went, or somebody outside closed: not the handler's doing
        self._inbox: Inbox | None = None

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one connection from the handshake to its end, as an ASGI application.

        Raises nothing but what cancels it: an exception that got out would be taken by Channels'
        ``URLRouter`` for "no match", or end the socket without a close frame.
        """
        self.scope = scope
        self.path_variables = dict(scope.get("url_route", {}).get("kwargs", {}))
        self._asgi_receive = receive
        self._asgi_send = self.base_send = send
        await receive()  # websocket.connect
        try:
            await middleware_chain(_serve)(connection=self)
        except Exception as error:
            await self._fail(error)
        finally:
            # Where a middleware neither dispatched nor closed.
            await self._close(status.WS_1008_POLICY_VIOLATION, "")
            await self._finish()

    async def accept(
        self,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Open the connection; from here on it has a ``connection_id`` and can be reached by it.

        Args:
            subprotocol: one of those that the client offered (``scope["subprotocols"]``).
            headers: more headers for the response, as a dict or as ASGI's pairs of bytes.

        Raises:
            WebsocketError: the connection was accepted or closed before.
            ValueError: the client didn't offer the subprotocol (RFC 6455 section 4.2.2).
        """
        if self._state is not State.CONNECTING or self._id:
            raise self._illegal("accept() is legal once, and not after close()")
        offered = self.scope.get("subprotocols") or []
        if subprotocol is not None and subprotocol not in offered:
            raise ValueError(f"The client offered the subprotocols {offered}, not {subprotocol!r}.")
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        encoded = [(_to_bytes(name).lower(), _to_bytes(value)) for name, value in pairs]
        self._id = uuid4().hex
        await self._attach()
        if self._inbox is not None:
            # Before the client can know that it is open: no outside send comes too early.
            await self._inbox.join([group_name(self._id), *(self.groups or ())])
        await self._emit(
            {"type": "websocket.accept", "subprotocol": subprotocol, "headers": encoded}
        )
        self._state = _OPEN
        self._was_accepted = True
        if self._inbox is not None:
            self._inbox.start(self._on_event, lambda: self._state is _OPEN)

    async def send(self, data: Any = None) -> None:
        """Send a message: a ``str`` as text, ``bytes`` as binary, everything else as JSON.

        Args:
            data: the message; ``None`` is the JSON ``null``.

        Raises:
            WebsocketError: the connection is not open, or the client has gone.
            TypeError: the data can't be encoded as JSON.
        """
        if self._state is not _OPEN:
            raise self._illegal("send() is legal between accept() and the end of the connection")
        if isinstance(data, bytes):
            await self._emit({"type": "websocket.send", "bytes": data})
        else:
            text = data if isinstance(data, str) else to_json(data)
            await self._emit({"type": "websocket.send", "text": text})

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
        await self._close(code, reason)

    async def _serve(self) -> None:
        try:
            if self._state is State.CONNECTING:
                await self._open()
            if self._state is _OPEN:
                await self._listen()
        except asyncio.CancelledError:
            await self._close(status.WS_1012_SERVICE_RESTART, "service restart")
            raise
        except Exception as error:
            await self._fail(error)
        finally:
            await self._finish()

    async def _open(self) -> None:
        await _database.close_old()
        connection = cast("Websocket", self)
        await authenticate(connection)
        if self._state is not State.REJECTED:
            await authorize(connection)
        if self._state is not State.REJECTED:
            arguments = parameters(type(self)).bind(self.path_variables, self)
            await self._attach()
            await self.connect(**arguments)
        if self._state is State.CONNECTING:
            await self._close(status.WS_1008_POLICY_VIOLATION, "")

    async def _attach(self) -> None:
        alias = self.channel_layer_alias or conf.channel_layer()
        if self._inbox is None and (layer := get_channel_layer(alias)) is not None:
            self.channel_layer = layer
            self.channel_name = await layer.new_channel()
            self._inbox = Inbox(layer, self.channel_name)

    async def _listen(self) -> None:
        receive = self._asgi_receive
        while self._close_code is None:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._close_code = message.get("code") or status.WS_1005_NO_STATUS_RCVD
                self._is_gone = True
                self._state = State.CLOSED
            elif self._state is _OPEN:
                text = message.get("text")
                try:
                    await self.receive(message["bytes"] if text is None else text)
                except GoneError:
                    continue  # who closed, and with what code, is known or about to be received
                _database.close_old_soon()

    async def _finish(self) -> None:
        inbox, self._inbox = self._inbox, None
        accepted, self._was_accepted = self._was_accepted, False
        try:
            if inbox is not None:
                await inbox.leave()
        finally:
            if accepted:
                self._in_disconnect = True
                try:
                    await self.disconnect(self._close_code or status.WS_1006_ABNORMAL_CLOSURE)
                except Exception as error:
                    await self._fail(error)
                finally:
                    self._in_disconnect = False
            await _database.close_old()

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        try:
            if kind == EVENT_TYPE:
                await self._on_outside(event)
            elif isinstance(kind, str) and (name := _event_handler(type(self), kind)):
                await getattr(self, name)(event)
            else:
                logger.warning(
                    "%s ignored an event of type %r: it has no async method of its own for it.",
                    type(self).__qualname__,
                    kind,
                )
        except Exception as error:
            await self._fail(error)

    async def _on_outside(self, event: Mapping[str, Any]) -> None:
        if self._state is not _OPEN:
            return
        if "close" in event:
            self._is_gone = True
            await self.close(code=event["code"], reason=event["close"])
        elif "json" in event and type(self).send is Connection.send:
            await self._emit({"type": "websocket.send", "text": event["json"]})
        else:
            await self.send(data=from_event(event))

    async def _fail(self, error: Exception) -> None:
        """Log an exception once, and end the connection with what it says, or with 1011."""
        if isinstance(error, GoneError):
            return
        code, reason = status.WS_1011_INTERNAL_ERROR, ""
        is_refusal = isinstance(error, BaseError) and not isinstance(error, IllegalStateError)
        if isinstance(error, BaseError) and is_refusal and status.is_sendable(error.status_code):
            code = error.status_code
            reason = str(error).encode(errors="replace")[:123].decode(errors="ignore")
        if is_refusal and (self._state is State.CONNECTING or code != 1011):
            logger.info("WebSocket %r was refused: %s", self.scope["path"], error)
        else:
            logger.error(
                "WebSocket %r, connection %s: %s failed",
                self.scope["path"],
                self._id or "(not accepted)",
                type(self).__qualname__,
                exc_info=error,
            )
        await self._close(code, reason)
        if isinstance(error, django.db.Error):
            await _database.close_old()

    async def _close(self, code: int, reason: str) -> None:
        if self._state is State.CONNECTING:
            self._state = State.REJECTED
        elif self._state is _OPEN:
            self._state = State.CLOSED
            self._close_code = code
        else:
            return
        with suppress(GoneError):
            await self._emit({"type": "websocket.close", "code": code, "reason": reason})

    async def _emit(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except OSError as error:  # by the ASGI specification: the client has gone
            self._is_gone = True
            if self._state is _OPEN:
                self._state = State.CLOSED
            raise self._illegal("the client has gone") from error
        except RuntimeError as error:
            if self._state is _OPEN or message["type"] != "websocket.send":
                raise
            # close() overtook a send() that waited for a slow client.
            raise self._illegal("the connection was closed meanwhile") from error

    def _illegal(self, what: str) -> IllegalStateError:
        kind = GoneError if self._is_gone else IllegalStateError
        return kind(f"{what}; the state of this connection is {self._state.value!r}.")


async def _serve(connection: Connection) -> Connection:
    await connection._serve()  # noqa: SLF001 - the innermost link of the middleware chain
    return connection


@lru_cache(maxsize=256)
def _event_handler(consumer: type[Connection], event_type: str) -> str | None:
    """The method that a class defines itself for a type of event, as Channels names it.

    Never one that this package, Channels or Python defines: an event from the layer must not pass
    for one of the server, nor reach ``close()``.
    """
    name = event_type.replace(".", "_")
    for base in consumer.__mro__:
        if base.__module__.partition(".")[0] in _OURS and name in vars(base):
            return None
    handler = None if name.startswith("_") else getattr(consumer, name, None)
    return name if iscoroutinefunction(handler) else None


_OURS = {"panther_channels", "channels", "builtins"}


def _to_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
