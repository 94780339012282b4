"""What ``channels_redis.core`` needs of us: memberships that stay, receivers that lose nothing.

What is used of the inside of channels_redis, here and in ``_renewal``, is that of its version 4.3.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from panther_channels._outage import is_trouble
from panther_channels._renewal import Shard

logger = logging.getLogger("panther_channels")

_LOOK = 1.0  # seconds between two looks at Redis
_LOOK_AGAIN = 0.2  # the same, where it failed
_LIMIT = 5.0  # seconds for joining or leaving a group, with all that has to be waited for
_AT_ONCE = 32  # calls at a time: redis-py's pool has 100 connections, and raises when they are out
_PAUSE = 0.05  # seconds until another attempt at one of them


class Memberships:
    """The memberships of a layer's connections in the running event loop.

    Args:
        layer: a ``channels_redis.core.RedisChannelLayer``.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._shards = [Shard(layer, index) for index in range(layer.ring_size)]
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._task: asyncio.Task[None] | None = None
        self._dismissed: dict[asyncio.Task[None], str] = {}
        self._has_told = False
        layer._clean_receive_backup = partial(_clean_quietly, layer)

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
        finally:
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

    def _shard(self, name: str) -> Shard:
        index: int = self._layer.consistent_hash(name)
        return self._shards[index]

    async def _call(self, method: Callable[[str, str], Awaitable[None]], *arguments: str) -> None:
        async with asyncio.timeout(_LIMIT), self._slots:
            for _ in range(2):
                try:
                    return await method(*arguments)
                except sys.modules["redis"].ConnectionError:
                    await asyncio.sleep(_PAUSE)  # a stale one, or none left
            return await method(*arguments)

    async def _keep(self) -> None:
        while any(shard.members or shard.gone for shard in self._shards):
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


async def _clean_quietly(layer: Any, index: int, channel: str) -> None:
    # A task that nobody awaits: what it raises in an outage would be one more traceback.
    with suppress(OSError, sys.modules["redis"].RedisError):
        await type(layer)._clean_receive_backup(layer, index, channel)


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


def hasty_hosts(layer: Any) -> list[int]:
    """The hosts whose ``socket_timeout`` is not above the time that ``receive()`` waits.

    redis-py 8 has a default of 5 s where none is set, which is just as long.
    """
    found = []
    for index in range(layer.ring_size):
        timeout = layer.create_pool(index).connection_kwargs.get("socket_timeout", 0)
        if timeout is not None and timeout <= layer.brpop_timeout:
            found.append(index)
    return found
