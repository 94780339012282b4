"""How long the hooks of a connection may take, and what happens to one that takes longer."""

import asyncio
import logging
import time

from panther_channels import conf, status
from panther_channels._socket.reading_ahead import ReadingAhead
from panther_channels._socket.state import OPEN, Socket, State

logger = logging.getLogger("panther_channels")

# Shares of WS_SHUTDOWN_TIMEOUT, one after the other at worst: in which the connections are closed,
# in which their hooks may go on, and in which their disconnect() may.
SPREADING, HANDLING, DISCONNECTING = 0.3, 0.4, 0.3


class HookLimits:
    """The limits in time of one connection whose hook did not end at once.

    Args:
        socket: the connection's.
    """

    __slots__ = ("_cancels", "_cuts", "_gone", "_reading_ahead", "_seen", "_since", "_socket")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._since = socket.since
        self._seen = -2  # messages received when the hook was first found running
        self._gone: float | None = None  # since when
        self._reading_ahead: ReadingAhead | None = None
        self._cuts = 0  # how often the task was cancelled by us
        self._cancels = 0  # how often by others before

    def check(self, now: float) -> None:
        """Cut off the hook that is running, where its time is over."""
        socket = self._socket
        if socket.state is State.CONNECTING:
            limit = conf.connect_timeout()
            if now - socket.since >= limit:
                self.cut_off(f"did not accept within {limit:g} s, and refuses the client")
        elif socket.is_ending:
            limit = grace(DISCONNECTING, socket.close_code)
            if now - socket.since >= limit:
                self.cut_off(f"is still in disconnect() after {limit:g} s, which is cancelled")
        elif self._seen != socket.received:
            self._seen, self._since = socket.received, now
        else:
            self._look_for_the_end(now)

    def _look_for_the_end(self, now: float) -> None:
        socket = self._socket
        code = socket.close_code
        if socket.state is OPEN:
            self._reading_ahead = self._reading_ahead or ReadingAhead(socket)
            self._reading_ahead.go_on()
            if (end := self._reading_ahead.end) is None:
                return
            code = end.get("code")
        if self._gone is None:
            self._gone = now
        limit = grace(HANDLING, code)
        if now - max(self._gone, self._since) >= limit:
            hook = socket.hook
            self.cut_off(f"is in {hook} {limit:g} s after the client has gone: it is cancelled")

    def gone_for(self) -> float:
        """Seconds for which a hook has gone on after the end of the connection."""
        return 0.0 if self._gone is None else time.monotonic() - self._gone

    def cut_off(self, why: str) -> None:
        """Cancel the hook that is running; again and again, if it takes no notice."""
        task = self._socket.task
        if not self._cuts:
            logger.warning("%s %s.", self._socket, why)
            self._cancels = task.cancelling()
        self._cuts += 1
        task.cancel()

    def has_cut_off(self) -> bool:
        """Whether a cancellation of the running task is ours alone; it is taken back then."""
        task = self._socket.task
        if not self._cuts or asyncio.current_task() is not task:
            return False
        for _ in range(self._cuts):
            task.uncancel()
        self._cuts = 0
        return task.cancelling() <= self._cancels

    def close(self) -> None:
        """No hook is running any more."""
        if self._reading_ahead is not None:
            self._reading_ahead.close()


def grace(share: float, code: int | None) -> float:
    """Seconds for a hook after the end of its connection.

    Args:
        share: of ``WS_SHUTDOWN_TIMEOUT``, where the server stops.
        code: the close code.
    """
    seconds = conf.disconnect_grace()
    if code == status.WS_1012_SERVICE_RESTART:  # as uvicorn has it when it stops
        seconds = min(seconds, conf.shutdown_timeout() * share)
    return seconds
