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
  what sending one costs. Here all limits share a timer.
* A burst that a process takes too slowly makes Redis cut it off, and what waited is lost.

Here one task alone connects and reads what isn't a message. Others say what they want, and write it
if there is a connection; whenever it is made, everything that is wanted is subscribed to.
"""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from channels_redis.utils import create_pool
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels._process.log_lines import Repeats
from panther_channels._process.loops import Lock
from panther_channels._process.timeouts import Timeouts
from panther_channels.layers.redis.answers import answers_of
from panther_channels.layers.redis.messages import Messages
from panther_channels.layers.redis.pace import Pace
from panther_channels.layers.redis.refusals import explained, is_lasting
from panther_channels.layers.redis.second_try import SecondTry

logger = logging.getLogger("panther_channels")

# Seconds between two attempts to connect, or to subscribe to what was refused: at first, at most
# in an outage, which is to be shorter than SecondTry waits, and at most where it won't pass.
_ATTEMPT, _OUTAGE, _REFUSED = 0.05, 0.25, 5.0
_PATIENCE = 1.0  # seconds of an outage in which one who subscribes waits for its end
_CONNECT = 5.0  # seconds for one attempt
_CONFIRM = 5.0  # seconds for the answer to a subscription
_READ = 1.0  # seconds after which a silent connection is looked at

_ANSWER = 5.0  # seconds until a message is with Redis, where the host has no socket_timeout
_GRACE = 2.0  # seconds after an outage in which somebody may have to subscribe again
_PAUSE = 0.1  # seconds between two attempts to find a receiver then
_RETURN = 1.0  # seconds in which all who have subscribed do so again

_BATCH = 1000  # messages that are sent without waiting for an answer
_BATCH_SIZE = 256 * 1024  # bytes of them, but for the last one

_TOO_MUCH = "a process doesn't take what waits for it in Redis: send less, one after the other"

_PONG: tuple[Any, Any] = (b"pong", "")  # RESP 3 has no list for it, RESP 2 a shorter one

_refusals = Repeats(logger, logging.ERROR, interval=60.0)


class _Answer(asyncio.Event):
    """Set when Redis has confirmed a subscription, or else refused it for now."""

    refusal: RedisError | None = None

    def give(self, refusal: RedisError | None) -> None:
        self.refusal = refusal
        self.set()


_CONFIRMED = _Answer()  # one for all
_CONFIRMED.set()


# A message that waits to be sent: its channel, itself, whether it isn't sent once more where nobody
# got it, and who waits for it: for the number of those who got it.
_Waiting = tuple[str, bytes, bool, "asyncio.Future[int]"]
_Answered = Sequence[int | ResponseError]  # one for each message


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
        self._prefix = prefix
        self._home = home
        self._deliver = deliver
        # With that begin the channels where nobody gets what was sent before he came: the name of
        # a node is never given again.
        self._nodes = f"{prefix}__node__"
        self._redis: Any = None
        self._failed_at = -_GRACE  # when the latest outage was seen, on the monotonic clock
        self._counted: dict[str, int] = {}  # by channel, those who had subscribed
        # What receives.
        self._wanted: dict[str, _Answer] = {}  # and whether Redis has ever confirmed it
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._away_since: float | None = None  # on the monotonic clock; it was logged then
        self._pause = _ATTEMPT
        self._missing: set[str] = set()  # what this connection has not confirmed yet
        self._asked: deque[str] = deque()  # what its next answers are about, in their order
        self._ask_again_at: float | None = None  # on the monotonic clock, after a refusal
        # What sends.
        self._lock = Lock()
        self._limit = _ANSWER
        self._pace = Pace(f"panther_channels.{prefix}")
        self._second_try = SecondTry(self._send_again)
        self._sending: Any = None
        self._timeouts = Timeouts()
        self._queue: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None  # while something is in the queue
        self._reached: set[str] = set()  # channels where publish_to_one() found somebody

    async def flush(self) -> None:
        """Forget all subscriptions, send what still waits, and close the connections."""
        self._wanted.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_CONNECT)
        await self._second_try.end()
        if (sender := self._sender) is not None:
            sender.cancel()
            await asyncio.wait({sender}, timeout=_CONNECT)
        await self._hang_up()
        async with self._lock:
            redis, self._redis = self._redis, None
            if redis is not None:
                await redis.aclose(close_connection_pool=True)
        self._timeouts = Timeouts()  # the timer of those from before keeps the event loop

    async def subscribers(self, channel: str) -> int:
        """How many connections are subscribed to a channel.

        After an outage, it waits for a moment until as many as before have subscribed again.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        until = time.monotonic() + _RETURN
        try:
            async with asyncio.timeout(self._limit):
                while (count := await self._count(channel)) < self._counted.get(channel, 0):
                    if not self._is_after_outage() or time.monotonic() > until:
                        break
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise RedisTimeoutError(f"no answer within {self._limit:g} s") from None
        except RedisError as error:
            if is_lasting(error):
                raise self._explained(error) from error
            raise
        self._counted[channel] = count
        return count

    async def _count(self, channel: str) -> int:
        try:
            [(_channel, count)] = await self._client().pubsub_numsub(channel)
        except RedisConnectionError:  # from before an outage, as in _publish()
            self._failed_at = time.monotonic()
            [(_channel, count)] = await self._client().pubsub_numsub(channel)
        return int(count)

    async def channels(self, beginning: str) -> list[str]:
        """The channels with such a name to which somebody is subscribed.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        pattern = re.sub(r"([*?^\[\]\\])", r"\\\1", beginning)
        return [each.decode() for each in await self._client().pubsub_channels(f"{pattern}*")]

    def _client(self) -> Any:
        if self._redis is None:
            pool = create_pool(self._host)
            self._limit = pool.connection_kwargs.get("socket_timeout") or _ANSWER
            pool.connection_kwargs["socket_timeout"] = None
            self._redis = Redis(connection_pool=pool)
        return self._redis

    def _is_after_outage(self) -> bool:
        return time.monotonic() - self._failed_at <= _GRACE

    def _is_returning(self) -> bool:
        return time.monotonic() - self._failed_at < _RETURN

    def _explained(self, error: RedisError) -> RedisError:
        return explained(error, self._prefix, self._client().connection_pool.connection_kwargs)

    # Subscriptions

    @property
    def is_at_home(self) -> bool:
        """Whether messages to the event loop arrive now, as far as is known."""
        return self._wanted.get(self._home) is _CONFIRMED and self._is_receiving()

    async def subscribe(self, channel: str) -> None:
        """Subscribe, and wait until Redis has confirmed it.

        Raises:
            redis.exceptions.RedisError: it was refused, Redis is away, or there was no answer in
                five seconds. It will be subscribed to when Redis lets it.
        """
        if not self._is_receiving():
            self._task = asyncio.create_task(self._do_receiving())
        confirmed = self._wanted.get(channel)
        if confirmed is _CONFIRMED:  # as for nearly all who join the group of everybody
            return
        if confirmed is None:
            confirmed = self._wanted[channel] = _Answer()
            self._missing.add(channel)
            self._write(("SUBSCRIBE", channel))
        try:
            async with asyncio.timeout(_CONFIRM):
                await confirmed.wait()
        except TimeoutError:
            raise RedisTimeoutError("Redis confirmed no subscription") from None
        if (refusal := confirmed.refusal) is not None:
            raise type(refusal)(*refusal.args)  # to each his own, with its own traceback

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
            self._asked.extend(name if kind == "SUBSCRIBE" else "" for kind, name in commands)
            with suppress(RuntimeError):  # uvloop's, where it was lost and nobody has read that yet
                # Not writelines(): since Python 3.12 that fails on a transport that was cut off.
                self._connection._writer.write(b"".join(packed))

    # Receiving

    async def _do_receiving(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = time.monotonic()
            try:
                messages = await self._connect()
                while True:
                    if await self._receive():
                        # Not at once: who has waited for this comes before a message behind it.
                        loop.call_soon(messages.note_read)
                    else:
                        messages.note_silence()
            except Exception as error:  # noqa: BLE001 - nobody would start this task again
                self._fail(error)
            finally:
                await self._disconnect()
            await asyncio.sleep(max(0, started + self._pause - time.monotonic()))

    async def _connect(self) -> Messages:
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
        messages = Messages(connection._writer.transport, self._deliver)
        self._connection = connection
        self._missing = set(self._wanted)
        self._asked.clear()
        self._ask()
        if not self._wanted:
            self._note_back()
        return messages

    async def _receive(self) -> bool:
        """Whether there was a reply."""
        connection = self._connection
        if self._ask_again_at is not None and time.monotonic() >= self._ask_again_at:
            self._ask()
        interval = connection.health_check_interval
        if interval and asyncio.get_running_loop().time() > connection.next_health_check:
            self._write(("PING", ""))
        try:
            response = await connection.read_response(
                timeout=_READ, disconnect_on_error=False, push_request=True
            )
        except ResponseError as error:  # by an ACL: another connection would be told the same
            name = self._asked.popleft()
            if name == self._home:
                self._away_since = self._away_since or time.monotonic()
            self._refuse([name], self._explained(error))
            self._ask_again_at = time.monotonic() + self._slow_down(_REFUSED)
            return True
        if response is None:  # silence
            if _is_lost(connection):
                raise RedisConnectionError("the connection was lost")
            return False
        is_push = isinstance(response, list) and len(response) == 3
        kind, name = response[:2] if is_push else _PONG
        self._asked.popleft()
        name = name.decode() if isinstance(name, bytes) else name
        if kind in (b"subscribe", "subscribe") and name in self._wanted:
            self._wanted[name].give(None)
            self._wanted[name] = _CONFIRMED
            self._missing.discard(name)
            self._note_back()
        return True

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._wanted.get(self._home) is _CONFIRMED:
            # Nobody comes in before it is confirmed once more. Groups needn't be: who is in them
            # is in a connection's, too.
            self._wanted[self._home] = _Answer()
        if connection is not None:
            with suppress(Exception):  # it is lost anyway
                await connection.disconnect(nowait=True)

    def _note_back(self) -> None:
        """The end of an outage: not before Redis has confirmed that messages arrive."""
        self._pause = _ATTEMPT
        is_home = self._wanted.get(self._home, _CONFIRMED) is _CONFIRMED
        if is_home and self._away_since is not None:
            self._away_since = None
            self._failed_at = time.monotonic()
            text = "Redis is back: %d subscriptions were made again."
            logger.warning(text, len(self._wanted))

    def _fail(self, error: Exception) -> None:
        """Note an outage; logged once, until there is a connection again."""
        now = self._failed_at = time.monotonic()
        was_here, self._away_since = self._away_since is None, self._away_since or now
        if isinstance(error, RedisError) and is_lasting(error):
            self._slow_down(_REFUSED)
            self._refuse(self._wanted, self._explained(error))
            return
        self._slow_down(_OUTAGE)
        said = (str(error) or type(error).__name__).rstrip(".")
        if was_here:
            logger.error(
                "The connection to Redis is lost: %s. Connections of clients stay open, and are "
                "out of reach until it is back.",
                said,
            )
        if now - self._away_since >= _PATIENCE:
            self._tell(self._wanted, RedisConnectionError(said))

    def _slow_down(self, most: float) -> float:
        self._pause = min(self._pause * 2, most)
        return self._pause

    def _refuse(self, channels: Iterable[str], error: RedisError) -> None:
        _refusals.add(str(error), f"{error}.")
        self._tell(channels, error)

    def _tell(self, channels: Iterable[str], error: RedisError) -> None:
        """Tell those who wait for a subscription that there is none for now."""
        for channel in channels:
            answer = self._wanted.get(channel, _CONFIRMED)
            if answer is not _CONFIRMED:
                answer.give(error)
                if not is_lasting(error):  # who comes now waits for the next attempt
                    self._wanted[channel] = _Answer()

    # Sending

    async def publish(self, channel: str, message: bytes, *, is_once: bool = False) -> int:
        """Hand a message to Redis, and after an outage to somebody who has subscribed again.

        Returns:
            How many got it; none where it is sent once more later, and with ``is_once`` never is.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        self._client()
        try:
            with self._timeouts.after(self._limit):
                if self._lock.locked() or self._queue:  # others are sending: go with the next ones
                    return await self._enqueue(channel, message, is_once=is_once)
                async with self._lock:  # which keeps the order
                    if self._pace.is_due(len(message)):
                        # Not the one from before the lock, which flush() may have closed.
                        await self._pace.wait(self._client(), len(message), self._limit)
                    return await self._publish_in_order(channel, message, is_once=is_once)
        except TimeoutError:
            raise self._late() from None
        except RedisError as error:
            raise self._told(error) from error

    async def publish_to_one(self, channel: str, message: bytes) -> bool:
        """Hand a message to who has subscribed to a channel, now or, after an outage, again.

        Returns:
            Whether there is somebody; else it is not sent once more later.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        # Who was there may have lost Redis, of which nothing may be known here, and comes back in a
        # moment.
        may_come_back = channel in self._reached
        while not await self.publish(channel, message, is_once=True):
            if not may_come_back and not self._is_after_outage():
                self._reached.discard(channel)
                return False
            may_come_back = False
            await asyncio.sleep(_PAUSE)
        self._reached.add(channel)
        return True

    async def publish_many(self, messages: list[tuple[str, bytes]]) -> None:
        """The same for many, in their order.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        self._client()
        for start in range(0, len(messages), _BATCH):
            futures = [
                self._enqueue(*each, is_once=False) for each in messages[start : start + _BATCH]
            ]
            try:
                with self._timeouts.after(self._limit):
                    await asyncio.gather(*futures)
            except TimeoutError:
                raise self._late() from None
            except RedisError as error:
                raise self._told(error) from error

    def _enqueue(self, channel: str, message: bytes, *, is_once: bool) -> "asyncio.Future[int]":
        future = asyncio.get_running_loop().create_future()
        self._queue.append((channel, message, is_once, future))
        if self._sender is None:
            # A task, since none of those who wait may take the others' messages along when it is
            # cancelled.
            self._sender = asyncio.create_task(self._send_queue())
        return future

    async def _send_queue(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._queue:
                async with self._lock:
                    batch, size = [], 0
                    while self._queue and len(batch) < _BATCH and size < _BATCH_SIZE:
                        if not (waiting := self._queue.popleft())[-1].done():  # by a cancellation
                            batch.append(waiting)
                            size += len(waiting[1])
                    await self._publish_batch(batch, size)
        finally:
            self._sender = None
            for *_message, future in (*batch, *self._queue):  # none but at the end
                future.cancel()
            self._queue.clear()

    async def _publish_batch(self, batch: list[_Waiting], size: int) -> None:
        try:
            with self._timeouts.after(self._limit):
                if self._pace.is_due(size):
                    await self._pace.wait(self._client(), size, self._limit)
                await self._publish_at_once(batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, who waits is told
            failure = self._late() if isinstance(error, TimeoutError) else error
            for *_message, future in batch:
                _set(future, failure)

    async def _publish_at_once(self, batch: list[_Waiting]) -> None:
        if self._second_try.is_full or any(each[0] in self._second_try for each in batch):
            for channel, message, is_once, future in batch:
                _set(future, await self._publish_in_order(channel, message, is_once=is_once))
            return
        answers = await self._exchange_again([each[:2] for each in batch])
        for (channel, message, is_once, future), receivers in zip(batch, answers, strict=True):
            if receivers == 0 and not is_once:
                if self._is_after_outage():
                    receivers = await self._publish(channel, message)
                if not receivers:
                    self._note_nobody(channel, message)
            _set(future, receivers)

    def _told(self, error: RedisError) -> RedisError:
        return self._explained(error) if is_lasting(error) else type(error)(*error.args)

    def _late(self) -> RedisTimeoutError:
        if self._pace.is_held:
            return RedisTimeoutError(_TOO_MUCH)
        self._failed_at = time.monotonic()
        return RedisTimeoutError(f"no answer within {self._limit:g} s")

    async def _publish_in_order(self, channel: str, message: bytes, *, is_once: bool) -> int:
        if is_once:
            [answer] = await self._exchange_again([(channel, message)])
            if isinstance(answer, ResponseError):
                raise answer
            return answer
        while self._second_try.is_full:  # nobody else could send them: here is the lock
            await self._second_try.wait()
            await self._publish_again()
        if channel in self._second_try:
            self._second_try.add(channel, message)
            await asyncio.sleep(0)  # who sends without end must let it come
            return 0
        if not (receivers := await self._publish(channel, message)):
            self._note_nobody(channel, message)
        return receivers

    def _note_nobody(self, channel: str, message: bytes) -> None:
        if channel.startswith(self._nodes):
            self._second_try.add(channel, message)

    async def _publish_again(self) -> None:
        if messages := self._second_try.take():
            for answer in await self._exchange_again(messages):
                if isinstance(answer, ResponseError):
                    raise answer

    async def _send_again(self) -> None:
        try:
            async with asyncio.timeout(self._limit), self._lock:
                await self._publish_again()
        except (RedisError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            logger.warning("Messages that nobody got can't be sent once more: %s", reason)

    async def _publish(self, channel: str, message: bytes) -> int:
        """How many got it; none only where there is nobody in the time after an outage either."""
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
            if isinstance(receivers, ResponseError):
                raise receivers
            if receivers or not self._is_after_outage():
                return receivers
            await asyncio.sleep(_PAUSE)

    async def _exchange_again(self, messages: list[tuple[str, bytes]]) -> _Answered:
        try:
            return await self._exchange(messages)
        except RedisConnectionError:  # from before an outage, as in _publish()
            self._failed_at = time.monotonic()
            return await self._exchange(messages)

    async def _exchange(self, messages: list[tuple[str, bytes]]) -> _Answered:
        """How many got each message.

        By one connection that is kept: to take one from redis-py's pool, and to give it back,
        costs as much time as all the rest.
        """
        if self._sending is not None and self._sending.is_connected and _is_lost(self._sending):
            # What writing to it raises isn't always an OSError: by ETIMEDOUT, and with uvloop.
            self._failed_at = time.monotonic()
            await self._hang_up()
        if self._sending is None:
            self._sending = self._client().connection_pool.make_connection()
        connection = self._sending
        answers: list[int | ResponseError] = []
        is_refused = False
        try:
            if not connection.is_connected:
                await connection.connect()  # which finds a Sentinel's master, as sending would not
            await connection.check_health()
            if self._is_returning() and not all(
                each[0].startswith(self._nodes) for each in messages
            ):
                # Redis counts those who get it, and not those who aren't back: what some have got
                # can't be sent once more.
                await asyncio.sleep(self._failed_at + _RETURN - time.monotonic())
            # Not packed by redis-py, which takes four times as long.
            commands = b"".join(_publishing(*each) for each in messages)
            numbers = await answers_of(connection).ask(commands, len(messages))
            if numbers is not None:
                return numbers
            while len(answers) < len(messages):
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:  # of one of them; the others are to come
                    answers.append(error)
                    is_refused = True
        except BaseException:  # answers that are still to come must not pass for the next ones
            await self._hang_up()
            raise
        if is_refused:  # it may have become a replica
            await self._hang_up()
        return answers

    async def _hang_up(self) -> None:
        connection, self._sending = self._sending, None
        if connection is not None:
            with suppress(Exception):  # it is lost anyway
                await connection.disconnect(nowait=True)


def _publishing(channel: str, message: bytes) -> bytes:
    name = channel.encode()
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        *(len(name), name),
        *(len(message), message),
    )


def _set(future: "asyncio.Future[int]", answer: int | Exception) -> None:
    if future.done():  # who waited has been cancelled
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _is_lost(connection: Any) -> bool:
    reader = connection._reader
    return reader is None or reader.exception() is not None or reader.at_eof()
