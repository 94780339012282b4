"""The connection: its states, its loop, and the one place that talks ASGI.

Channels' own loop makes a task and a thread hop of every message. This one awaits the server and
the handler in the task that the server gave, and leaves a second task to what comes over the
channel layer, so that neither way waits for the other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import django.db
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer

from panther_channels import _database, conf, status
from panther_channels._encoding import from_event
from panther_channels._handshake import authenticate, authorize, middleware_chain
from panther_channels._path_variables import parameters
from panther_channels._state import OPEN, GoneError, IllegalStateError, State, verdict
from panther_channels.connections import EVENT_TYPE, Inbox, event_handler, group_name, is_ours

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket

logger = logging.getLogger("panther_channels")

Message = MutableMapping[str, Any]


class Connection(AsyncWebsocketConsumer):  # type: ignore[misc] # Channels has no types
    """The machinery under :class:`panther_channels.websocket.Websocket`."""

    scope: MutableMapping[str, Any]
    channel_layer: Any = None
    channel_name: str = ""
    path_variables: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._class: Any = type(self)  # Any: to mypy a class with an untyped base is unhashable
        self._state = State.CONNECTING
        self._id = ""
        self._was_accepted = False
        self._in_disconnect = False
        self._has_finished = False
        self._is_attached = False
        self._close_code: int | None = None
        self._is_gone = False  # by the client or from outside, not by the handler
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
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            # Where a middleware neither dispatched nor closed.
            await self._close(status.WS_1008_POLICY_VIOLATION, "")
            await self._finish()
            await _database.close_old()

    async def _serve(self) -> "Connection":
        # As few frames as can be: the event loop resumes through all of them for every message.
        try:
            if self._state is not State.REJECTED:  # a middleware may have accepted already
                await self._shake_hands()
            if self._state is State.CONNECTING:
                await self._close(status.WS_1008_POLICY_VIOLATION, "")
            if self._was_accepted:
                await self._listen()
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            await self._finish()
        return self

    async def _guard(self, hook: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        try:
            await hook(*arguments)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)

    async def _fail_or_raise(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
            await self._look_for_the_end()
            await self._close(status.WS_1012_SERVICE_RESTART, "service restart")
            raise error
        # A cancellation of something else, that a hook awaited, is an exception like others.
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        await self._fail(error)

    async def _shake_hands(self) -> None:
        await _database.close_old()
        connection = cast("Websocket", self)
        await authenticate(connection)
        if self._state is not State.REJECTED:
            await authorize(connection)
        if self._state is not State.REJECTED:
            arguments = parameters(self._class).bind(self.path_variables, self)
            await self._attach()
            with suppress(GoneError):  # its code is yet to be received
                await self.connect(**arguments)

    async def _attach(self) -> None:
        if self._is_attached:
            return
        self._is_attached = True
        layer = get_channel_layer(conf.channel_layer())
        if layer is not None:
            self.channel_layer = layer
            self.channel_name = await layer.new_channel()
            self._inbox = Inbox(layer, self.channel_name)

    async def _accept(self, message: Message) -> None:
        if self._state is not State.CONNECTING or self._id:
            raise self._illegal("accept() is legal once, and not after close()")
        self._id = uuid4().hex
        try:
            await self._attach()
            if self._inbox is not None:
                # Before the client can know that it is open: no outside send comes too early.
                await self._inbox.join([group_name(self._id), *(self.groups or ())])
            if self._state is not State.CONNECTING:
                raise self._illegal("close() came before the end of accept()")  # noqa: TRY301
            await self._emit(message)
        except BaseException:
            self._id = ""  # and accept() may be tried again
            raise
        self._state = OPEN
        self._was_accepted = True
        if self._inbox is not None:
            self._inbox.start(self._on_event, lambda: self._state is OPEN)

    async def _listen(self) -> None:
        receive, handle, database = self._asgi_receive, self.receive, _database.use
        _database.close_old_soon()
        while self._close_code is None:
            message = await receive()
            if message["type"] != "websocket.receive":
                self._lost(message)
            elif self._state is OPEN:
                text = message.get("text")
                try:
                    await handle(message["bytes"] if text is None else text)
                except GoneError:
                    continue  # who closed, and with what code, is known or about to be received
                if database.is_open:
                    _database.close_old_soon()

    def _lost(self, message: Message) -> None:
        code = message.get("code") or status.WS_1005_NO_STATUS_RCVD
        if code == status.WS_1005_NO_STATUS_RCVD and "reason" not in message:
            # uvicorn 0.54 says 1005 of a connection that was lost, too, but then gives no reason.
            code = status.WS_1006_ABNORMAL_CLOSURE
        if self._close_code is None:  # else it was we who closed
            self._close_code = code
        self._is_gone = True
        self._state = State.CLOSED

    async def _finish(self) -> None:
        if self._has_finished:
            return
        self._has_finished = True
        inbox, self._inbox = self._inbox, None
        self._in_disconnect, self._was_accepted = self._was_accepted, False
        try:
            if inbox is not None:
                await inbox.leave()
        finally:
            if self._in_disconnect:
                code = self._close_code or status.WS_1006_ABNORMAL_CLOSURE
                try:
                    await self._guard(self.disconnect, code)
                finally:
                    self._in_disconnect = False

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if kind == EVENT_TYPE:
            await self._guard(self._on_outside, event)
        elif isinstance(kind, str) and (name := event_handler(self._class, kind)):
            await self._guard(getattr(self, name), event)
        else:
            logger.warning(
                "%s ignored an event of type %r: it has no async method of its own for it.",
                type(self).__qualname__,
                kind,
            )
        _database.close_old_soon()

    async def _on_outside(self, event: Mapping[str, Any]) -> None:
        if self._state is not OPEN:
            return
        if "close" in event:
            self._is_gone = True
            await self.close(code=event["code"], reason=event["close"])
            self._is_gone = self._state is not OPEN  # an overridden close() may decline
        elif "json" in event and is_ours(self._class, "send"):
            await self._emit({"type": "websocket.send", "text": event["json"]})
        else:
            await self.send(data=from_event(event))

    async def _look_for_the_end(self) -> None:
        """Take what the server has queued behind a handler: the client may have gone before us."""
        while self._state is OPEN:
            receiving = asyncio.ensure_future(self._asgi_receive())
            await asyncio.sleep(0)  # a queue that isn't empty answers at once
            if not receiving.done():
                receiving.cancel()
                return
            message = receiving.result()
            if message["type"] != "websocket.receive":
                self._lost(message)

    async def _fail(self, error: BaseException) -> None:
        """Log an exception once, and end the connection with what it asks for."""
        if isinstance(error, GoneError):
            return
        code, reason, is_meant = verdict(error, self._state)
        if is_meant:
            logger.info("WebSocket %r was refused: %r", self.scope["path"], str(error))
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
        elif self._state is OPEN:
            self._state = State.CLOSED
            self._close_code = code
        else:
            return
        try:
            await self._emit({"type": "websocket.close", "code": code, "reason": reason})
        except GoneError:
            pass
        except Exception:
            logger.exception("The server took no close frame for %r", self.scope["path"])

    async def _emit(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except (OSError, RuntimeError) as error:
            raise self._gone() from error

    def _gone(self) -> IllegalStateError:
        """The error for a message that the server didn't take.

        OSError is ASGI's word for a client that has gone. RuntimeError is uvicorn's for a close
        frame that overtook the message: ours from another task, or its own when it stops.
        """
        self._is_gone = True
        if self._state is OPEN:
            self._state = State.CLOSED
        return self._illegal("the connection has ended meanwhile")

    def _illegal(self, what: str) -> IllegalStateError:
        kind = GoneError if self._is_gone else IllegalStateError
        return kind(f"{what}; the state of this connection is {self._state.value!r}.")


def _serve(connection: Connection) -> Awaitable[Connection]:
    return connection._serve()  # noqa: SLF001 - the innermost link of the middleware chain
