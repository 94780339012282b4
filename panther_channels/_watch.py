"""The limits in time of a connection's hooks: one timer for all the connections of an event loop.

A look at all connections, twice a second, asks of each only whether two numbers are equal. So a
message costs one addition, where a timer or a task of its own would cost more than its echo.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from panther_channels import conf, status
from panther_channels._lines import shown
from panther_channels._lookout import Lookout
from panther_channels._loops import OnePerLoop
from panther_channels._pulse import Pulse
from panther_channels._state import OPEN, Ending, Socket, State

logger = logging.getLogger("panther_channels")

_INTERVAL = 0.5  # seconds
_AT_ONCE = 100  # connections that are closed without a delay
_RATE = 300  # connections that are closed in a second when the server stops
# Shares of WS_SHUTDOWN_TIMEOUT, one after the other at worst.
_SPREADING, _HANDLING, _DISCONNECTING = 0.3, 0.4, 0.3

RESTART = Ending(status.WS_1012_SERVICE_RESTART, "service restart")
OVERDUE = Ending(
    status.WS_1013_TRY_AGAIN_LATER,
    status=status.HTTP_503_SERVICE_UNAVAILABLE,
    detail="Service Unavailable",
)


class Vigil:
    """What is known of one connection: which hook is running, and since when.

    Args:
        task: the one in which the hooks run.
        socket: its socket.
        name: that of its class.

    Attributes:
        id: its connection id, once it has one.
        task: the one in which the hooks run.
    """

    __slots__ = (
        "_cancels",
        "_cuts",
        "_gone",
        "_is_in_disconnect",
        "_lookout",
        "_name",
        "_seen",
        "_since",
        "id",
        "socket",
        "task",
    )

    def __init__(self, task: "asyncio.Task[Any]", socket: Socket, name: str) -> None:
        self.id = ""
        self.socket = socket
        self.task = task
        self._name = name
        self._since = time.monotonic()
        self._seen = -2
        self._gone: float | None = None  # since when
        self._lookout: Lookout | None = None
        self._is_in_disconnect = False
        self._cuts = 0  # how often the task was cancelled by us
        self._cancels = 0  # how often by others before

    def __str__(self) -> str:
        path = shown(self.socket.scope["path"])
        return f"{self._name} (WebSocket {path}, connection {self.id or '(not accepted)'})"

    def look(self, now: float) -> None:
        """Cut off the hook that is running, where its time is over."""
        if self.socket.state is State.CONNECTING:
            limit = conf.connect_timeout()
            if now - self._since >= limit:
                self.cut_off(f"did not accept within {limit:g} s, and refuses the client")
        elif self._is_in_disconnect:
            limit = self._grace(_DISCONNECTING, self.socket.close_code)
            if now - self._since >= limit:
                self.cut_off(f"is still in disconnect() after {limit:g} s, which is cancelled")
        elif self._seen != self.socket.received:
            self._seen, self._since = self.socket.received, now
        else:
            self._look_for_the_end(now)

    def _look_for_the_end(self, now: float) -> None:
        code = self.socket.close_code
        if self.socket.state is OPEN:
            self._lookout = self._lookout or Lookout(self.socket)
            self._lookout.look()
            if (end := self._lookout.end) is None:
                return
            code = end.get("code")
        if self._gone is None:
            self._gone = now
        limit = self._grace(_HANDLING, code)
        if now - max(self._gone, self._since) >= limit:
            hook = "receive()" if self.socket.received else "connect()"
            self.cut_off(f"is in {hook} {limit:g} s after the client has gone: it is cancelled")

    def _grace(self, share: float, code: int | None) -> float:
        grace = conf.disconnect_grace()
        if code == status.WS_1012_SERVICE_RESTART:  # as uvicorn has it when it stops
            grace = min(grace, conf.shutdown_timeout() * share)
        return grace

    def cut_off(self, why: str) -> None:
        """Cancel the hook that is running; again and again, if it takes no notice."""
        if not self._cuts:
            logger.warning("%s %s.", self, why)
            self._cancels = self.task.cancelling()
        self._cuts += 1
        self.task.cancel()

    def was_cut_off(self) -> bool:
        """Whether a cancellation of the running task is ours alone; it is taken back then."""
        cuts, self._cuts = self._cuts, 0
        if not cuts or asyncio.current_task() is not self.task:
            self._cuts = cuts
            return False
        for _ in range(cuts):
            self.task.uncancel()
        return self.task.cancelling() <= self._cancels

    def leave(self) -> None:
        """No hook is running any more."""
        self.socket.handled = self.socket.received
        if self._lookout is not None:
            self._lookout.close()

    def enter_disconnect(self) -> None:
        """``disconnect()`` is running."""
        self._is_in_disconnect = True
        self.socket.handled = -1
        self._since = time.monotonic()


def seconds_to_close(count: int, seconds: float) -> float:
    """How long it takes to close so many connections when the server stops.

    Args:
        count: how many there are.
        seconds: WS_SHUTDOWN_TIMEOUT.
    """
    return min(count / _RATE, seconds * _SPREADING) if count > _AT_ONCE else 0.0


class Watch:
    """The connections of an event loop, which must be running.

    Attributes:
        is_stopping: whether the server stops, and lets nobody in any more.
    """

    def __init__(self) -> None:
        self.is_stopping = False
        self._vigils: dict[asyncio.Task[Any], Vigil] = {}
        # No more of the timer: it knows the loop, which would be kept for ever by it.
        self._is_scheduled = False
        self._is_empty = asyncio.Event()
        self._pulse = Pulse(asyncio.get_running_loop(), self._name_of)

    def enter(self, socket: Socket, name: str) -> Vigil:
        """Keep watch over the connection that is served by the running task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        vigil = self._vigils[task] = Vigil(task, socket, name)
        if not self._is_scheduled:
            self._pulse.start()
            self._schedule()
        return vigil

    def leave(self, vigil: Vigil) -> None:
        """End what :meth:`enter` began."""
        self._vigils.pop(vigil.task, None)
        if not self._vigils:
            self._is_empty.set()

    async def stop(self, seconds: float) -> None:
        """Close all connections with 1012, and wait for their ends.

        Many are closed a few at a time: their clients would all come back at once.

        Args:
            seconds: WS_SHUTDOWN_TIMEOUT; some of it is left for those that have to be cancelled.
        """
        self.is_stopping = True
        self._is_empty.clear()
        vigils = list(self._vigils.values())
        spread = seconds_to_close(len(vigils), seconds)
        started = time.monotonic()
        closing = set()
        for number, vigil in enumerate(vigils):
            delay = started + number / len(vigils) * spread - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if vigil.socket.state is OPEN:
                vigil.socket.is_gone = True  # that it can't send is no mistake of a handler
                # In a task, for the server may let us wait for a slow client.
                closing.add(asyncio.ensure_future(vigil.socket.close(RESTART)))
            elif vigil.socket.state is State.CONNECTING:
                vigil.cut_off("has not accepted yet, and refuses the client: the server stops")
        if self._vigils:
            left = seconds * (_SPREADING + _HANDLING) - (time.monotonic() - started)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_empty.wait(), left)
        for task in closing:
            task.cancel()

    def names(self) -> list[str]:
        """The connections that are busy, or else all, in words; may be called by any thread."""
        vigils = list(self._vigils.values())
        busy = [each for each in vigils if each.socket.received != each.socket.handled]
        return [str(vigil) for vigil in busy or vigils]

    def _look(self) -> None:
        now = time.monotonic()
        for vigil in list(self._vigils.values()):
            socket = vigil.socket
            if socket.received != socket.handled:  # nearly all of them wait for their clients
                vigil.look(now)
        self._is_scheduled = False
        if self._vigils:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_later(_INTERVAL, self._look)

    def _name_of(self, task: Any) -> str | None:
        vigil = self._vigils.get(task)
        return None if vigil is None else str(vigil)


#: Of the running event loop.
watch = OnePerLoop(Watch)
