"""How an event loop is connected to one Redis: by a connection that receives, and one that sends.

Written for channels_redis 4.3.0 with redis-py 8.1.0. In the pub/sub layer of channels_redis, this
goes wrong:

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
connection; whenever it is made, everything that is wanted is subscribed to.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from channels_redis.utils import create_pool
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels._process.log_lines import Repeats
from panther_channels.layers.redis.pace import Pace
from panther_channels.layers.redis.second_try import SecondTry

logger = logging.getLogger("panther_channels")

_ATTEMPT = 0.05  # seconds between two attempts to connect
_CONNECT = 5.0  # seconds for one attempt
_CONFIRM = 5.0  # seconds for the answer to a subscription
_READ = 1.0  # seconds after which a silent connection is looked at

_ASK_AGAIN = 1.0  # seconds after a refusal

_ANSWER = 5.0  # seconds until a message is with Redis, where the host has no socket_timeout
_GRACE = 2.0  # seconds after an outage in which somebody may have to subscribe again
_PAUSE = 0.1  # seconds between two attempts to find a receiver then

_TOO_MUCH = "a process doesn't take what waits for it in Redis: send less, one after the other"

_refusals = Repeats(logger, logging.ERROR, interval=60.0)

_CONFIRMED = asyncio.Event()  # one for all
_CONFIRMED.set()


class Shard:
    """The connections of one event loop to one Redis.

    Args:
        host: as `create_pool()` of channels_redis takes it.
        prefix: begins all names in Redis.
        home: the channel of the event loop, should it be subscribed to here.
        deliver: takes a channel and a message that came over it.
    """

    def __init__(
        self, host: Any, prefix: str, home: str, deliver: Callable[[str, bytes], None]
    ) -> None:
        self._host = host
        self._home = home
        self._deliver = deliver
        # With that begin the channels where nobody gets what was sent before he came: the name of
        # a node is never given again.
        self._nodes = f"{prefix}__node__"
        self._redis: Any = None
        self._failed_at = -_GRACE  # when the latest outage was seen, on the monotonic clock
        # What receives.
        self._wanted: dict[str, asyncio.Event] = {}  # and whether Redis has ever confirmed it
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._is_away = False  # and was logged
        self._missing: set[str] = set()  # what this connection has no answer on yet
        self._ask_again_at: float | None = None  # on the monotonic clock, after a refusal
        # What sends.
        self._lock = asyncio.Lock()
        self._limit = _ANSWER
        self._pace = Pace(f"panther_channels.{prefix}")
        self._second_try = SecondTry(self._send_again)
        self._sending: Any = None

    async def flush(self) -> None:
        """Forget all subscriptions, send what still waits, and close the connections."""
        self._wanted.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_CONNECT)
        await self._second_try.end()
        await self._hang_up()
        async with self._lock:
            redis, self._redis = self._redis, None
            if redis is not None:
                await redis.aclose(close_connection_pool=True)

    async def subscribers(self, channel: str) -> int:
        """How many connections are subscribed to a channel.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        try:
            async with asyncio.timeout(self._limit):
                [(_channel, count)] = await self._client().pubsub_numsub(channel)
        except TimeoutError:
            raise RedisTimeoutError(f"no answer within {self._limit:g} s") from None
        return int(count)

    def _client(self) -> Any:
        if self._redis is None:
            pool = create_pool(self._host)
            self._limit = pool.connection_kwargs.get("socket_timeout") or _ANSWER
            pool.connection_kwargs["socket_timeout"] = None
            self._redis = Redis(connection_pool=pool)
        return self._redis

    # Subscriptions

    @property
    def is_at_home(self) -> bool:
        """Whether messages to the event loop arrive now, as far as is known."""
        return self._wanted.get(self._home) is _CONFIRMED and self._is_receiving()

    async def subscribe(self, channel: str) -> None:
        """Subscribe, and wait until Redis has confirmed it.

        Raises:
            redis.exceptions.TimeoutError: there was no answer within five seconds. It will be
                subscribed to when Redis is back.
        """
        if not self._is_receiving():
            self._task = asyncio.create_task(self._do_receiving())
        confirmed = self._wanted.get(channel)
        if confirmed is None:
            confirmed = self._wanted[channel] = asyncio.Event()
            self._missing.add(channel)
            self._write(("SUBSCRIBE", channel))
        try:
            async with asyncio.timeout(_CONFIRM):
                await confirmed.wait()
        except TimeoutError:
            raise RedisTimeoutError("Redis confirmed no subscription") from None

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe; needs no answer, and no Redis."""
        if self._wanted.pop(channel, None) is not None:
            self._missing.discard(channel)
            self._write(("UNSUBSCRIBE", channel))

    def _ask(self) -> None:
        # A command for each: of one that is forbidden, Redis would refuse the others with it.
        self._ask_again_at = None
        self._write(*(("SUBSCRIBE", name) for name in self._missing))

    def _is_receiving(self) -> bool:
        return self._task is not None and not self._task.done()

    def _write(self, *commands: tuple[str, ...]) -> None:
        # Not by send_command(), which would connect, and wait. What is written too late to arrive
        # is made up for by the next connection.
        if self._connection is not None and self._connection.is_connected:
            packed = self._connection.pack_commands(commands)
            with suppress(RuntimeError):  # uvloop's, where it was lost and nobody has read that yet
                # Not writelines(): since Python 3.12 that fails on a transport that was cut off.
                self._connection._writer.write(b"".join(packed))

    # Receiving

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
            await asyncio.sleep(max(0, started + _ATTEMPT - time.monotonic()))

    async def _connect(self) -> None:
        connection = self._client().connection_pool.make_connection()
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
        self._missing = set(self._wanted)
        self._ask()
        if not self._wanted:
            self._note_back()

    async def _receive(self) -> None:
        connection = self._connection
        if self._ask_again_at is not None and time.monotonic() >= self._ask_again_at:
            self._ask()
        interval = connection.health_check_interval
        if interval and asyncio.get_running_loop().time() > connection.next_health_check:
            self._write(("PING",))
        try:
            response = await connection.read_response(
                timeout=_READ, disconnect_on_error=False, push_request=True
            )
        except ResponseError as error:  # by an ACL: another connection would be told the same
            _refusals.add(str(error), f"Redis refuses the channel layer something: {error}.")
            self._ask_again_at = time.monotonic() + _ASK_AGAIN
            return
        if response is None and _is_lost(connection):
            raise RedisConnectionError("the connection was lost")
        if not isinstance(response, list) or len(response) < 3:  # silence, or the answer to PING
            return
        kind, name, data = response[:3]
        name = name.decode() if isinstance(name, bytes) else name
        if kind in (b"message", "message"):
            self._deliver(name, data)
        elif kind in (b"subscribe", "subscribe") and name in self._wanted:
            self._wanted[name].set()
            self._wanted[name] = _CONFIRMED
            self._missing.discard(name)
            self._note_back()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._wanted.get(self._home) is _CONFIRMED:
            # Nobody comes in before it is confirmed once more. Groups needn't be: who is in them
            # is in a connection's, too.
            self._wanted[self._home] = asyncio.Event()
        if connection is not None:
            with suppress(Exception):  # it is lost anyway
                await connection.disconnect(nowait=True)

    def _note_back(self) -> None:
        """The end of an outage: not before Redis has confirmed something."""
        if self._is_away:
            self._is_away = False
            self._failed_at = time.monotonic()
            text = "Redis is back: %d subscriptions were made again."
            logger.warning(text, len(self._wanted))

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

    # Sending

    async def publish(self, channel: str, message: bytes) -> None:
        """Hand a message to Redis, and after an outage to somebody who has subscribed again.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        self._client()
        try:
            async with asyncio.timeout(self._limit), self._lock:  # which keeps the order
                if self._pace.is_due(len(message)):
                    # Not the one from before the lock, which flush() may have closed.
                    await self._pace.wait(self._client(), len(message), self._limit)
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
        elif not await self._publish(channel, message) and channel.startswith(self._nodes):
            self._second_try.add(channel, message)

    async def _publish_again(self) -> None:
        if messages := self._second_try.take():
            try:
                await self._exchange(messages)
            except RedisConnectionError:  # from before an outage, as in _publish()
                self._failed_at = time.monotonic()
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
        if self._sending is None:
            self._sending = self._client().connection_pool.make_connection()
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


def _is_lost(connection: Any) -> bool:
    reader = connection._reader
    return reader is None or reader.exception() is not None or reader.at_eof()
