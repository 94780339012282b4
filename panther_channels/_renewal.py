"""Groups of ``channels_redis.core``: who is a member is known to Redis alone, and may be forgotten.

A membership ends after ``group_expiry``, and at once where Redis comes back without it: after
FLUSHALL, a restart, or with a replica that was behind. Here one task of an event loop keeps those
of its connections. What is used of the inside of channels_redis is that of its version 4.3.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

from panther_channels._outage import is_trouble

logger = logging.getLogger("panther_channels")

_PATIENCE = 1.0  # seconds that a look waits for an answer
_CHUNK = 200  # memberships in one pipeline, whose encoding holds up the event loop
_RENEWAL = 3600.0  # seconds at most until all memberships are renewed

Member = tuple[str, str]  # a group, and a channel in it


class Shard:
    """The memberships on one Redis server.

    Args:
        layer: a ``channels_redis.core.RedisChannelLayer``.
        index: which of its hosts.
    """

    def __init__(self, layer: Any, index: int) -> None:
        self._layer = layer
        self._index = index
        self._interval = min(layer.group_expiry / 3, _RENEWAL)
        self.members: dict[Member, None] = {}  # in the order of joining
        self.gone: dict[Member, None] = {}  # to be removed yet
        # Counting tells more than a key that is there or not: a Redis that starts from an old
        # snapshot has the key, but not the members that came after it.
        self._counter = f"{layer.prefix}:panther_channels:{uuid4().hex}"
        self._count: float | None = None
        self._renewal = 0.0  # when, on the monotonic clock: at first at once
        self._is_due = False
        self.is_away = False  # and was logged
        self.is_back = asyncio.Event()

    async def look(self) -> None:
        """Ask Redis whether it still knows what it knew, and tell it again if not."""
        try:
            if self.is_away:  # so are the connections that wait in the pool
                await _soon(self._redis.connection_pool.disconnect(False))
            # Of the commands that the layer itself needs, or an ACL might refuse it.
            count = await _soon(self._redis.zadd(self._counter, {"": 1}, incr=True))
            has_lost = self._count is not None and count != self._count + 1
            self._count = count
            if has_lost or self._is_due or time.monotonic() >= self._renewal:
                await self._renew()
            await self._remove()
        except Exception as error:  # noqa: BLE001 - it must go on, whatever it was
            self.fail(error)
            return
        if has_lost or self.is_away:
            text = "Redis may have forgotten %s memberships of connections: they were added again."
            logger.warning(text, len(self.members))
        self.is_away = False
        self.is_back.set()

    def fail(self, error: Exception) -> None:
        """Note that Redis failed; logged once, until a look has found it well."""
        self._is_due = True
        if not self.is_away:
            self.is_away = True
            self.is_back.clear()
            text = "Redis failed: %s. Connections stay open, and may be out of reach meanwhile."
            what = str(error) or type(error).__name__
            logger.error(text, what.rstrip("."), exc_info=None if is_trouble(error) else error)

    async def _renew(self) -> None:
        self._is_due = False  # and it is due again where something fails meanwhile
        expiry = self._layer.group_expiry
        await _soon(self._redis.expire(self._counter, expiry))
        for chunk in _chunks(self.members):
            pipeline, now = self._redis.pipeline(transaction=False), time.time()
            for group, channel in chunk:
                pipeline.zadd(self._key(group), {channel: now}).expire(self._key(group), expiry)
            await _soon(pipeline.execute())
            # Those who left between the two may have come back by it.
            self.gone.update((member, None) for member in chunk if member not in self.members)
        self._renewal = time.monotonic() + self._interval

    async def _remove(self) -> None:
        for chunk in _chunks(self.gone):
            pipeline = self._redis.pipeline(transaction=False)
            for group, channel in chunk:
                pipeline.zrem(self._key(group), channel)
            await _soon(pipeline.execute())
            for member in chunk:
                self.gone.pop(member, None)

    @property
    def _redis(self) -> Any:
        return self._layer.connection(self._index)

    def _key(self, group: str) -> bytes:
        key: bytes = self._layer._group_key(group)  # noqa: SLF001 - see the head of the file
        return key


def _chunks(members: dict[Member, None]) -> list[list[Member]]:
    found = list(members)
    return [found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK)]


async def _soon(answer: Awaitable[Any]) -> Any:
    async with asyncio.timeout(_PATIENCE):
        return await answer
