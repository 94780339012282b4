"""``asyncio.timeout()`` for what is done often: all share one timer.

One of its own for each would be a fifth of what a message over Redis costs its sender.
"""

import asyncio
from types import TracebackType
from typing import Any


class Timeouts:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._running: set[_Timeout] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer is, if there is one

    def after(self, seconds: float) -> "_Timeout":
        """A context that cancels the running task then, and raises ``TimeoutError`` instead."""
        return _Timeout(self, asyncio.get_running_loop().time() + seconds)

    def begin(self, timeout: "_Timeout") -> None:
        """Note one that may expire."""
        self._running.add(timeout)
        if self._timer is None or timeout.at < self._due:
            self._set_timer(timeout.at)

    def end(self, timeout: "_Timeout") -> None:
        """Forget one, but not the timer, which the next one needs."""
        self._running.discard(timeout)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due, self._timer = at, asyncio.get_running_loop().call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for timeout in [each for each in self._running if each.at <= self._due]:
            self.end(timeout)
            timeout.expire()
        if self._running:
            self._set_timer(min(each.at for each in self._running))


class _Timeout:
    __slots__ = ("_cancelling", "_has_expired", "_task", "_timeouts", "at")

    _task: Any

    def __init__(self, timeouts: Timeouts, at: float) -> None:
        self._timeouts = timeouts
        self._has_expired = False
        self.at = at

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling()
        self._timeouts.begin(self)

    def expire(self) -> None:
        self._has_expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._timeouts.end(self)
        # As asyncio's does: whose task somebody else has cancelled, too, isn't told of this.
        is_told = self._has_expired and self._task.uncancel() <= self._cancelling
        if is_told and kind is asyncio.CancelledError:
            raise TimeoutError from error
