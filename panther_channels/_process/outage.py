"""A channel layer that fails, or gives no answer: nobody waits for it without a limit."""

import asyncio
import logging
import math
import sys
from collections.abc import Awaitable, Coroutine, Generator
from types import CoroutineType
from typing import Any

from django.db import InterfaceError, OperationalError

from panther_channels import status
from panther_channels._process.log_lines import Repeats, shown
from panther_channels._process.loops import OnePerLoop
from panther_channels.exceptions import ChannelLayerError

#: Seconds for a step of a handshake, which has WS_CONNECT_TIMEOUT for all of them.
TO_JOIN = 1.5
#: Seconds for an outside send or close.
TO_SEND = 5.0

logger = logging.getLogger("panther_channels")

_CALM = 30.0  # seconds without a failure, after which an outage is over
_ends = Repeats(logger, logging.ERROR, interval=10.0)
_failures: OnePerLoop[dict[type[Exception], float]] = OnePerLoop(dict)  # and when each was met last


def is_trouble(error: BaseException) -> bool:
    """Whether an exception says all there is to know, without its traceback."""
    redis: Any = sys.modules.get("redis")  # who has such an error has imported it
    return isinstance(error, OSError if redis is None else OSError | redis.RedisError)


def is_unanswered(error: BaseException) -> bool:
    """Whether an exception says that somebody couldn't be asked, and not what the answer is."""
    kinds = OperationalError | InterfaceError | ChannelLayerError
    is_unavailable = getattr(error, "status_code", None) == status.HTTP_503_SERVICE_UNAVAILABLE
    return is_trouble(error) or isinstance(error, kinds) or is_unavailable


class _Begun:
    """A coroutine that has run up to its first wait, as what is left of it.

    Args:
        coroutine: it.
        waits_for: what it has yielded.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> None:
        self._coroutine, self._waits_for = coroutine, waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:  # noqa: BLE001 - the coroutine takes it
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(sent)
        except StopIteration as end:
            return end.value


async def limited(answer: Awaitable[Any], seconds: float, longest_wait: float = math.inf) -> Any:
    """Wait for an answer of a channel layer, in bounded time.

    Args:
        answer: the call.
        seconds: how long to wait.
        longest_wait: seconds after which it ends by itself; a limit of our own costs a timer.

    Raises:
        ChannelLayerError: there was none in time, or the layer is in trouble.
        Exception: whatever else the layer raises.
    """
    try:
        if longest_wait <= seconds:
            return await answer
        if type(answer) is CoroutineType:  # most need not wait, and then no timer either
            try:
                answer = _Begun(answer, answer.send(None))
            except StopIteration as end:
                return end.value
        async with asyncio.timeout(seconds):
            return await answer
    except Exception as error:
        if not is_trouble(error):
            raise
        raise ChannelLayerError(str(error) or f"no answer within {seconds:g} s") from error


def log_failure(error: Exception) -> None:
    """Log what a channel layer raised where nobody can be told: once for each outage.

    All connections of a process meet it, and ask the layer again and again.
    """
    is_known = is_trouble(error)
    kind = OSError if is_known else type(error)
    failures, now = _failures(), asyncio.get_running_loop().time()
    is_new = now - failures.get(kind, -_CALM) >= _CALM
    failures[kind] = now
    if is_new:
        logger.error(
            "The channel layer failed: %s. It is asked again; connections stay open, and may be "
            "out of reach meanwhile.",
            (str(error) or type(error).__name__).rstrip("."),
            exc_info=None if is_known else error,
        )


def log_failed_task(error: BaseException) -> None:
    """The same of what a task has raised; an outage that was put in our words has no traceback."""
    if isinstance(error, ChannelLayerError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, Exception):
        log_failure(error)


def log_end(path: str, done: str, error: ChannelLayerError) -> None:
    """Log that a connection was refused or closed because of an outage: not once for each.

    Args:
        path: the path of the connection.
        done: what was done to it.
        error: why.
    """
    # One outage has many words: reset by peer, refused, no answer.
    _ends.add(type(error).__name__, f"WebSocket {shown(path)} was {done}: {error}")
