"""The connection: the way from the handshake to the end, and the loop.

Channels' own loop makes a task and a thread hop of every message. This one awaits the server and
the handler in the task that the server gave, and leaves a second task to what comes over the
channel layer, so that neither way waits for the other.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from panther_channels import _database, conf, status
from panther_channels._encoding import size_of
from panther_channels._expiry import deadlines
from panther_channels._handshake import (
    authenticate,
    authorize,
    confirm,
    declared_by,
    middleware_chain,
)
from panther_channels._inbox import Inbox
from panther_channels._limits import LimitedSeat, take_seat
from panther_channels._lines import shown
from panther_channels._outside import Reachable, find_layer
from panther_channels._path_variables import parameters
from panther_channels._state import OPEN, Ending, GoneError, Message, State, too_large
from panther_channels._tasks import Tasks
from panther_channels._watch import watch
from panther_channels.connections import group_name, new_connection_id, user_group
from panther_channels.throttling import Throttle

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket

logger = logging.getLogger("panther_channels")

_UNDECIDED = {State.CONNECTING, State.OPEN}


class Connection(Reachable):
    """The machinery under :class:`panther_channels.websocket.Websocket`."""

    throttle: Throttle | None = None

    user: Any = None
    path_variables: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_disconnect = False
        self._is_authorized = False
        self._tasks: Tasks | None = None
        self._seat: LimitedSeat | None = None

    @classmethod
    def declared(cls, name: str) -> Any:
        """A class attribute as it was written, for the system checks."""
        return declared_by(cls, name)

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
        self.scope = self._socket.scope = scope
        self.path_variables = dict(scope.get("url_route", {}).get("kwargs", {}))
        self._socket.receive = receive
        self._socket.asgi_send = self.base_send = send
        self._vigil = watch().enter(self._socket, type(self).__qualname__)
        try:
            await receive()  # websocket.connect
            await middleware_chain(_serve)(connection=self)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            try:
                await self._close(Ending())  # where a middleware neither dispatched nor closed
                await self._finish()
            finally:
                watch().leave(self._vigil)
                await _database.close_old()

    async def _serve(self) -> "Connection":
        # As few frames as can be: the event loop resumes through all of them for every message.
        try:
            if self._socket.state in _UNDECIDED:  # a middleware may have accepted already
                await self._shake_hands()
            if self._socket.state is State.CONNECTING:
                if not self._socket.is_gone:
                    what = f"{type(self).__qualname__}.connect() returned without accept()"
                    logger.info("WebSocket %s was refused: %s.", shown(self.scope["path"]), what)
                await self._close(Ending())
            if self._socket.was_accepted:
                await self._listen()
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)
        finally:
            await self._finish()
        return self

    async def _shake_hands(self) -> None:
        socket = self._socket
        await _database.close_old()
        connection = cast("Websocket", self)
        await authenticate(connection)
        if socket.state in _UNDECIDED:
            if (group := user_group(self.user)) is not None:
                await self._attach()
                if self._inbox is not None:  # at once: permissions may take their time
                    await self._inbox.join([group])
            await authorize(connection)
        if socket.state not in _UNDECIDED:
            return
        arguments = parameters(self._class).bind(self.path_variables, self)
        await self._attach()
        self._seat = await take_seat(
            self.user, self.scope.get("client"), self.channel_layer, self._give_way
        )
        self._is_authorized = True
        if self._id:  # a middleware has accepted already
            await self._admit()
            self._open()
        if socket.state in _UNDECIDED:
            with suppress(GoneError):  # its code is yet to be received
                await self.connect(**arguments)

    async def _accept(self, message: Message) -> None:
        socket = self._socket
        if socket.state is not State.CONNECTING or self._id:
            raise socket.illegal("accept() is legal once, and not after close()")
        self._id = self._vigil.id = new_connection_id(self.channel_layer or find_layer())
        try:
            await self._attach()
            if self._inbox is not None:
                # Before the client can know that it is open: no outside send comes too early.
                await self._inbox.join([group_name(self._id)])
            if self._is_authorized:
                await self._admit()
            await socket.accept(message)
        except BaseException:
            self._id = self._vigil.id = ""  # and accept() may be tried again
            raise
        if self._slow is not None:
            self._slow.watch(self._id)
        if self._is_authorized:
            self._open()

    async def _admit(self) -> None:
        if self.groups and self._inbox is not None:
            await self._inbox.join(self.groups)
        if self.user is not None:
            # What happened before the connection was in the user's group has reached nobody.
            await confirm(self.user)

    def _open(self) -> None:
        """Hear what comes from outside, which is for those alone who may."""
        socket = self._socket
        if self._inbox is not None:
            self._inbox.start(self._on_event, lambda: socket.state is OPEN)
        if self._seat is not None:
            self._seat.open()
        self._watch_token()

    async def _listen(self) -> None:
        socket, handle, database = self._socket, self.receive, _database.use
        socket.handled = 0
        limit = conf.max_message_size()
        harmless = limit // 4  # characters, of which each has four bytes at most
        if self.throttle is not None:
            handle = self.throttle.limit(handle, self.scope["path"])
        _database.close_old_soon()
        while socket.close_code is None:
            message = await socket.receive()  # not kept: a Lookout may take its place
            if message["type"] != "websocket.receive":
                socket.lost(message)
            elif socket.state is OPEN:
                socket.received += 1
                text = message.get("text")
                data = message["bytes"] if text is None else text
                if len(data) > harmless and size_of(data) > limit:
                    await self._close(Ending(status.WS_1009_MESSAGE_TOO_BIG, too_large(limit)))
                    continue
                if database.is_open:
                    database.begin()
                try:
                    await handle(data)
                except GoneError:
                    continue  # who closed, and with what code, is known or about to be received
                finally:
                    socket.handled += 1
                if database.is_open:
                    _database.close_old_soon()

    async def _finish(self) -> None:
        if self.token is not None:
            deadlines().discard(self._expire)
        slow, self._slow = self._slow, None
        if slow is not None:
            slow.release()
        inbox, self._inbox = self._inbox, None
        seat, self._seat = self._seat, None
        self._in_disconnect, self._socket.was_accepted = self._socket.was_accepted, False
        self._vigil.leave()
        try:
            try:
                if self._tasks is not None:
                    await self._tasks.end()
            finally:
                await _leave(seat, inbox)
        finally:
            if self._in_disconnect:
                code = self._socket.close_code or status.WS_1006_ABNORMAL_CLOSURE
                self._vigil.enter_disconnect()
                try:
                    await self._guard(self.disconnect, code)
                finally:
                    self._in_disconnect = False
                    self._vigil.leave()


async def _leave(seat: LimitedSeat | None, inbox: Inbox | None) -> None:
    try:
        if seat is not None:
            await seat.leave()
    finally:
        if inbox is not None:
            await inbox.leave()


def _serve(connection: Connection) -> Awaitable[Connection]:
    return connection._serve()  # noqa: SLF001 - the innermost link of the middleware chain
