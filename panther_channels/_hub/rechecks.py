"""Asking again whether connections may stay: a few at a time, and none of them all the time.

What changes a user's access changes it for all of that user's connections, a change of a group's
permissions for those of thousands, and all of them ask one database.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from panther_channels._process.log_lines import Repeats
from panther_channels._socket.state import OPEN, Socket
from panther_channels._socket.tasks import Tasks

logger = logging.getLogger("panther_channels")

_AT_ONCE = 4
_PATIENCE = 10.0  # seconds
_REST = 1.0  # seconds until a connection asks again, or another is tried in an outage

_unknown = Repeats(logger, logging.ERROR, interval=10.0)


class Rechecks:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._known: dict[Socket, bool] = {}  # and whether one is wanted after this one
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks = Tasks(_log_failure)

    def want(self, socket: Socket, recheck: Callable[[], Awaitable[None]]) -> None:
        """Ask soon, once for all that is wanted meanwhile, and until there is an answer.

        Args:
            socket: the connection's.
            recheck: asks, and closes; what it raises says that there is no answer.
        """
        if socket in self._known:
            self._known[socket] = True
        else:
            self._known[socket] = False
            self._tasks.create(self._run(socket, recheck))

    async def _run(self, socket: Socket, recheck: Callable[[], Awaitable[None]]) -> None:
        # In an outage the turn is kept for a while, so that the others don't all try.
        try:
            is_answered = False
            while not is_answered:
                async with self._turns:
                    self._known[socket] = False
                    is_answered = socket.state is not OPEN or await self._ask(socket, recheck)
        finally:
            asyncio.get_running_loop().call_later(_REST, self._rested, socket, recheck)

    async def _ask(self, socket: Socket, recheck: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                await recheck()
        except Exception as error:  # noqa: BLE001 - only such as say that there is no answer
            what = str(error) or type(error).__name__
            _unknown.add(
                type(error).__name__,
                f"Whether {socket} may stay isn't known, and it stays until it is: {what}",
            )
            await asyncio.sleep(_REST)
            return False
        return True

    def _rested(self, socket: Socket, recheck: Callable[[], Awaitable[None]]) -> None:
        if self._known.pop(socket, False) and socket.state is OPEN:
            self.want(socket, recheck)


def _log_failure(error: BaseException) -> None:
    logger.error("A connection could not ask again whether it may stay", exc_info=error)
