"""Groups of ``channels_redis.core``: who is a member is known to Redis alone, and may be forgotten.

A membership ends after ``group_expiry``, and at once where Redis comes back without it: after
FLUSHALL, a restart, or with a replica that was behind. Here one task of an event loop keeps those
of its connections. What is used of the inside of channels_redis is that of its version 4.3.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

logger = logging.getLogger("panther_channels")

_LOOK = 1.0  # seconds between two looks at Redis
_LOOK_AGAIN = 0.2  # the same, where it failed
_PATIENCE = 1.0  # seconds that a look waits for an answer
_LIMIT = 5.0  # seconds for joining or leaving a group, with all that has to be waited for
_AT_ONCE = 32  # calls at a time: redis-py's pool has 100 connections, and raises when they are out
_PAUSE = 0.05  # seconds until another attempt at one of them
_CHUNK = 200  # memberships in one pipeline, whose encoding holds up the event loop
_RENEWAL = 3600.0  # seconds at most until all memberships are renewed

Member = tuple[str, str]  # a group, and a channel in it


class _Shard:
    """The memberships on one Redis server."""

    def __init__(self, layer: Any, index: int) -> None:
        self._layer = layer
        self._index = index
        self.interval = min(layer.group_expiry / 3, _RENEWAL)
        self.members: dict[Member, None] = {}  # in the order of joining
        self.gone: dict[Member, None] = {}  # to be removed yet
        # Counting tells more than a key that is there or not: a Redis that starts from an old
        # snapshot has the key, but not the members that came after it.
        self._counter = f"{layer.prefix}:panther_channels:{uuid4().hex}"
        self._count: float | None = None
        self._renewal = 0.0  # when, on the monotonic clock
        self._is_due = False
        self.is_away = False  # and was logged
        self.is_back = asyncio.Event()

    async def look(self) -> None:
        """Ask Redis whether it still knows what it knew, and tell it again if not."""
        try:
            if self.is_away:  # so are the connections that wait in the pool
                await self._ask(lambda redis: redis.connection_pool.disconnect(False))
            # Of the commands that the layer itself needs, or an ACL might refuse it.
            count = await self._ask(lambda redis: redis.zadd(self._counter, {"": 1}, incr=True))
            is_new = self._count is None
            has_lost = not is_new and count != (self._count or 0) + 1
            self._count = count
            if has_lost or is_new or self._is_due or time.monotonic() >= self._renewal:
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
        await self._ask(lambda redis: redis.expire(self._counter, expiry))
        for chunk in _chunks(self.members):
            await self._ask(_adding(self._layer, chunk, expiry))
            # Those who left between the two may have come back by it.
            self.gone.update((member, None) for member in chunk if member not in self.members)
        self._renewal = time.monotonic() + self.interval

    async def _remove(self) -> None:
        for chunk in _chunks(self.gone):
            await self._ask(_removing(self._layer, chunk))
            for member in chunk:
                self.gone.pop(member, None)

    async def _ask(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(_PATIENCE):
            return await command(self._layer.connection(self._index))


class Memberships:
    """The memberships of a layer's connections in the running event loop.

    Args:
        layer: a ``channels_redis.core.RedisChannelLayer``.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._shards = [_Shard(layer, index) for index in range(layer.ring_size)]
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._task: asyncio.Task[None] | None = None
        self._dismissed: dict[asyncio.Task[None], str] = {}
        self._has_told = False

    async def add(self, group: str, channel: str) -> None:
        """Add a channel to a group, and keep it there.

        Raises:
            TimeoutError: it took more than five seconds.
            redis.exceptions.RedisError: Redis failed.
        """
        self._shard(group).members[group, channel] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep())
        await self._call(self._layer.group_add, group, channel)

    async def discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group; later, where Redis is in trouble now.

        Raises:
            Exception: what the layer raises, if it isn't of Redis.
        """
        shard = self._shard(group)
        shard.members.pop((group, channel), None)
        try:
            if shard.is_away:  # it would take its time to fail
                shard.gone[group, channel] = None
            else:
                await self._call(self._layer.group_discard, group, channel)
        except Exception as error:
            shard.gone[group, channel] = None
            if not is_trouble(error):
                raise
            shard.fail(error)
        self._rest()

    def dismiss(self, channel: str, receiver: "asyncio.Task[None]") -> None:
        """End a task that receives on a channel, without a loss for the other channels.

        One of a process's receivers waits at Redis for all of them. Cancelled there, it would lose
        what Redis has just taken out of its queue, whomever it was for. So all are woken by a
        message, and the one at Redis stays until the next one for anybody.
        """
        self._layer.receive_buffer[channel].put_nowait({"type": "dismiss"})  # an empty one is none
        self._dismissed[receiver] = channel
        receiver.add_done_callback(self._forget)
        self._rest()

    def _forget(self, receiver: "asyncio.Task[None]") -> None:
        self._layer.receive_buffer.pop(self._dismissed.pop(receiver), None)

    def has_noted(self, error: Exception, channel: str) -> bool:
        """Whether an exception of ``receive()`` is Redis' trouble, and therefore logged here."""
        if not is_trouble(error):
            return False
        if "timeout" not in type(error).__name__.lower():
            self._shard(self._layer.non_local_name(channel)).fail(error)
        elif not self._has_told:
            # Not trouble at all: redis-py gave up just when Redis was to say that nothing came.
            self._has_told = True
            logger.warning(
                "Redis had no message for %s s, which the channel layer took for a failure: set "
                '"socket_timeout": None in each of its hosts. This is said once.',
                self._layer.brpop_timeout,
            )
        return True

    async def pause(self, seconds: float, channel: str) -> None:
        """Wait before receiving again: less long, where Redis was away and is back."""
        shard = self._shard(self._layer.non_local_name(channel))
        if not shard.is_away:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await shard.is_back.wait()

    def _shard(self, name: str) -> _Shard:
        index: int = self._layer.consistent_hash(name)
        return self._shards[index]

    async def _call(self, method: Callable[[str, str], Awaitable[None]], *arguments: str) -> None:
        async with asyncio.timeout(_LIMIT), self._slots:
            for _ in range(2):
                try:
                    return await method(*arguments)
                except _redis().exceptions.ConnectionError:
                    await asyncio.sleep(_PAUSE)  # a stale one, or none left
            return await method(*arguments)

    async def _keep(self) -> None:
        while True:
            is_away = any(shard.is_away for shard in self._shards)
            await asyncio.sleep(_LOOK_AGAIN if is_away else _LOOK)
            await asyncio.gather(*(shard.look() for shard in self._shards))

    def _rest(self) -> None:
        if any(shard.members for shard in self._shards):
            return
        for receiver in self._dismissed:
            receiver.cancel()  # no message for others can be lost any more
        if self._task is not None and not any(shard.gone for shard in self._shards):
            self._task.cancel()
            self._task = None


