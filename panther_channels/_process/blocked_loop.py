"""Names who holds up an event loop, while it is held up.

A loop that is blocked can't tell of it. A thread looks whether it still ticks, and if not, at what
the loop's thread is doing. It wakes four times a second, whatever the number of connections.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

logger = logging.getLogger("panther_channels")

TICK = 0.25  # seconds
_LIMIT = 1.0  # seconds that a loop may be held up
_LINES = 8  # of a stack


class BlockedLoop:
    """What the thread knows of an event loop.

    Args:
        loop: the loop that is running, in this thread.
        name_of: the connection that a task serves, in words, or ``None``.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name_of: Callable[[Any], str | None]
    ) -> None:
        # Weakly: who keeps this by its loop would keep the loop for ever.
        self._loop = weakref.ref(loop)
        self._name_of = name_of
        self._thread = threading.get_ident()
        self._ticked = time.monotonic()
        self._told = 0.0

    def start(self) -> None:
        """Let the thread look, until the loop is closed."""
        _monitor.add(self)

    def tick(self) -> None:
        """The loop runs: called by it every ``TICK`` seconds."""
        self._thread = threading.get_ident()
        self._ticked = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the loop will never run again."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def check(self, now: float) -> None:
        """Log who holds the loop up, once each time."""
        ticked, loop = self._ticked, self._loop()
        is_late = now - ticked > _LIMIT + TICK and self._told != ticked
        if is_late and loop is not None and loop.is_running():
            self._told = ticked
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented
            task = asyncio.current_task(loop)
            who = self._name_of(task) or (task.get_name() if task else "Something")
            text = "%s holds up the event loop for over a second, and all its clients with it:\n%s"
            logger.warning(text, who, "\n".join(lines_of(frame)))

    def forgive(self, now: float) -> None:
        """Count from now on: the whole process did not run."""
        self._ticked = max(self._ticked, now)


class _Monitor:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops: list[BlockedLoop] = []
        self._is_running = False
        self.due: tuple[float, Callable[[], None]] | None = None

    def add(self, loop: BlockedLoop) -> None:
        _forget_in_children()
        with self._lock:
            self._loops.append(loop)
            if not self._is_running:
                self._is_running = True
                name = "panther_channels.blocked_loop"
                threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        last, last_cpu = time.monotonic(), time.process_time()
        while True:
            time.sleep(TICK)
            now, cpu = time.monotonic(), time.process_time()
            # Late ourselves: either the process was suspended or starved; or it was busy in C code
            # that lets no other thread run, such as a regular expression.
            is_punctual = now - last < 2 * TICK or cpu - last_cpu > _LIMIT / 2
            last, last_cpu = now, cpu
            with self._lock:
                self._loops = [item for item in self._loops if not item.is_over]
                loops = list(self._loops)
                self._is_running = is_running = bool(loops or self.due)
            for loop in loops:
                (loop.check if is_punctual else loop.forgive)(now)
            if self.due is not None and now >= self.due[0]:
                self.due[1]()
            if not is_running:
                return

    def forget(self) -> None:
        """In a forked child, which has neither the thread nor, by chance, a lock that is free."""
        self._lock = threading.Lock()
        self._loops, self._is_running, self.due = [], False, None


_monitor = _Monitor()


@cache
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=lambda: _monitor.forget())


def call_from(moment: float, call: Callable[[], None]) -> None:
    """Call something again and again in the thread that looks at the loops, if there is one.

    Takes no lock, so that the handler of a signal may call it. The first call of this holds.

    Args:
        moment: from when on, as ``time.monotonic()`` tells it.
        call: must not wait.
    """
    _monitor.due = _monitor.due or (moment, call)


def lines_of(frame: FrameType | None) -> list[str]:
    """What is running, innermost last, from the hook on; not how the loop came there."""
    found: list[str] = []
    is_inside = True
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in {"asyncio", "panther_channels"}:
            is_inside = False
        elif not is_inside:
            break
        code = frame.f_code
        found.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}')
        frame = frame.f_back
    if len(found) > _LINES:
        found[_LINES // 2 : -_LINES // 2] = ["  ..."]
    return found[::-1]
