"""How a connection ends whose client doesn't take what it is sent: 1013 "slow consumer"."""

import asyncio
import logging
from collections.abc import Iterable

from panther_channels import conf
from panther_channels._socket.closing import SLOW_CLIENT
from panther_channels._socket.state import OPEN, Socket, State
from panther_channels._socket.tasks import Tasks
from panther_channels._socket.transport import Transport

logger = logging.getLogger("panther_channels")

_LINGER = 2.0  # seconds for the close frame to reach a client that does read
_CHECKS = 4  # of all connections, in the time after which one that is stuck is ended


class SlowClients:
    """Finds the clients of an event loop that have stopped taking bytes, and ends them.

    Args:
        tasks: keeps the tasks that close.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._stuck: dict[Transport, tuple[int, float]] = {}  # what was taken, and since when
        self._left: set[Transport] = set()  # of connections that have ended
        self._again_at = 0.0

    def leave(self, socket: Socket) -> None:
        """A connection has ended; whether its client takes what still waits is checked on."""
        # The server wants to flush it before it closes the transport.
        transport, socket.transport = socket.transport, None
        if transport is not None and transport.waiting():
            self._left.add(transport)

    def check(self, now: float, sockets: Iterable[Socket]) -> None:
        """End those of which nothing was taken for ``WS_SEND_TIMEOUT``; not at every call."""
        if now < self._again_at:
            return
        limit = conf.send_timeout()
        self._again_at = now + limit / _CHECKS
        before, self._stuck = self._stuck, {}
        for socket in sockets:
            transport = socket.transport
            if transport is None or not transport.waiting():
                continue
            if self._is_stuck(transport, before, now, limit):
                self.end(socket, f"nothing was taken for {limit:g} seconds")
        for transport in list(self._left):
            if not transport.waiting():
                self._left.discard(transport)
            elif self._is_stuck(transport, before, now, limit):
                transport.abort()

    def _is_stuck(
        self,
        transport: Transport,
        before: dict[Transport, tuple[int, float]],
        now: float,
        limit: float,
    ) -> bool:
        taken = transport.taken()
        found = before.get(transport)
        if found is None or taken > found[0]:
            found = (taken, now)
        self._stuck[transport] = found
        return now - found[1] >= limit

    def end(self, socket: Socket, why: str) -> None:
        """End a connection, once; what isn't open any more is cut off."""
        transport = socket.transport
        if socket.state is not OPEN:
            if socket.state is State.CONNECTING:
                _log(socket, why)
            if transport is not None:
                transport.abort()
        elif not socket.is_slow:
            _log(socket, why)
            socket.is_slow = socket.is_gone = True
            self._tasks.create(_close(socket, transport))


async def _close(socket: Socket, transport: Transport | None) -> None:
    await socket.close(SLOW_CLIENT)
    if transport is not None:
        asyncio.get_running_loop().call_later(_LINGER, transport.abort)


def _log(socket: Socket, why: str) -> None:
    text = "%s: %s, %s; it is closed with 1013."
    logger.warning(text, socket.place, SLOW_CLIENT.reason, why)
