"""A queue with a limit in bytes, for Redis pub/sub: in channels_redis everything may wait."""

import asyncio
from collections.abc import Callable
from typing import Any


class BoundedQueue(asyncio.Queue[bytes]):
    """A queue that is given up when too much waits in it.

    `_put` and `_get` are the methods that asyncio has for subclasses to override.

    Args:
        limit: bytes, which one message alone may exceed.
        overflow: called once, when there is more; all that comes then is dropped.
    """

    def __init__(self, limit: int, overflow: Callable[[], None]) -> None:
        super().__init__()
        self._limit = limit
        self._overflow: Callable[[], None] | None = overflow
        self._size = 0

    def _put(self, item: bytes) -> None:
        if self._overflow is None:
            return
        super()._put(item)
        self._size += len(item)
        if self._size > self._limit and self.qsize() > 1:
            overflow, self._overflow = self._overflow, None
            while not self.empty():
                self._get()
            overflow()

    def _get(self) -> bytes:
        item: bytes = super()._get()
        self._size -= len(item)
        return item


def bound_channel(layer: Any, channel: str, limit: int, overflow: Callable[[], None]) -> None:
    """As `LocalChannelLayer.bound_channel`, for a channel in which nothing waits yet.

    Args:
        layer: that of an event loop, in channels_redis.
        channel: one of its channels.
        limit: bytes, which one message alone may exceed.
        overflow: called once, when there is more.
    """
    layer.channels[channel] = BoundedQueue(limit, overflow)