_memberships: "WeakValueDictionary[tuple[Any, Any], Memberships]" = WeakValueDictionary()


def is_core(kind: type) -> bool:
    """Whether a class of layers is ``channels_redis.core``'s, or derives from it."""
    # Who has such a class has imported the module; the others needn't.
    core = sys.modules.get("channels_redis.core")
    return core is not None and issubclass(kind, core.RedisChannelLayer)


def memberships(layer: Any) -> Memberships | None:
    """Those in the running event loop; ``None`` where a layer looks after them itself."""
    if not is_core(type(layer)):
        return None
    key = (asyncio.get_running_loop(), layer)
    found = _memberships.get(key)
    if found is None:
        found = _memberships[key] = Memberships(layer)
    return found


def is_trouble(error: BaseException) -> bool:
    """Whether an exception says all there is to know, without its traceback."""
    return isinstance(error, OSError | _redis().exceptions.RedisError)


def _redis() -> Any:
    return sys.modules["redis"]  # channels_redis has imported it


def _chunks(members: dict[Member, None]) -> list[list[Member]]:
    found = list(members)
    return [found[start : start + _CHUNK] for start in range(0, len(found), _CHUNK)]


def _adding(layer: Any, chunk: list[Member], expiry: int) -> Callable[[Any], Awaitable[Any]]:
    def add(redis: Any) -> Awaitable[Any]:
        pipeline, now = redis.pipeline(transaction=False), time.time()
        for group, channel in chunk:
            key = layer._group_key(group)  # noqa: SLF001 - see the head of the file
            pipeline.zadd(key, {channel: now}).expire(key, expiry)
        result: Awaitable[Any] = pipeline.execute()
        return result

    return add


def _removing(layer: Any, chunk: list[Member]) -> Callable[[Any], Awaitable[Any]]:
    def remove(redis: Any) -> Awaitable[Any]:
        pipeline = redis.pipeline(transaction=False)
        for group, channel in chunk:
            pipeline.zrem(layer._group_key(group), channel)  # noqa: SLF001 - as above
        result: Awaitable[Any] = pipeline.execute()
        return result

    return remove
