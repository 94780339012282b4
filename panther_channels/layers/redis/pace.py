"""Slows senders over Redis pub/sub down to what the receiving processes take.

For a process that takes less than is sent to it, messages wait in Redis. When they are more than
its `client-output-buffer-limit` allows, by default 32 MB, Redis cuts the process off: what waited
is lost for all its clients, and no sender is told. So a sender asks Redis, whenever it has sent
some more, and waits.

Every event loop of every process counts for itself. Until all have noticed, what each of them may
send unseen waits for a subscriber on top of `_WAITING`, and a message of each: about 20 MB at most
of eight senders at once.
"""

import asyncio
import logging
import random
import time
from typing import Any

from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger("panther_channels")

_UNSEEN = 1_000_000  # bytes to send between two questions
_WAITING = 4_000_000  # bytes that may wait for a subscriber; from 8 MB on, Redis counts seconds
_PAUSE = 0.005  # seconds between two questions while somebody has too much


class Pace:
    """What one event loop knows of the subscribers of one Redis.

    Args:
        name: which subscribers count, by the name that they gave themselves. Somebody else's, such
            as a `redis-cli` that listens, must not slow anybody down.

    Attributes:
        name: the same.
        is_held: whether a sender waits, for a subscriber and not for Redis.
    """

    is_held = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._unseen = 0
        self._late: dict[str, float] = {}  # who has too much waiting, and since when that was seen
        self._given_up: set[str] = set()
        self._is_allowed = True

    def is_due(self, size: int) -> bool:
        """Whether to :meth:`wait` before a message of so many bytes is sent, which is counted."""
        self._unseen += size
        return self._unseen > _UNSEEN and self._is_allowed

    async def wait(self, redis: Any, size: int, limit: float) -> None:
        """Wait while too much waits for a subscriber.

        One that has too much for longer than the limit isn't waited for any more: one process that
        hangs must not silence all others. It will be cut off, as it was without all this.

        Args:
            redis: the connections to Redis.
            size: bytes of the message that will be sent then.
            limit: seconds.
        """
        try:
            while await self._is_too_much(redis, limit):
                self.is_held = True
                # Not all senders in the same moment.
                await asyncio.sleep(_PAUSE * (1 + random.random()))  # noqa: S311
        except ResponseError as error:
            self._is_allowed = False
            _tell_once(str(error))
        except RedisError:  # of an outage, the message itself will tell
            self.is_held = False
        self._unseen = size

    async def _is_too_much(self, redis: Any, limit: float) -> bool:
        clients = await redis.client_list(_type="pubsub")
        now, self.is_held = time.monotonic(), False
        self._late = {
            client["id"]: self._late.get(client["id"], now)
            for client in clients
            if client.get("name") == self.name and int(client.get("omem", 0)) > _WAITING
        }
        given_up = {key for key, since in self._late.items() if now - since >= limit}
        if new := given_up - self._given_up:
            addresses = ", ".join(client["addr"] for client in clients if client["id"] in new)
            logger.warning(
                "More than %d MB have been waiting in Redis for %g s for %s, which doesn't take "
                "them. It isn't waited for any more, and may be cut off.",
                *(_WAITING // 1_000_000, limit, addresses),
            )
        self._given_up = given_up
        return len(self._late) > len(given_up)


_told: set[str] = set()


def _tell_once(error: str) -> None:
    # Not for each event loop: async_to_sync() has a new one for every message.
    if error not in _told:
        _told.add(error)
        logger.warning(
            "Redis doesn't say how much waits for its subscribers (CLIENT LIST): %s. A large burst "
            "may be lost.",
            error.rstrip("."),
        )
