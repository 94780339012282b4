"""Names who holds up an event loop, while it is held up.

A loop that is blocked can't tell of it. A thread looks whether it still beats, and if not, at what
its thread is doing. It wakes four times a second, whatever the number of connections.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

logger = logging.getLogger("panther_channels")

_BEAT = 0.25  # seconds
_LIMIT = 1.0  # seconds that a loop may be held up
_LINES = 8  # of a stack


class Pulse:
    """The beat of an event loop.

    Args:
        loop: the loop that is running.
        name_of: the connection that a task serves, in words, or ``None``.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name_of: Callable[[Any], str | None]
    ) -> None:
        # Weakly: who keeps a Pulse by its loop would keep the loop for ever.
        self._loop = weakref.ref(loop)
        self._name_of = name_of
        self._thread = 0  # the one that runs the loop
        self._beaten = 0.0
        self._told = 0.0
        self._is_beating = False

    def start(self) -> None:
        """Beat until the loop is closed; a second call does nothing."""
        if not self._is_beating:
            self._is_beating = True
            self._beat()
            _patrol.watch(self)

    def _beat(self) -> None:
        self._thread = threading.get_ident()
        self._beaten = time.monotonic()
        asyncio.get_running_loop().call_later(_BEAT, self._beat)

    @property
    def is_over(self) -> bool:
        """Whether the loop will never run again."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def check(self, now: float) -> None:
        """Log who holds the loop up, once each time."""
        beaten, loop = self._beaten, self._loop()
        is_late = now - beaten > _LIMIT + _BEAT and self._told != beaten
        if is_late and loop is not None and loop.is_running():
            self._told = beaten
            frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented
            task = asyncio.current_task(loop)
            who = self._name_of(task) or (task.get_name() if task else "Something")
            text = "%s holds up the event loop for over a second, and all its clients with it:\n%s"
            logger.warning(text, who, "\n".join(lines_of(frame)))

    def forgive(self, now: float) -> None:
        """Count from now on: the whole process did not run."""
        self._beaten = max(self._beaten, now)


class _Patrol:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pulses: list[Pulse] = []
        self._is_walking = False
        self.due: tuple[float, Callable[[], None]] | None = None

    def watch(self, pulse: Pulse) -> None:
        with self._lock:
            self._pulses.append(pulse)
            if not self._is_walking:
                self._is_walking = True
                name = "panther_channels.pulse"
                threading.Thread(target=self._walk, name=name, daemon=True).start()

    def _walk(self) -> None:
        last, last_cpu = time.monotonic(), time.process_time()
        while True:
            time.sleep(_BEAT)
            now, cpu = time.monotonic(), time.process_time()
            # Late ourselves: either the process was suspended or starved; or it was busy in C code
            # that lets no other thread run, such as a regular expression.
            is_punctual = now - last < 2 * _BEAT or cpu - last_cpu > _LIMIT / 2
            last, last_cpu = now, cpu
            with self._lock:
                self._pulses = [item for item in self._pulses if not item.is_over]
                pulses = list(self._pulses)
                self._is_walking = is_walking = bool(pulses or self.due)
            for pulse in pulses:
                (pulse.check if is_punctual else pulse.forgive)(now)
            if self.due is not None and now >= self.due[0]:
                self.due[1]()
            if not is_walking:
                return


_patrol = _Patrol()
# A forked child has neither the thread nor, by chance, a lock that is free.
os.register_at_fork(after_in_child=_patrol.__init__)  # type: ignore[misc]


def call_from(moment: float, call: Callable[[], None]) -> None:
    """Call something again and again in the thread that looks at the loops, if there is one.

    Takes no lock, so that the handler of a signal may call it. The first call of this holds.

    Args:
        moment: from when on, as ``time.monotonic()`` tells it.
        call: must not wait.
    """
    _patrol.due = _patrol.due or (moment, call)


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
