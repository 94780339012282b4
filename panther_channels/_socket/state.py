"""The WebSocket of a connection: its states, what may be sent in each, how it ends."""

import asyncio
import enum
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from panther_channels import status
from panther_channels._process.log_lines import named, shown
from panther_channels._socket.closing import (
    UNAVAILABLE,
    Ending,
    GoneError,
    IllegalStateError,
    shortened_detail,
)
from panther_channels._socket.denial import deny
from panther_channels._socket.transport import Transport

logger = logging.getLogger("panther_channels")

Message = MutableMapping[str, Any]


class State(enum.Enum):
    """The states of a connection, with Panther's words for them."""

    CONNECTING = "Connected"
    OPEN = "Accepted"
    CLOSED = "Closed"
    REJECTED = "Rejected"

    def __str__(self) -> str:
        return self.name


OPEN = State.OPEN  # read for every message; a global is faster than an attribute of an enum


class Socket:
    """A WebSocket as ASGI shows it, and what is known of it.

    Args:
        name: that of the handler's class.

    Attributes:
        scope: the ASGI scope.
        receive: what the server gave, or what reads ahead in its place.
        asgi_send: what the server gave.
        transport: the server's side of TCP, where it is known.
        task: the one in which the hooks run, once it is served.
        id: the connection id; empty until ``accept()``.
        name: that of the handler's class.
        asked: the authentication or permission that is being asked, or has refused.
        since: when the handshake or ``disconnect()`` began, as ``time.monotonic()`` tells it.
        close_code: the code of the close frame that was sent or received, once it is known.
        is_gone: whether the client, or somebody outside, ended it: not the handler.
        is_slow: whether it is being closed because its client takes nothing.
        was_accepted: whether it is, or was, open, and its end has not begun.
        is_ending: whether ``disconnect()`` runs, or is about to.
        received: how many messages came in.
        handled: how many of them were handled; another number while a hook is running.
        sent: how many messages the server took.
        bytes_received: the bytes of those that came in.
        bytes_sent: the bytes of those that the server took.
        last_message: when the latest came in, to a tick of the hub's; 0 before.
    """

    # Not a dict: there may be many thousands of them.
    __slots__ = (
        *("scope", "receive", "asgi_send", "transport", "task", "id", "name", "since", "_state"),
        *("asked", "close_code", "is_gone", "is_slow", "was_accepted", "is_ending"),
        *("received", "handled", "sent", "bytes_received", "bytes_sent", "last_message"),
    )

    scope: MutableMapping[str, Any]
    receive: Callable[[], Awaitable[Message]]
    asgi_send: Callable[[Message], Awaitable[None]]
    task: "asyncio.Task[Any]"

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.transport: Transport | None = None
        self.since = time.monotonic()
        self._state = State.CONNECTING
        self.asked: Any = None
        self.close_code: int | None = None
        self.is_gone = self.is_slow = self.was_accepted = self.is_ending = False
        self.received = self.sent = self.bytes_received = self.bytes_sent = 0
        self.last_message = 0.0
        self.handled = -1  # until connect() has returned

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"

    @property
    def place(self) -> str:
        """Which one it is, for logs."""
        return f"WebSocket {shown(self.scope['path'])}, connection {self.id or '(not accepted)'}"

    @property
    def by(self) -> str:
        """Who refuses, for logs: a permission or an authentication, or nothing for a hook."""
        return "" if self.asked is None else f" by {named(self.asked)}"

    @property
    def state(self) -> State:
        """The state, which is set here alone."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            logger.debug("%s is %s", self, state)

    @property
    def hook(self) -> str | None:
        """The hook that is running, if one is."""
        if self.received == self.handled:
            return None
        if self.is_ending:
            return "disconnect()"
        return "receive()" if self.received else "connect()"

    async def accept(self, message: Message) -> None:
        """Accept the handshake."""
        if self._state is not State.CONNECTING:
            raise self.illegal("close() came before the end of accept()")
        await self.emit(message)
        self.state = OPEN
        self.was_accepted = True

    async def close(
        self, ending: Ending, *, with_code: bool = False, subprotocol: str | None = None
    ) -> None:
        """Close what is open, refuse what is connecting; raises nothing.

        Args:
            ending: what to answer.
            with_code: accept and close at once, instead of refusing the handshake.
            subprotocol: the one to accept with then.
        """
        try:
            if self.state is State.CONNECTING:
                self.state = State.REJECTED
                if with_code:
                    await self._accept_and_close(ending, subprotocol)
                else:
                    code, reason, status, detail = ending
                    await deny(
                        self.scope, self.receive, self.emit, status, detail, close=(code, reason)
                    )
            elif self.state is OPEN:
                self.state = State.CLOSED
                self.close_code = ending.code
                if self.transport is not None:
                    self.transport.unblock()  # it doesn't wait behind what waits
                await self._close_frame(ending.code, ending.reason)
        except GoneError:
            pass
        except Exception:
            logger.exception("The server took no close frame for %s", shown(self.scope["path"]))

    async def _accept_and_close(self, ending: Ending, subprotocol: str | None) -> None:
        # A browser's script sees nothing of a refused handshake, but the code of a closed socket.
        # It fails the connection if it offered subprotocols and none is selected.
        chosen = subprotocol or next(iter(self.scope.get("subprotocols") or ()), None)
        await self.emit({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
        # A mistake or an outage is no refusal.
        if ending.code == status.WS_1011_INTERNAL_ERROR or ending is UNAVAILABLE:
            await self._close_frame(ending.code, ending.reason)
            return
        is_private = ending.code >= status.WS_3000_UNAUTHORIZED
        code = ending.code if is_private else 4000 + ending.status
        await self._close_frame(code, ending.reason or shortened_detail(ending.detail))

    async def _close_frame(self, code: int, reason: str) -> None:
        await self.emit({"type": "websocket.close", "code": code, "reason": reason})

    async def emit(self, message: Message) -> None:
        """Hand a message to the server.

        Raises:
            GoneError: the server doesn't take it any more.
        """
        try:
            await self.asgi_send(message)
        except (OSError, RuntimeError) as error:
            raise self.gone() from error

    def gone(self) -> IllegalStateError:
        """The error for a message that the server didn't take.

        OSError is ASGI's word for a client that has gone. RuntimeError is uvicorn's for a close
        frame that overtook the message: ours from another task, or its own when it stops.
        """
        self.is_gone = True
        if self.state is OPEN:
            self.state = State.CLOSED
        return self.illegal("the connection has ended meanwhile")

    def lost(self, message: Message) -> None:
        """Take note of ``websocket.disconnect``."""
        code = message.get("code") or status.WS_1005_NO_STATUS_RCVD
        if code == status.WS_1005_NO_STATUS_RCVD and "reason" not in message:
            # uvicorn 0.54 says 1005 of a connection that was lost, too, but then gives no reason.
            code = status.WS_1006_ABNORMAL_CLOSURE
        if self.close_code is None:  # else it was we who closed
            self.close_code = code
        self.is_gone = True
        self.state = State.CLOSED

    async def look_for_the_end(self) -> None:
        """Take what the server has queued behind a handler: the client may have gone before us."""
        while self.state is OPEN:
            receiving = asyncio.ensure_future(self.receive())
            await asyncio.sleep(0)  # a queue that isn't empty answers at once
            if not receiving.done():
                receiving.cancel()
                return
            message = receiving.result()
            if message["type"] != "websocket.receive":
                self.lost(message)

    def illegal(self, what: str) -> IllegalStateError:
        """The error for a call that the state doesn't allow."""
        kind = GoneError if self.is_gone else IllegalStateError
        return kind(f"{what}; the state of this connection is {self.state.value!r}.")
