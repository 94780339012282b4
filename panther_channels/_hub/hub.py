"""The connections of an event loop: who is there, what is checked on all of them, how all end.

One periodic tick serves them all. It asks of an idle connection only whether two numbers are
equal, so that a message costs one addition, where a timer or a task of its own would cost more
than its echo.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from panther_channels import conf
from panther_channels._hub.hook_limits import HANDLING, SPREADING, HookLimits, grace
from panther_channels._hub.rechecks import Rechecks
from panther_channels._process.blocked_loop import TICK, BlockedLoop
from panther_channels._process.garbage import Freezer
from panther_channels._process.loops import OnePerLoop
from panther_channels._socket.closing import RESTART
from panther_channels._socket.slow_client import SlowClients
from panther_channels._socket.state import OPEN, Socket, State
from panther_channels._socket.tasks import Tasks

logger = logging.getLogger("panther_channels")

_AT_ONCE = 100  # connections that are closed without a delay
_RATE = 300  # connections that are closed in a second when the server stops

_Expire = Callable[[], Coroutine[Any, Any, None]]


class Hub:
    """What there is of an event loop, which must be running.

    Attributes:
        connections: who is there, by the task that serves it.
        is_stopping: whether the server stops, and lets nobody in any more.
        slow_clients: ends connections whose clients take nothing.
        rechecks: asks again whether connections may stay.
        now: the time at the last tick, as ``time.monotonic()`` tells it.
    """

    def __init__(self) -> None:
        self.is_stopping = False
        self.now = time.monotonic()
        self.slow_clients = SlowClients(tasks := Tasks(_log_failure))
        self.rechecks = Rechecks()
        self._tasks = tasks
        self.connections: dict[asyncio.Task[Any], Socket] = {}
        self._limits: dict[Socket, HookLimits] = {}  # of those that were found busy
        self._expiries: dict[Socket, tuple[float, _Expire]] = {}
        self._next_expiry = float("inf")
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_ticking = False
        self._ended = 0  # connections, ever
        self._freezer = Freezer()
        self._blocked_loop = BlockedLoop(asyncio.get_running_loop(), self._name_of)

    # Who is there

    def enter(self, socket: Socket) -> None:
        """Take in a connection, which the running task serves.

        Raises:
            RuntimeError: no task is running.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        socket.task = task
        self.connections[task] = socket
        self._is_empty.clear()
        if not self._is_ticking:
            self._is_ticking = True
            self._blocked_loop.start()
            self._schedule()

    def leave(self, socket: Socket) -> None:
        """End what :meth:`enter` began."""
        self._limits.pop(socket, None)
        self._expiries.pop(socket, None)
        self.connections.pop(socket.task, None)
        self._ended += 1
        if not self.connections:
            self._is_empty.set()

    def names(self) -> list[str]:
        """The connections that are busy, or else all, in words; may be called by any thread."""
        sockets = list(self.connections.values())
        return [str(socket) for socket in sockets if socket.hook] or [str(each) for each in sockets]

    def _name_of(self, task: Any) -> str | None:
        socket = self.connections.get(task)
        return None if socket is None else str(socket)

    # What is checked on all of them

    def _schedule(self) -> None:
        # No timer is kept: it knows the loop, which would be kept for ever by it.
        asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._schedule()
        self._blocked_loop.tick()
        now = self.now = time.monotonic()
        sockets = list(self.connections.values())
        for socket in sockets:
            if socket.received != socket.handled:  # nearly all of them wait for their clients
                self._limits_of(socket).check(now)
        self.slow_clients.check(now, sockets)
        if self._next_expiry <= time.time():
            self._expire(time.time())
        if not self.is_stopping and conf.gc_freeze():  # else all ends in a moment
            self._freezer.check(now, len(sockets), self._ended)

    def _limits_of(self, socket: Socket) -> HookLimits:
        found = self._limits.get(socket)
        if found is None:
            found = self._limits[socket] = HookLimits(socket)
        return found

    def has_cut_off(self, socket: Socket) -> bool:
        """Whether a cancellation of the running task is by a limit, and nobody else's."""
        limits = self._limits.get(socket)
        return limits is not None and limits.has_cut_off()

    def seconds_for_event(self, socket: Socket) -> float:
        """How long an event in work may go on after the end; a hook may have had that time."""
        seconds, limits = grace(HANDLING, socket.close_code), self._limits.get(socket)
        return seconds if limits is None else max(0.0, seconds - limits.gone_for())

    def hook_ended(self, socket: Socket) -> None:
        """No hook is running any more."""
        socket.handled = socket.received
        if (limits := self._limits.get(socket)) is not None:
            limits.close()

    def expire_token_at(self, socket: Socket, deadline: float, expire: _Expire) -> None:
        """Call ``expire()`` in a task at a time in seconds since the epoch, instead of before."""
        self._expiries[socket] = (deadline, expire)
        if deadline < self._next_expiry:
            self._next_expiry = deadline

    def _expire(self, now: float) -> None:
        # The wall clock may be set meanwhile. A token may have anything in the place of a number:
        # NaN is no deadline, and must not hide those of others.
        for socket, (deadline, expire) in list(self._expiries.items()):
            if deadline <= now:
                del self._expiries[socket]
                self._tasks.create(expire())
        later = (deadline for deadline, _ in self._expiries.values() if deadline > now)
        self._next_expiry = min(later, default=float("inf"))

    # How all end

    async def stop(self, seconds: float) -> None:
        """Close all connections with 1012, and wait for their ends.

        Many are closed a few at a time: their clients would all come back at once. Of those that
        don't take their close frame in time, the TCP connection is cut off.

        Args:
            seconds: WS_SHUTDOWN_TIMEOUT; some of it is left for hooks that have to be cancelled.
        """
        self.is_stopping = True
        started = time.monotonic()
        sockets = list(self.connections.values())
        spread = _seconds_to_close(len(sockets), seconds)
        closing = set()
        for number, socket in enumerate(sockets):
            delay = started + number / len(sockets) * spread - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if socket.state is OPEN:
                socket.is_gone = True  # that it can't send is no mistake of a handler
                # In a task, for the server may let us wait for a slow client.
                closing.add(self._tasks.create(socket.close(RESTART)))
            elif socket.state is State.CONNECTING:
                why = "has not accepted yet, and refuses the client: the server stops"
                self._limits_of(socket).cut_off(why)
        await self.emptied(seconds * (SPREADING + HANDLING) - (time.monotonic() - started))
        for task in closing:
            task.cancel()
        for socket in self.connections.values():
            if socket.transport is not None:
                socket.transport.abort()

    async def emptied(self, seconds: float) -> None:
        """Wait until nobody is there any more, but not longer than so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_empty.wait(), seconds)


def _seconds_to_close(count: int, seconds: float) -> float:
    return min(count / _RATE, seconds * SPREADING) if count > _AT_ONCE else 0.0


def _log_failure(error: BaseException) -> None:
    logger.error("A connection could not be ended", exc_info=error)


#: Of the running event loop.
hub = OnePerLoop(Hub)
