"""A channel layer that fails, or gives no answer: nobody waits for it without a limit."""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable
from typing import Any

from panther_channels.exceptions import ChannelLayerError

logger = logging.getLogger("panther_channels")

#: Seconds for a step of a handshake. daphne gives a client up after five.
TO_JOIN = 1.5
#: Seconds for an outside send or close.
TO_SEND = 5.0
_LOG_INTERVAL = 10.0  # seconds between two lines on connections that end because of it


def is_trouble(error: BaseException) -> bool:
    """Whether an exception says all there is to know, without its traceback."""
    redis: Any = sys.modules.get("redis")  # who has such an error has imported it
    return isinstance(error, OSError if redis is None else OSError | redis.RedisError)


async def limited(answer: Awaitable[Any], seconds: float | None) -> Any:
    """Wait for an answer of a channel layer; without a limit of our own where it has one.

    Raises:
        ChannelLayerError: there was none in time, or the layer is in trouble.
        Exception: whatever else the layer raises.
    """
    try:
        if seconds is None:
            return await answer
        async with asyncio.timeout(seconds):
            return await answer
    except Exception as error:
        if not is_trouble(error):
            raise
        limit = "in time" if seconds is None else f"within {seconds:g} s"
        raise ChannelLayerError(str(error) or f"no answer {limit}") from error


class Log:
    """Says that a connection was refused or closed because of an outage: not once for each."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._unsaid = 0

    def add(self, path: str, done: str, error: ChannelLayerError) -> None:
        """Log a line, or count what isn't said.

        Args:
            path: the path of the connection.
            done: what was done to it.
            error: why.
        """
        if time.monotonic() < self._next_at:
            self._unsaid += 1
            return
        also = f" {self._unsaid} others since the last such line." if self._unsaid else ""
        logger.error("WebSocket %r was %s: %s%s", path, done, error, also)
        self._next_at, self._unsaid = time.monotonic() + _LOG_INTERVAL, 0


log = Log()
