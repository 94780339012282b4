"""A connection: the way from its handshake to its end, which a handler has and isn't.

Channels' own loop makes a task and a thread hop of every message. This one awaits the server and
the handler in the task that the server gave, and leaves a second task to what comes over the
channel layer, so that neither way waits for the other.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextvars import copy_context
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
    permissions_of,
    reauthenticate,
    refresh,
)
from panther_channels._hub.addresses import (
    layer_group,
    new_connection_id,
    session_digest,
    user_group,
)
from panther_channels._hub.connection_limits import Seat, limits_of, take_seat
from panther_channels._hub.control import Control, control
from panther_channels._hub.delivery import (
    EVENT_TYPE,
    channel_layer,
    close_event,
    find_channel_layer,
    message_event,
)
from panther_channels._hub.hook_limits import HANDLING, grace
from panther_channels._hub.hub import Hub, hub
from panther_channels._hub.outside import check_within, deliver, outgoing
from panther_channels._hub.presence import EVENT_TYPE as PRESENCE_TYPE
from panther_channels._hub.presence import news_of, presence
from panther_channels._hub.subscription import Subscription, event_handler, is_not_overridden
from panther_channels._process import caches, database, outage
from panther_channels._process.log_lines import shown
from panther_channels._socket import transport
from panther_channels._socket.closing import (
    HOOK_OVERDUE,
    RESTART,
    SESSION_ENDED,
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
from panther_channels.authentications import SessionAuthentication
from panther_channels.exceptions import BaseError, ChannelLayerError

logger = logging.getLogger("panther_channels")

_SOON = 0.1  # seconds

_UNDECIDED = (State.CONNECTING, OPEN)  # no set, for which Python hashes an enum itself
_REFUSED = {
    **dict.fromkeys((State.CONNECTING, State.REJECTED), "was refused"),
    OPEN: "was closed",
}


class Connection(Socket):
    """One connection, and all that is known of it.

    Args:
        handler: the user's object, whose hooks it calls.

    Attributes:
        handler: it, until the end.
        subprotocol: the one to accept with where the handler selects none.
        authentication: the one that found the user.
        labels: what the handler wants to be known of it; ``None`` where it never asked for them.
        groups: what it has joined, with what that is called on the channel layer.
        subscription: to what comes from outside, until its end begins.
    """

    __slots__ = (
        *("handler", "subprotocol", "authentication", "groups", "labels", "_class"),
        *("_is_attached", "_is_authorized", "_has_finished", "subscription", "_seat", "_tasks"),
        *("_control", "_hub"),
    )

    def __init__(self, handler: Any) -> None:
        super().__init__(type(handler).__qualname__)
        self.handler = handler
        self.subprotocol: str | None = None
        self.authentication: Any = None
        self.groups: dict[str, str] | None = None
        self.labels: dict[str, Any] | None = None
        self._class: Any = type(handler)
        self._is_attached = self._is_authorized = self._has_finished = False
        self.subscription: Subscription | None = None
        self._seat: Seat | None = None
        self._tasks: Tasks | None = None
        self._hub: Hub  # from serve() on: before, there may be no event loop
        self._control: Control | None = None  # with the subscription

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
        self._hub = hub()
        self._hub.enter(self)
        kept = caches.opened()
        try:
            await receive()  # websocket.connect
            await middleware_chain(run)(connection=self.handler)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            try:
                if self._state in _UNDECIDED:  # a middleware neither dispatched nor closed
                    await self.end(Ending())
                if not self._has_finished:
                    await self._finish()
            finally:
                self._hub.leave(self)
                caches.close_all_but(kept)
                # Two that know each other are for the garbage collector, which comes late.
                del self.handler
                if database.use.is_open:
                    await database.close_old_at_end()

    async def run(self) -> Any:
        """Serve within the middlewares; returns the handler."""
        # As few frames as can be: the event loop resumes through all of them for every message.
        try:
            if self._state in _UNDECIDED:  # a middleware may have accepted already
                await self._shake_hands()
            if self._state is State.CONNECTING:
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
        database.use.begin()
        if authentications := authentications_of(handler):
            self.subprotocol = offered_subprotocol(authentications, self.scope)
            self.authentication = await authenticate(handler, authentications)
        if self._state in _UNDECIDED:
            if (group := user_group(handler.user)) is not None:
                await self._subscribe()
                if self.subscription is not None:  # at once: permissions may take their time
                    await self.subscription.join(group)
                    if time.monotonic() - self.since > _SOON:
                        # What was said meanwhile has reached nobody.
                        await confirm(self.user)
                        await reauthenticate(handler, self._who_is_asked_again())
            if permissions := permissions_of(handler):
                await authorize(handler, permissions)
        if self._state not in _UNDECIDED:
            return
        arguments = parameters(self._class).bind(handler.path_variables, handler)
        await self._subscribe()
        if limits := limits_of(handler.user, self.scope.get("client")):
            self._seat = await take_seat(limits, handler.channel_layer, self._give_way)
        self._is_authorized = True
        if self.id:  # a middleware has accepted already
            await self._join_groups()
            self._start_hearing()
        if self._state in _UNDECIDED:
            try:
                await handler.connect(**arguments)
            except GoneError:
                return  # its code is yet to be received

    async def _subscribe(self) -> None:
        if self._is_attached:
            return
        self._is_attached = True
        conf.send_timeout()  # a mistake in it is told here, and not in the tick of all
        if (layer := _find_layer()) is not None:
            self.subscription = await Subscription.open(layer)
            self.handler.channel_layer = layer
            self.handler.channel_name = self.subscription.name
            self._control = control(layer)
            await self._control.expect(self)
            self.subscription.bound(conf.max_send_buffer(), self._overflow)

    async def open(self, message: Message) -> None:
        """Accept the handshake, and be reachable from outside before the client knows of it.

        Raises:
            WebsocketError: it was accepted or closed before.
        """
        if self._state is not State.CONNECTING or self.id:
            raise self.illegal("accept() is legal once, and not after close()")
        layer = self.handler.channel_layer
        self.id = new_connection_id(layer if self._is_attached else _find_layer())
        try:
            await self._subscribe()
            if self.subscription is not None and self._control is not None:
                # Before the client can know that it is open: no outside send comes too early.
                await self.subscription.join_as(self.id)
                self._control.enter(self)
            if self._is_authorized:
                await self._join_groups()
            await self.accept(message)
        except BaseException:
            if self._control is not None:
                self._control.forget(self.id)
            self.id = ""  # and accept() may be tried again
            raise
        if self._is_authorized:
            self._start_hearing()

    async def _join_groups(self) -> None:
        if self.handler.groups and self.subscription is not None:
            for group in self.handler.groups:
                await self.join(group)
        if self.handler.user is not None:
            # What happened before the connection was in the user's group has reached nobody.
            await confirm(self.user)

    def _start_hearing(self) -> None:
        """Hear what comes from outside, which is for those alone who may."""
        if self.subscription is not None:
            self.subscription.start(self._on_event, lambda: self.state is OPEN)
        if self._seat is not None:
            self._seat.open()
        if self.groups and self._class.announces_presence and self.was_accepted:
            presence(self.handler.channel_layer).enter(self, self.groups.items())
        self.expire_with_token()

    async def _receive_frames(self) -> None:
        handler, use, clock = self.handler, database.use, self._hub
        handle = handler.receive
        self.handled = 0
        limit = conf.max_message_size()
        if handler.throttle is not None:
            handle = handler.throttle.limit(handle, self.scope["path"])
        database.close_old_soon()
        while self.close_code is None:
            message = await self.receive()  # not kept: what reads ahead may take its place
            if message["type"] != "websocket.receive":
                self.lost(message)
            elif self._state is OPEN:
                self.received += 1
                self.last_message = clock.now
                text = message.get("text")
                data = message["bytes"] if text is None else text
                size = len(data) if text is None or text.isascii() else size_of(text)
                self.bytes_received += size
                if size > limit:
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
        self._has_finished = True
        found = self._hub
        found.slow_clients.leave(self)
        subscription, self.subscription = self.subscription, None
        seat, self._seat = self._seat, None
        self.is_ending, self.was_accepted = self.was_accepted, False
        found.hook_ended(self)
        try:
            try:
                if self._tasks is not None:
                    await self._tasks.end()
            finally:
                if seat is not None or subscription is not None:
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
            if subscription is not None and self._control is not None:
                if self.groups and self._class.announces_presence:
                    await presence(self.handler.channel_layer).leave(self, self.groups.values())
                self._control.forget(self.id)
                if not await subscription.leave(lambda: self._hub.seconds_for_event(self)):
                    limit = grace(HANDLING, self.close_code)
                    text = "%s was handling an event %g s after its end: that was cancelled."
                    logger.warning(text, self, limit)
                await self._control.leave(self)

    # What comes from outside

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        if database.use.is_open:
            database.use.begin()
        kind = event.get("type") if isinstance(event, Mapping) else None
        if kind == EVENT_TYPE:
            hook = self._on_confirmed if "due" in event else self._on_outside
            await self._guard(hook, event)
        elif kind == PRESENCE_TYPE:
            await self._guard(self._on_presence, event)
        elif isinstance(kind, str) and (name := event_handler(self._class, kind)):
            await self._guard(getattr(self.handler, name), event)
        else:
            text = "%s ignored an event of type %r: it has no async method of its own for it."
            logger.warning(text, self.name, kind)
        database.close_old_soon()

    async def _on_outside(self, event: Mapping[str, Any]) -> bool:
        """Do what somebody outside wants; whether that was done."""
        if self._state is not OPEN:
            return False
        try:
            if "exclude" in event and self.id in event["exclude"]:
                return False
            is_close, is_recheck, is_json, data = "close" in event, False, False, None
            if is_close:
                check_close(event["code"], event["close"])
            elif is_json := "json" in event and is_not_overridden(self._class, "send"):
                data = checked_text(event["json"])
            elif not (is_recheck := "recheck" in event):
                data = from_event(event)
        except (LookupError, TypeError, ValueError) as error:
            # Another version of this package, or a stranger.
            logger.warning("%s ignored an event: %r", self.name, error)
            return False
        if is_close:
            self.is_gone = True
            await self.handler.close(code=event["code"], reason=event["close"])
            self.is_gone = self.state is not OPEN  # an overridden close() may decline
        elif is_recheck:
            await self._on_recheck(str(event["recheck"]))
        elif is_json:
            await self.emit({"type": "websocket.send", "text": data})
            self.sent += 1
            self.bytes_sent += size_of(data or "")
        else:
            await self.handler.send(data=data)
        return True

    async def _on_confirmed(self, event: Mapping[str, Any]) -> None:
        took = False
        try:
            took = await self._on_outside(event)
        finally:
            if self._control is not None:
                self._control.settle(event["due"], self, took=took)

    async def _on_presence(self, event: Mapping[str, Any]) -> None:
        group, news = news_of(event)
        for is_there, user in news:
            if self._state is OPEN and group in (self.groups or ()):
                hook = self.handler.user_joined if is_there else self.handler.user_left
                await hook(group, user)

    async def _dismiss(self, ending: Ending) -> None:
        await self._guard(self._on_outside, close_event(ending.code, ending.reason))

    async def _on_recheck(self, ended_session: str) -> None:
        find_key = getattr(self._who_is_asked_again(), "session_key_of", None)
        key = find_key(self.handler) if ended_session and find_key is not None else None
        if key is not None and session_digest(key) == ended_session:
            await self._lose_access(SESSION_ENDED)
        else:
            self._hub.rechecks.want(self, self._recheck)

    async def _recheck(self) -> None:
        handler = self.handler
        if database.use.is_open:
            database.use.begin()
        try:
            await refresh(handler.user)
            await reauthenticate(handler, self._who_is_asked_again())
            await authorize(handler, permissions_of(handler))
        except Exception as error:
            if outage.is_unanswered(error):
                raise
            if not is_refusal(error):
                logger.exception("%s: access could not be asked again", self.place)
            if self.state is OPEN:
                await self._lose_access(ending_for(error))
        finally:
            self.asked = None
            database.close_old_soon()

    def _who_is_asked_again(self) -> Any:
        found = self.authentication
        if not hasattr(found, "recheck") and "session" in self.scope:
            user = self.scope.get("user")
            if user is not None and user == self.user:  # of Channels' AuthMiddleware
                return SessionAuthentication()
        return found

    async def _lose_access(self, ending: Ending) -> None:
        logger.info("%s: access has ended%s: %s", self.place, self.by, shown(ending.reason))
        await self._dismiss(ending)

    async def _give_way(self) -> None:
        await self._dismiss(TOO_MANY_CONNECTIONS)

    def _overflow(self) -> None:
        """More waits in the channel layer than may."""
        self._hub.slow_clients.end(self, f"more than {conf.max_send_buffer()} bytes wait")

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
                self._hub.expire_token_at(self, deadline, lambda: self._dismiss(TOKEN_EXPIRED))

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
        context, kept = copy_context(), caches.opened()
        task = self._tasks.create(coroutine, name, context)
        task.add_done_callback(lambda _task: caches.close_all_but(kept), context=context)
        return task

    # Groups

    async def join(self, group: str) -> None:
        """Become a member of a group, up to the end; does nothing if it is one."""
        name = layer_group(group)
        if self.state not in _UNDECIDED:
            raise self.illegal("join() is legal up to the end of the connection")
        if self.groups is None:
            self.groups = {}
        if group in self.groups:
            return
        await self._subscribe()
        if self.subscription is None:
            channel_layer()  # says that there is none
        else:
            await self.subscription.join(name)
            if self._class.announces_presence:
                present = presence(self.handler.channel_layer)
                await present.expect()
                if self.was_accepted:  # and still is
                    present.enter(self, [(group, name)])
            self.groups[group] = name

    async def leave(self, group: str) -> None:
        """Leave a group; does nothing if it isn't in it."""
        name = self.groups.pop(group, None) if self.groups else None
        if name is not None and self.subscription is not None:
            if self._class.announces_presence:
                await presence(self.handler.channel_layer).leave(self, [name])
            await self.subscription.leave_group(name)

    async def send_to_group(
        self, group: str, data: Any, exclude: Any, within: float | None
    ) -> int | None:
        """Send a message to all members of a group, whether this is one or not."""
        event, layer = message_event(data), self.handler.channel_layer or channel_layer()
        check_within(within)
        return await deliver(layer, outgoing(layer, layer_group(group), event, exclude), within)

    # What an exception does: it is logged once, and ends its connection, and no other

    async def _guard(self, hook: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        try:
            await hook(*arguments)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)

    async def _fail_or_raise(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError):
            is_overdue = self._hub.has_cut_off(self)
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
        is_mistake = state is OPEN and ending.code == status.WS_1011_INTERNAL_ERROR
        if is_refusal(error) and not is_mistake:
            kind, why = type(error).__name__, str(error)
            said = [] if isinstance(error, BaseError) else [kind]
            said += [shown(why)] if why else []
            done = _REFUSED.get(state, "has ended")
            text = "WebSocket %s %s%s: %s"
            logger.info(text, shown(self.scope["path"]), done, self.by, " ".join(said))
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
