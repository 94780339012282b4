"""A connection: the way from its handshake to its end, which a handler has and isn't.

Channels' own loop makes a task and a thread hop of every message. This one awaits the server and
the handler in the task that the server gave, and leaves a second task to what comes over the
channel layer, so that neither way waits for the other.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import django.db
from channels.exceptions import InvalidChannelLayerError

from panther_channels import conf, status
from panther_channels._handshake.credentials import expiry_of
from panther_channels._handshake.parameters import parameters
from panther_channels._handshake.questions import (
    authenticate,
    authentications_of,
    authorize,
    confirm,
    middleware_chain,
    offered_subprotocol,
)
from panther_channels._hub.addresses import group_name, new_connection_id, user_group
from panther_channels._hub.connection_limits import Seat, take_seat
from panther_channels._hub.delivery import EVENT_TYPE, close_event, find_channel_layer
from panther_channels._hub.hook_limits import HANDLING, grace
from panther_channels._hub.hub import hub
from panther_channels._hub.subscription import Subscription, event_handler, is_not_overridden
from panther_channels._process import database, outage
from panther_channels._process.log_lines import shown
from panther_channels._socket import transport
from panther_channels._socket.closing import (
    HOOK_OVERDUE,
    RESTART,
    TOKEN_EXPIRED,
    TOO_MANY_CONNECTIONS,
    Ending,
    GoneError,
    check_close,
    ending_for,
    is_refusal,
    too_large,
)
from panther_channels._socket.encoding import checked_text, from_event, size_of
from panther_channels._socket.state import OPEN, Message, Socket, State
from panther_channels._socket.tasks import Tasks
from panther_channels.exceptions import ChannelLayerError
from panther_channels.layers.backplane import backplane

logger = logging.getLogger("panther_channels")

_UNDECIDED = {State.CONNECTING, State.OPEN}


class Connection(Socket):
    """One connection, and all that is known of it.

    Args:
        handler: the user's object, whose hooks it calls.

    Attributes:
        handler: it, until the end.
        subprotocol: the one to accept with where the handler selects none.
        authentication: the one that found the user.
    """

    __slots__ = (
        *("handler", "subprotocol", "authentication", "_class", "_is_attached", "_is_authorized"),
        *("_subscription", "_seat", "_tasks"),
    )

    def __init__(self, handler: Any) -> None:
        super().__init__(type(handler).__qualname__)
        self.handler = handler
        self.subprotocol: str | None = None
        self.authentication: Any = None
        self._class: Any = type(handler)
        self._is_attached = self._is_authorized = False
        self._subscription: Subscription | None = None
        self._seat: Seat | None = None
        self._tasks: Tasks | None = None

    @property
    def user(self) -> Any:
        """The user, which the authentication, a middleware or a hook has set."""
        return self.handler.user

    # From the handshake to the end

    async def serve(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        run: Callable[..., Awaitable[Any]],
    ) -> None:
        """Serve from the handshake to the end, as an ASGI application.

        Raises nothing but what cancels it: an exception that got out would be taken by Channels'
        ``URLRouter`` for "no match", or end the socket without a close frame.

        Args:
            scope: of ASGI.
            receive: of ASGI.
            send: of ASGI.
            run: the innermost link of the chain of middlewares, which calls :meth:`run`.
        """
        self.scope, self.receive, self.asgi_send = scope, receive, send
        self.transport = transport.find(send, receive)
        hub().enter(self)
        try:
            await receive()  # websocket.connect
            await middleware_chain(run)(connection=self.handler)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            try:
                await self.end(Ending())  # where a middleware neither dispatched nor closed
                await self._finish()
            finally:
                hub().leave(self)
                # Two that know each other are for the garbage collector, which comes late.
                del self.handler
                await database.close_old()

    async def run(self) -> Any:
        """Serve within the middlewares; returns the handler."""
        # As few frames as can be: the event loop resumes through all of them for every message.
        try:
            if self.state in _UNDECIDED:  # a middleware may have accepted already
                await self._shake_hands()
            if self.state is State.CONNECTING:
                if not self.is_gone:
                    what = f"{self.name}.connect() returned without accept()"
                    logger.info("WebSocket %s was refused: %s.", shown(self.scope["path"]), what)
                await self.end(Ending())
            if self.was_accepted:
                await self._receive_frames()
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            await self._finish()
        return self.handler

    async def _shake_hands(self) -> None:
        handler = self.handler
        await database.close_old()
        authentications = authentications_of(handler)
        self.subprotocol = offered_subprotocol(authentications, self.scope)
        self.authentication = await authenticate(handler, authentications)
        if self.state in _UNDECIDED:
            if (group := user_group(self.user)) is not None:
                await self._subscribe()
                if self._subscription is not None:  # at once: permissions may take their time
                    await self._subscription.join([group])
            await authorize(handler)
        if self.state not in _UNDECIDED:
            return
        arguments = parameters(self._class).bind(handler.path_variables, handler)
        await self._subscribe()
        self._seat = await take_seat(
            self.user, self.scope.get("client"), handler.channel_layer, self._give_way
        )
        self._is_authorized = True
        if self.id:  # a middleware has accepted already
            await self._join_groups()
            self._start_hearing()
        if self.state in _UNDECIDED:
            with suppress(GoneError):  # its code is yet to be received
                await handler.connect(**arguments)

    async def _subscribe(self) -> None:
        if self._is_attached:
            return
        self._is_attached = True
        conf.send_timeout()  # a mistake in it is told here, and not in the tick of all
        if (layer := _find_layer()) is not None:
            found = backplane(layer)
            naming = found.new_channel()
            name = await outage.limited(naming, outage.TO_JOIN, found.longest_wait)
            self.handler.channel_layer, self.handler.channel_name = layer, name
            self._subscription = Subscription(layer, name)
            self._subscription.bound(conf.max_send_buffer(), self._overflow)

    async def open(self, message: Message) -> None:
        """Accept the handshake, and be reachable from outside before the client knows of it.

        Raises:
            WebsocketError: it was accepted or closed before.
        """
        if self.state is not State.CONNECTING or self.id:
            raise self.illegal("accept() is legal once, and not after close()")
        self.id = new_connection_id(self.handler.channel_layer or _find_layer())
        try:
            await self._subscribe()
            if self._subscription is not None:
                # Before the client can know that it is open: no outside send comes too early.
                await self._subscription.join([group_name(self.id)])
            if self._is_authorized:
                await self._join_groups()
            await self.accept(message)
        except BaseException:
            self.id = ""  # and accept() may be tried again
            raise
        if self._is_authorized:
            self._start_hearing()

    async def _join_groups(self) -> None:
        if self.handler.groups and self._subscription is not None:
            await self._subscription.join(self.handler.groups)
        if self.user is not None:
            # What happened before the connection was in the user's group has reached nobody.
            await confirm(self.user)

    def _start_hearing(self) -> None:
        """Hear what comes from outside, which is for those alone who may."""
        if self._subscription is not None:
            self._subscription.start(self._on_event, lambda: self.state is OPEN)
        if self._seat is not None:
            self._seat.open()
        self.expire_with_token()

    async def _receive_frames(self) -> None:
        handler, use = self.handler, database.use
        handle = handler.receive
        self.handled = 0
        limit = conf.max_message_size()
        harmless = limit // 4  # characters, of which each has four bytes at most
        if handler.throttle is not None:
            handle = handler.throttle.limit(handle, self.scope["path"])
        database.close_old_soon()
        while self.close_code is None:
            message = await self.receive()  # not kept: what reads ahead may take its place
            if message["type"] != "websocket.receive":
                self.lost(message)
            elif self._state is OPEN:
                self.received += 1
                text = message.get("text")
                data = message["bytes"] if text is None else text
                if len(data) > harmless and size_of(data) > limit:
                    self.handled += 1
                    await self.end(Ending(status.WS_1009_MESSAGE_TOO_BIG, too_large(limit)))
                    continue
                if use.is_open:
                    use.begin()
                try:
                    await handle(data)
                except GoneError:
                    continue  # who closed, and with what code, is known or about to be received
                finally:
                    self.handled += 1
                if use.is_open:
                    database.close_old_soon()

    async def _finish(self) -> None:
        found = hub()
        found.forget_token(self)
        found.slow_clients.leave(self)
        subscription, self._subscription = self._subscription, None
        seat, self._seat = self._seat, None
        self.is_ending, self.was_accepted = self.was_accepted, False
        found.hook_ended(self)
        try:
            try:
                if self._tasks is not None:
                    await self._tasks.end()
            finally:
                await self._leave(seat, subscription)
        finally:
            if self.is_ending:
                code = self.close_code or status.WS_1006_ABNORMAL_CLOSURE
                self.handled, self.since = -1, time.monotonic()
                try:
                    await self._guard(self.handler.disconnect, code)
                finally:
                    self.is_ending = False
                    found.hook_ended(self)

    async def _leave(self, seat: Seat | None, subscription: Subscription | None) -> None:
        try:
            if seat is not None:
                await seat.leave()
        finally:
            if subscription is not None:
                limit = grace(HANDLING, self.close_code)
                if not await subscription.leave(limit):
                    text = "%s was handling an event %g s after its end: that was cancelled."
                    logger.warning(text, self, limit)

    # What comes from outside

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        if database.use.is_open:
            database.use.begin()
        kind = event.get("type") if isinstance(event, Mapping) else None
        if kind == EVENT_TYPE:
            await self._guard(self._on_outside, event)
        elif isinstance(kind, str) and (name := event_handler(self._class, kind)):
            await self._guard(getattr(self.handler, name), event)
        else:
            text = "%s ignored an event of type %r: it has no async method of its own for it."
            logger.warning(text, self.name, kind)
        database.close_old_soon()

    async def _on_outside(self, event: Mapping[str, Any]) -> None:
        if self._state is not OPEN:
            return
        try:
            is_close, is_json, data = "close" in event, False, None
            if is_close:
                check_close(event["code"], event["close"])
            elif is_json := "json" in event and is_not_overridden(self._class, "send"):
                data = checked_text(event["json"])
            else:
                data = from_event(event)
        except (LookupError, TypeError, ValueError) as error:
            # Another version of this package, or a stranger.
            logger.warning("%s ignored an event: %r", self.name, error)
            return
        if is_close:
            self.is_gone = True
            await self.handler.close(code=event["code"], reason=event["close"])
            self.is_gone = self.state is not OPEN  # an overridden close() may decline
        elif is_json:
            await self.emit({"type": "websocket.send", "text": data})
            self.sent += 1
        else:
            await self.handler.send(data=data)

    async def _dismiss(self, ending: Ending) -> None:
        await self._guard(self._on_outside, close_event(ending.code, ending.reason))

    async def _give_way(self) -> None:
        await self._dismiss(TOO_MANY_CONNECTIONS)

    def _overflow(self) -> None:
        """More waits in the channel layer than may."""
        hub().slow_clients.end(self, f"more than {conf.max_send_buffer()} bytes wait")

    def expire_with_token(self) -> None:
        """Close when the token expires, where that is wanted; before ``accept()``, that asks."""
        if self.state is not OPEN:
            return
        token, is_wanted = self.handler.token, self.handler.close_on_token_expiry
        if token is None or is_wanted is False:
            return
        if is_wanted or conf.close_on_token_expiry():
            deadline = getattr(self.authentication, "expires_at", expiry_of)(token)
            if deadline is not None:
                hub().expire_token_at(self, deadline, lambda: self._dismiss(TOKEN_EXPIRED))

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], name: str | None
    ) -> "asyncio.Task[Any]":
        """Run a coroutine until the end of the connection.

        Raises:
            WebsocketError: that has come.
        """
        if self.state not in _UNDECIDED:
            coroutine.close()  # or Python warns that it was never awaited
            raise self.illegal("create_task() is legal up to the end of the connection")
        if self._tasks is None:
            self._tasks = Tasks(self._task_failed)
        return self._tasks.create(coroutine, name)

    # What an exception does: it is logged once, and ends its connection, and no other

    async def _guard(self, hook: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        try:
            await hook(*arguments)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)

    async def _fail_or_raise(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError):
            is_overdue = hub().has_cut_off(self)
            if is_overdue or task is None or task.cancelling():
                await self.look_for_the_end()
                await self.end(HOOK_OVERDUE if is_overdue else RESTART)
                if is_overdue:
                    return
                raise error
        # A cancellation of something else, that a hook awaited, is an exception like others.
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        await self._fail(error)

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, GoneError):
            return
        ending, state = ending_for(error), self.state
        if isinstance(error, ChannelLayerError):
            done = "refused" if state is State.CONNECTING else "closed"
            outage.log_end(self.scope["path"], done, error)
            await self.end(ending)
            return
        is_closing = state is OPEN and ending.code != status.WS_1011_INTERNAL_ERROR
        if is_refusal(error) and (is_closing or state in {State.CONNECTING, State.REJECTED}):
            text = "WebSocket %s was refused: %s"
            logger.info(text, shown(self.scope["path"]), shown(str(error)))
        else:
            logger.error("%s: %s failed", self.place, self.name, exc_info=error)
        await self.end(ending)
        if isinstance(error, django.db.Error):
            await database.close_old()

    def _task_failed(self, error: BaseException) -> None:
        if not isinstance(error, GoneError):
            logger.error("%s: a task of %s failed", self.place, self.name, exc_info=error)
        database.close_old_soon()

    async def end(self, ending: Ending) -> None:
        """Close or refuse as the handler wants it; after the end, do nothing."""
        with_code = self.state is State.CONNECTING and self.handler.reject_with_close_code
        await self.close(ending, with_code=with_code, subprotocol=self.subprotocol)


def _find_layer() -> Any:
    try:
        return find_channel_layer()
    except InvalidChannelLayerError as error:  # a backend that isn't there, or not installed
        raise ChannelLayerError(str(error)) from error
