"""Messages that were dropped: counted all, logged once a second at most."""

import logging
import time

logger = logging.getLogger("panther_channels")

_INTERVAL = 1.0  # seconds


class Losses:
    """Counts what a channel layer had to drop.

    Attributes:
        count: how many messages were dropped so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._untold = 0
        self._next = 0.0

    def add(self, why: str, count: int = 1) -> None:
        """Count dropped messages; ``why`` is a sentence for the log."""
        self.count += count
        self._untold += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL
            logger.warning(
                "The channel layer dropped %d message(s), %d in all: %s",
                self._untold,
                self.count,
                why,
            )
            self._untold = 0
