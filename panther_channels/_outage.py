"""A channel layer that fails, or gives no answer: nobody waits for it without a limit."""

import asyncio
import logging
import sys
from collections.abc import Awaitable
from typing import Any

from panther_channels._lines import Repeats, shown
from panther_channels.exceptions import ChannelLayerError

#: Seconds for a step of a handshake. daphne gives a client up after five.
TO_JOIN = 1.5
#: Seconds for an outside send or close.
TO_SEND = 5.0

_ends = Repeats(logging.getLogger("panther_channels"), logging.ERROR, interval=10.0)


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


def log_end(path: str, done: str, error: ChannelLayerError) -> None:
    """Log that a connection was refused or closed because of an outage: not once for each.

    Args:
        path: the path of the connection.
        done: what was done to it.
        error: why.
    """
    # One outage has many words: reset by peer, refused, no answer.
    _ends.add(type(error).__name__, f"WebSocket {shown(path)} was {done}: {error}")
