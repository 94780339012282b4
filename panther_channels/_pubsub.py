"""How a connection to Redis is received from and renewed, in place of channels_redis's own way.

Written for the pub/sub layer of channels_redis 4.3.0 with redis-py 8.1.0. There, two things go
wrong when the network is cut:

* The kernel gives the connection up with ETIMEDOUT, by TCP keepalive. To Python that is the
  `TimeoutError` which redis-py takes for "no message yet": the receiver asks again and again, never
  waits, and the event loop stands still for good.
* The receiver and a new subscription connect the same connection at the same time, and read each
  other's answers. Both fail, and try again at the same time.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from channels_redis.pubsub import RedisPubSubLoopLayer, RedisSingleShardConnection

logger = logging.getLogger("panther_channels")

_POLL = 0.1  # seconds in which a first subscription, or a cancellation, is noticed
_CONNECT = 5.0  # seconds for a connection with its subscriptions; so long nobody can publish
_PAUSE = 0.5  # seconds between two attempts


_ensure_receiver = RedisSingleShardConnection._ensure_receiver


def install() -> None:
    """Replace the receiver in this process. A second call does nothing."""
    RedisSingleShardConnection._do_receiving = _do_receiving
    RedisSingleShardConnection._ensure_receiver = _ensure_receiver_and_connection
    RedisPubSubLoopLayer.bound_channel = _bound_channel


class BoundedQueue(asyncio.Queue[bytes]):
    """A channel's queue with a limit in bytes: in channels_redis everything may wait.

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


def _bound_channel(layer: Any, channel: str, limit: int, overflow: Callable[[], None]) -> None:
    """As `LocalChannelLayer.bound_channel`, for a channel in which nothing waits yet."""
    layer.channels[channel] = BoundedQueue(limit, overflow)


def _ensure_receiver_and_connection(shard: Any) -> None:
    """What a subscription calls, with the lock, before it goes out."""
    _ensure_receiver(shard)
    connection = shard._pubsub.connection
    if connection is not None and _is_lost(connection):
        connection._close()  # so that subscribe() connects


async def _do_receiving(shard: Any) -> None:
    while True:
        try:
            if shard._pubsub and shard._pubsub.subscribed:
                shard._receive_message(await _next_message(shard))
            else:
                await asyncio.sleep(_POLL)
        except Exception as error:  # noqa: BLE001 - nobody would start this task again
            logger.warning("There is no connection to Redis: %r", error)
            await asyncio.sleep(_PAUSE)


async def _next_message(shard: Any) -> Any:
    pubsub = shard._pubsub
    connection = pubsub.connection
    # subscribe() holds the lock while it connects and reads the answers to that.
    if shard._lock.locked() or _is_lost(connection):
        async with shard._lock:
            if _is_lost(connection):
                logger.warning("The connection to Redis is lost, and made again.")
                await _connect(connection)
    await pubsub.check_health()
    # Not get_message(), which would connect by itself, without the lock.
    response = await connection.read_response(
        timeout=_POLL, disconnect_on_error=False, push_request=True
    )
    if response is None or response in pubsub.health_check_response:
        return None
    return await pubsub.handle_message(response, ignore_subscribe_messages=True)


def _is_lost(connection: Any) -> bool:
    reader = connection._reader
    return reader is None or reader.exception() is not None or reader.at_eof()


async def _connect(connection: Any) -> None:
    await connection.disconnect(nowait=True)
    try:
        async with asyncio.timeout(_CONNECT):
            await connection.connect()  # and subscribe to all that was subscribed to
    except BaseException:
        # Else it passes for connected, half-way through.
        await connection.disconnect(nowait=True)
        raise
