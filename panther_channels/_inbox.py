"""What a connection receives over the channel layer, and which of its methods that may reach."""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction

from panther_channels._outage import TO_JOIN, limited
from panther_channels._redis_core import memberships

logger = logging.getLogger("panther_channels")

_GRACE = 5.0  # seconds for an event in work when its connection ends
_RETRY = 1.0  # seconds between two questions to a layer that fails
_MANY = 1000  # messages in a row that can't be read: it is the layer that fails


@lru_cache(maxsize=256)
def is_ours(consumer: Any, name: str) -> bool:
    """Whether a class has a method from this package, Channels or Python, not its own."""
    definer = next((base for base in consumer.__mro__ if name in vars(base)), object)
    return definer.__module__.partition(".")[0] in {"panther_channels", "channels", "builtins"}


@lru_cache(maxsize=256)
def event_handler(consumer: Any, event_type: str) -> str | None:
    """The name of the method that a class has for a type of event, as Channels names it.

    Never one whose name this package, Channels or Python knows: an event from the layer must not
    pass for one of the server, nor call ``close()``.
    """
    name = event_type.replace(".", "_")
    if name.startswith("_") or any(
        name in vars(base) for base in consumer.__mro__ if is_ours(base, "__module__")
    ):
        return None
    return name if iscoroutinefunction(getattr(consumer, name, None)) else None


class Inbox:
    """A channel of one connection on a layer: its groups, and the task that hands over its events.

    Args:
        layer: a channel layer.
        name: what ``layer.new_channel()`` gave.
    """

    def __init__(self, layer: Any, name: str) -> None:
        self._layer = layer
        self._name = name
        self._memberships = memberships(layer)
        self._groups: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._waiting = False
        self._has_left = False

    async def join(self, groups: Iterable[str]) -> None:
        """Become a member of groups, all of which :meth:`leave` leaves.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        add = self._layer.group_add if self._memberships is None else self._memberships.add
        for group in groups:
            self._groups.append(group)
            await limited(add(group, self._name), TO_JOIN)

    def bound(self, limit: int, overflow: Callable[[], None]) -> None:
        """Call ``overflow()`` once when more bytes than ``limit`` wait here, and drop the rest.

        Layers that can't count bytes have a limit of messages.
        """
        bound_channel = getattr(self._layer, "bound_channel", None)
        if bound_channel is not None:
            bound_channel(self._name, limit, overflow)

    def start(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        """Hand every event to ``handle``, one after the other, for as long as ``wanted()``."""
        self._waiting = True  # and not in work, should leave() come before the task has begun
        self._task = asyncio.create_task(self._pump(handle, wanted))

    async def leave(self) -> None:
        """Leave the groups, end the task and give the channel up; logs what the layer raises."""
        kept = self._memberships
        discard = self._layer.group_discard if kept is None else kept.discard
        for group in self._groups:
            try:
                await discard(group, self._name)
            except Exception:
                logger.exception("The channel layer failed to remove a connection from %r.", group)
        if self._task is not None and not self._waiting:
            await asyncio.wait({self._task}, timeout=_GRACE)
        self._has_left = True
        if kept is not None and self._task is not None and self._waiting:
            kept.dismiss(self._name, self._task)
            return
        if self._task is not None:
            await _cancel(self._task)
        # Where nothing came in its last moment, the layer has forgotten the channel already.
        if not self._waiting or self._name in getattr(self._layer, "channels", ()):
            await self._release()

    async def _pump(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        kept = self._memberships
        receive = self._layer.receive  # which a layer of Redis makes anew at every look
        again_at = 0.0  # a single failure costs no time: messages may be waiting
        odd = 0
        while wanted() and not self._has_left:
            self._waiting = True
            try:
                event = await receive(self._name)
            except Exception as error:
                if _is_odd(error) and odd < _MANY:  # the next one may be there already
                    odd += 1
                    logger.warning("A message of the channel layer can't be read: %r", error)
                    await asyncio.sleep(0)
                    continue
                if kept is None or not kept.has_noted(error, self._name):
                    logger.exception("The channel layer failed; it is asked again.")
                delay = again_at - time.monotonic()
                if kept is None:
                    await asyncio.sleep(delay)
                else:
                    await kept.pause(delay, self._name)
                again_at = time.monotonic() + _RETRY
                continue
            odd = 0
            self._waiting = False
            if not self._has_left:
                await handle(event)

    async def _release(self) -> None:
        # A channel layer forgets a channel when a receive() on it is cancelled, and has no other
        # way. Where the task was not in receive() when it ended, that is made up for here.
        for _ in range(1000):
            receiving = asyncio.ensure_future(self._layer.receive(self._name))
            done, _pending = await asyncio.wait({receiving}, timeout=0.01)
            if not done:
                await _cancel(receiving)
                return
            with suppress(Exception):
                receiving.result()


def _is_odd(error: Exception) -> bool:
    """Whether the failure is of one message, which some other process has sent."""
    fernet: Any = sys.modules.get("cryptography.fernet")  # encrypts the messages of channels_redis
    kinds = (ValueError, TypeError, LookupError)
    return isinstance(error, kinds if fernet is None else (*kinds, fernet.InvalidToken))


async def _cancel(task: "asyncio.Future[Any]") -> None:
    # Python 3.11's wait_for() may swallow a cancellation (redis-py uses it): ask twice, never wait
    # without a limit.
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        if task.done():
            return
