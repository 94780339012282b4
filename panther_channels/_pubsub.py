"""How a process is connected to Redis by pub/sub, in place of channels_redis's own way.

Written for the pub/sub layer of channels_redis 4.3.0 with redis-py 8.1.0. There, this goes wrong:

* After an outage the receiver waits for a second. What is sent meanwhile is lost, and its sender
  isn't told, although Redis told that nobody got it.
* A subscription counts as soon as it is written. A Redis that is silent never takes it.
* When the kernel gives the connection up with ETIMEDOUT, by TCP keepalive, that is to Python the
  `TimeoutError` which redis-py takes for "no message yet": the receiver asks again and again, and
  the event loop stands still for good.
* The receiver and a new subscription connect the same connection at the same time, and read each
  other's answers.
* Leaving takes a connection to Redis: without one, each client that goes leaves a traceback in the
  log, and a subscription for ever.
* The limit in time that redis-py has by default makes a task for every message, which is a third of
  what sending one costs. Here a limit costs a timer.
* A burst that a process takes too slowly makes Redis cut it off, and what waited is lost.

Here one task alone connects and reads. Others say what they want, and write it if there is a
connection; whenever it is made, everything that is wanted is subscribed to. How messages are sent
is in `_publisher.py`.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from channels_redis import pubsub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels._publisher import Publisher
from panther_channels._queue import bound_channel

logger = logging.getLogger("panther_channels")

_PAUSE = 0.05  # seconds between two attempts to connect
_CONNECT = 5.0  # seconds for one attempt
_CONFIRM = 5.0  # seconds for the answer to a subscription
_READ = 1.0  # seconds after which a silent connection is looked at
_CHUNK = 1000  # subscriptions in one command

_CONFIRMED = asyncio.Event()  # one for all: each that is idle would cost its connection 1 kB
_CONFIRMED.set()


def install() -> None:
    """Replace the connections that this process makes from here on. A second call does nothing."""
    pubsub.RedisSingleShardConnection = Shard
    pubsub.RedisPubSubLoopLayer.bound_channel = bound_channel
    pubsub.RedisPubSubChannelLayer.limits_itself = True  # for connections.py


class Shard(Publisher):
    """The connections of one event loop to one Redis: one that receives, and some that send."""

    def __init__(self, host: Any, channel_layer: Any) -> None:
        super().__init__(host, channel_layer)
        self._receive_task: asyncio.Task[None] | None = None
        self._wanted: dict[str, asyncio.Event] = {}  # and whether Redis has ever confirmed it
        self._connection: Any = None
        self._is_away = False  # and was logged

    async def subscribe(self, channel: str) -> None:
        """Subscribe, and wait until Redis has confirmed it.

        Raises:
            redis.exceptions.TimeoutError: there was no answer within five seconds. Groups are
                subscribed to when Redis is back; a channel is forgotten.
        """
        if self._receive_task is None or self._receive_task.done():
            self._receive_task = asyncio.ensure_future(self._do_receiving())
        confirmed = self._wanted.get(channel)
        if confirmed is None:
            confirmed = self._wanted[channel] = asyncio.Event()
            self._write("SUBSCRIBE", channel)
        try:
            async with asyncio.timeout(_CONFIRM):
                await confirmed.wait()
        except BaseException as error:
            if self.channel_layer.channels.pop(channel, None) is not None:
                await self.unsubscribe(channel)  # nobody will ever know its name
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError("Redis confirmed no subscription") from None
            raise

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe; needs no answer, and no Redis."""
        if self._wanted.pop(channel, None) is not None:
            self._write("UNSUBSCRIBE", channel)

    async def flush(self) -> None:
        """Forget all subscriptions, and close the connections."""
        self._wanted.clear()
        task, self._receive_task = self._receive_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_CONNECT)
        await super().flush()

    def _write(self, *command: str) -> None:
        # Not by send_command(), which would connect, and wait. What is written too late to arrive
        # is made up for by the next connection.
        if self._connection is not None and self._connection.is_connected:
            packed = self._connection.pack_command(*command)
            with suppress(RuntimeError):  # uvloop's, where it was lost and nobody has read that yet
                # Not writelines(): since Python 3.12 that fails on a transport that was cut off.
                self._connection._writer.write(b"".join(packed))

    async def _do_receiving(self) -> None:
        while True:
            started = time.monotonic()
            try:
                await self._connect()
                while True:
                    await self._receive()
            except Exception as error:  # noqa: BLE001 - nobody would start this task again
                self._fail(error)
            finally:
                await self._disconnect()
            await asyncio.sleep(max(0, started + _PAUSE - time.monotonic()))

    async def _connect(self) -> None:
        self._ensure_redis()
        connection = self._redis.connection_pool.make_connection()
        try:
            async with asyncio.timeout(_CONNECT):
                await connection.connect()
                with suppress(ResponseError):  # forbidden, or a prefix that no name may have
                    await connection.send_command("CLIENT", "SETNAME", self._pace.name)
                    await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        names = list(self._wanted)
        for start in range(0, len(names), _CHUNK):
            self._write("SUBSCRIBE", *names[start : start + _CHUNK])
        if self._is_away:
            self._is_away = False
            self._failed_at = time.monotonic()
            logger.warning("Redis is back: %d subscriptions were made again.", len(names))

    async def _receive(self) -> None:
        connection = self._connection
        interval = connection.health_check_interval
        if interval and asyncio.get_running_loop().time() > connection.next_health_check:
            self._write("PING")
        response = await connection.read_response(
            timeout=_READ, disconnect_on_error=False, push_request=True
        )
        if response is None and _is_lost(connection):
            raise RedisConnectionError("the connection was lost")
        if not isinstance(response, list) or len(response) < 3:  # silence, or the answer to PING
            return
        kind, name, data = response[:3]
        name = name.decode() if isinstance(name, bytes) else name
        if kind in (b"message", "message"):
            self._receive_message({"channel": name, "data": data})
        elif kind in (b"subscribe", "subscribe") and name in self._wanted:
            self._wanted[name].set()
            self._wanted[name] = _CONFIRMED

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is lost anyway
                await connection.disconnect(nowait=True)

    def _fail(self, error: Exception) -> None:
        """Note an outage; logged once, until there is a connection again."""
        self._failed_at = time.monotonic()
        if not self._is_away:
            self._is_away = True
            logger.error(
                "The connection to Redis is lost: %s. Connections of clients stay open, and are "
                "out of reach until it is back.",
                (str(error) or type(error).__name__).rstrip("."),
            )


def _is_lost(connection: Any) -> bool:
    reader = connection._reader
    return reader is None or reader.exception() is not None or reader.at_eof()
