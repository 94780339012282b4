"""How many messages a connection may send."""

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from panther_channels._process.log_lines import shown
from panther_channels.exceptions import ThrottlingAPIError

logger = logging.getLogger("panther_channels")

_Receive = Callable[[str | bytes], Awaitable[None]]


class Throttle:
    """At most so many messages of one connection in so much time (Panther's ``Throttle``).

    Set as ``throttle`` on a class, or on ``self`` in ``connect()``. The time is a window that
    begins with a message, and after its end anew with the next one. So whoever keeps to the rate
    is never stopped, and nobody gets more than twice the rate through in any ``duration``.

    Args:
        rate: how many messages.
        duration: in how much time.
        drop: drop the messages above, instead of closing the connection with 1008.

    Raises:
        TypeError: the rate is no ``int``, or the duration no ``timedelta``.
        ValueError: one of them is not above zero.
    """

    def __init__(self, rate: int, duration: timedelta, *, drop: bool = False) -> None:
        if isinstance(rate, bool) or not isinstance(rate, int):
            raise TypeError(f"A rate is an int, not {rate!r}.")
        if not isinstance(duration, timedelta):
            raise TypeError(f"A duration is a timedelta, not {duration!r}.")
        if rate < 1 or duration <= timedelta(0):
            raise ValueError(f"Rate and duration must be above zero, not {rate} and {duration!r}.")
        self.rate = rate
        self.duration = duration
        self.drop = drop

    def __repr__(self) -> str:
        drop = ", drop=True" if self.drop else ""
        return f"Throttle(rate={self.rate}, duration={self.duration!r}{drop})"

    def limit(self, receive: _Receive, path: str) -> _Receive:
        """The ``receive()`` of one connection, with this limit."""
        # In local variables, since this runs for every message.
        rate, seconds, monotonic = self.rate, self.duration.total_seconds(), time.monotonic
        end, count = 0.0, 0

        async def limited(data: str | bytes) -> None:
            nonlocal end, count
            now = monotonic()
            if now >= end:
                end, count = now + seconds, 0
            count += 1
            if count <= rate:
                await receive(data)
            elif not self.drop:
                raise ThrottlingAPIError(f"more than {rate} messages in {seconds:g} s")
            elif count == rate + 1:
                text = "WebSocket %s: messages above %d in %g s are dropped."
                logger.info(text, shown(path), rate, seconds)

        return limited
