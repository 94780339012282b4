"""How a process sends over Redis by pub/sub: in order, in bounded time, at the receivers' pace."""

import asyncio
import logging
import time
from contextlib import suppress
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
        self._sending: Any = None

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
        if messages := self._second_try.take():
            await self._exchange(messages)

    async def _send_again(self) -> None:
        try:
            async with asyncio.timeout(self._limit), self._lock:
                await self._publish_again()
        except (RedisError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            logger.warning("Messages that nobody got can't be sent once more: %s", reason)

    async def _publish(self, channel: str, message: bytes) -> bool:
        """Whether somebody got it, or nobody in the time that there is after an outage."""
        has_failed = False
        while True:
            try:
                [receivers] = await self._exchange([(channel, message)])
            except RedisConnectionError:
                self._failed_at = time.monotonic()
                if has_failed:
                    raise
                has_failed = True  # it was a connection from before an outage
                continue
            if receivers or time.monotonic() - self._failed_at > _GRACE:
                return bool(receivers)
            await asyncio.sleep(_PAUSE)

    async def _exchange(self, messages: list[tuple[str, bytes]]) -> list[int]:
        """How many got each message.

        By one connection that is kept: to take one from redis-py's pool, and to give it back,
        costs as much time as all the rest.
        """
        self._ensure_redis()
        if self._sending is None:
            self._sending = self._redis.connection_pool.make_connection()
        connection = self._sending
        try:
            if not connection.is_connected:
                await connection.connect()  # which finds a Sentinel's master, as sending would not
            commands = [("PUBLISH", channel, message) for channel, message in messages]
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await connection.read_response() for _ in messages]
        except BaseException:  # answers that are still to come must not pass for the next ones
            await self._hang_up()
            raise

    async def _hang_up(self) -> None:
        connection, self._sending = self._sending, None
        if connection is not None:
            with suppress(Exception):  # it is lost anyway
                await connection.disconnect(nowait=True)

    async def flush(self) -> None:
        """Send what still waits, and close the connections."""
        await self._second_try.end()
        await self._hang_up()
        await super().flush()


def _is_of_one(channel: str) -> bool:
    """Whether its name is never given again, so that nobody gets what was sent before he came."""
    return "__group__" not in channel or "__group__connection." in channel
