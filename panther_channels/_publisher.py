"""How a process sends over Redis by pub/sub: in order, in bounded time, at the receivers' pace."""

import asyncio
import logging
import time
from typing import Any

from channels_redis.pubsub import RedisSingleShardConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels._pace import Pace
from panther_channels._second_try import SecondTry

logger = logging.getLogger("panther_channels")

_ANSWER = 5.0  # seconds until a message is with Redis, where the host has no socket_timeout
_GRACE = 2.0  # seconds after an outage in which somebody may have to subscribe again
_PAUSE = 0.1  # seconds between two attempts to find a receiver then

_TOO_MUCH = "a process doesn't take what waits for it in Redis: send less, one after the other"


class Publisher(RedisSingleShardConnection):  # type: ignore[misc] # channels_redis has no types
    """The connections by which one event loop sends over one Redis."""

    def __init__(self, host: Any, channel_layer: Any) -> None:
        super().__init__(host, channel_layer)
        self._failed_at = -_GRACE  # when the latest outage was seen, on the monotonic clock
        self._limit = _ANSWER
        self._pace = Pace(f"panther_channels.{channel_layer.prefix}")
        self._second_try = SecondTry(self._send_again)

    def _ensure_redis(self) -> None:
        if self._redis is None:
            super()._ensure_redis()
            redis: Any = self._redis
            options = redis.connection_pool.connection_kwargs
            self._limit = options.get("socket_timeout") or _ANSWER
            options["socket_timeout"] = None

    async def publish(self, channel: str, message: bytes) -> None:
        """Hand a message to Redis, and after an outage to somebody who has subscribed again.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        self._ensure_redis()
        try:
            async with asyncio.timeout(self._limit), self._lock:  # which keeps the order
                if self._pace.is_due(len(message)):
                    self._ensure_redis()  # flush() may have been before us
                    await self._pace.wait(self._redis, len(message), self._limit)
                await self._publish_in_order(channel, message)
        except TimeoutError:
            if self._pace.is_held:
                raise RedisTimeoutError(_TOO_MUCH) from None
            self._failed_at = time.monotonic()
            raise RedisTimeoutError(f"no answer within {self._limit:g} s") from None

    async def _publish_in_order(self, channel: str, message: bytes) -> None:
        while self._second_try.is_full:  # nobody else could send them: here is the lock
            await self._second_try.wait()
            await self._publish_again()
        if channel in self._second_try:
            self._second_try.add(channel, message)
            await asyncio.sleep(0)  # who sends without end must let it come
        elif not await self._publish(channel, message) and _is_of_one(channel):
            self._second_try.add(channel, message)

    async def _publish_again(self) -> None:
        self._ensure_redis()
        pipeline = self._redis.pipeline(transaction=False)
        for channel, message in self._second_try.take():
            pipeline.publish(channel, message)
        await pipeline.execute()

    async def _send_again(self) -> None:
        try:
            async with asyncio.timeout(self._limit), self._lock:
                await self._publish_again()
        except (RedisError, TimeoutError) as error:
            logger.warning("Messages that nobody got can't be sent once more: %r", error)

    async def _publish(self, channel: str, message: bytes) -> bool:
        """Whether somebody got it, or nobody in the time that there is after an outage."""
        has_failed = False
        while True:
            self._ensure_redis()
            try:
                receivers = await self._redis.publish(channel, message)
            except RedisConnectionError:
                self._failed_at = time.monotonic()
                if has_failed:
                    raise
                # It was a connection from before an outage, and the others are as well.
                has_failed = True
                await self._redis.connection_pool.disconnect(inuse_connections=False)
                continue
            if receivers or time.monotonic() - self._failed_at > _GRACE:
                return bool(receivers)
            await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Send what still waits, and close the connections."""
        await self._second_try.finish()
        await super().flush()


def _is_of_one(channel: str) -> bool:
    """Whether its name is never given again, so that nobody gets what was sent before he came."""
    return "__group__" not in channel or "__group__connection." in channel
