"""When tokens expire: one timer for all the connections of an event loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from panther_channels._loops import OnePerLoop

_LATE = 0.01  # seconds, so that the deadline has passed on the wall clock, too
_SLACK = 1.0  # seconds at least between two looks at all connections


class Deadlines:
    """The deadlines of connections, and the timer for the next of them.

    Looking at all connections whenever the next deadline is due, and once a second at most, keeps
    the bookkeeping of a connection that comes or goes at one entry of a dict.
    """

    def __init__(self) -> None:
        self._deadlines: dict[Callable[[], Coroutine[Any, Any, None]], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._tasks: set[asyncio.Future[None]] = set()

    def set(self, expire: Callable[[], Coroutine[Any, Any, None]], deadline: float) -> None:
        """Call ``expire()`` in a task at a time in seconds since the epoch, instead of before."""
        self._deadlines[expire] = deadline
        if deadline < self._due:
            self._schedule(deadline)

    def discard(self, expire: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Forget a deadline, if there is one."""
        self._deadlines.pop(expire, None)

    def _schedule(self, due: float, least: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        # The wall clock may be set meanwhile: look again after an hour.
        delay = min(max(due - time.time(), least), 3600.0) + _LATE
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        now = time.time()
        for expire in [item for item, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[expire]
            task = asyncio.ensure_future(expire())
            self._tasks.add(task)  # the loop itself keeps only weak references to tasks
            task.add_done_callback(self._tasks.discard)
        self._timer, self._due = None, float("inf")
        if self._deadlines:
            self._schedule(min(self._deadlines.values()), _SLACK)


#: Of the running event loop.
deadlines = OnePerLoop(Deadlines)


def expiry_of(token: Any) -> float | None:
    """The ``exp`` of a token's claims (RFC 7519 section 4.1.4), in seconds since the epoch."""
    try:
        return float(token["exp"])
    except (TypeError, KeyError, ValueError):
        return None
