"""The last resort: where a server was told to stop by a signal, the process ends, whatever hangs.

No event loop has to run for it, and no signal handler of Python: a thread does it, that of
:mod:`panther_channels._process.blocked_loop`, which runs where a WebSocket was served.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

from django.conf import settings

from panther_channels import conf
from panther_channels._hub.hub import Hub, hub
from panther_channels._process.blocked_loop import call_from, lines_of
from panther_channels.layers.local import close_all

logger = logging.getLogger("panther_channels")

_MORE = 5.0  # seconds after WS_SHUTDOWN_TIMEOUT
_TELLING = 1.0  # seconds that the log may take
_NAMED = 20  # of those that hang


def told_to_stop(frame: FrameType | None) -> None:
    """Called by the handler of a signal by which a server is told to stop.

    Takes no lock, which what the signal has interrupted may have.

    Args:
        frame: what the handler was given.
    """
    if frame is None or not settings.configured:
        return
    with suppress(RuntimeError):  # no event loop: it has not begun
        end = _End(asyncio.get_running_loop(), hub(), frame)
        call_from(time.monotonic() + conf.shutdown_timeout() + _MORE, end.look)


class _End:
    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Hub, frame: FrameType):
        self._loop = loop
        self._hub = connections
        self._program = _outermost(frame)

    def look(self) -> None:
        """End the process, if a connection or a thread keeps it from its end.

        Requests over HTTP may take as long as the server lets them, and whoever has run a server
        may have something else to do.
        """
        if self._loop.is_running():
            _end(self._loop, self._hub.names())
        elif self._program is not _outermost(_frame_of(threading.main_thread())):
            _end(self._loop, _busy_threads())


def _end(loop: asyncio.AbstractEventLoop, culprits: list[str]) -> None:
    if not culprits:
        return
    text = "Still there %g s after the server was told to stop, and ended with the process:\n%s"
    arguments = (text, conf.shutdown_timeout() + _MORE, "\n".join(culprits[:_NAMED]))
    with suppress(Exception):  # it was not made for this thread, but removes the files
        close_all(loop)
    # Who hangs may hold the lock of the log, or be the one that reads it. A thread would be too
    # late: Python 3.12 begins none at its very end.
    _set_default_action(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, _TELLING)
    logger.critical(*arguments)
    _die()


def _die() -> None:
    _set_default_action(signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
    os._exit(128 + signal.SIGTERM)  # for process 1, of a container, there is no default action


def _set_default_action(number: int) -> None:
    # signal.signal() is for the main thread, which may never run again.
    set_handler = ctypes.pythonapi.PyOS_setsig
    set_handler.argtypes, set_handler.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    set_handler(number, None)  # SIG_DFL


def _busy_threads() -> list[str]:
    """Those that the interpreter waits for, or else the main thread."""
    waited_for = [each for each in threading.enumerate() if not each.daemon]
    others = [each for each in waited_for if each is not threading.main_thread()]
    return [
        "\n".join([f"Thread {thread.name}", *lines_of(_frame_of(thread))])
        for thread in others or waited_for
    ]


def _frame_of(thread: threading.Thread) -> FrameType | None:
    return sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - documented


def _outermost(frame: FrameType | None) -> FrameType | None:
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return frame
