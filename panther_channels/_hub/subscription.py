"""What a connection receives over the channel layer, and which of its methods that may reach."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextvars import Context, copy_context
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction

from panther_channels._process import caches
from panther_channels._process.loops import Lock
from panther_channels._process.outage import TO_JOIN, limited, log_failure
from panther_channels.layers.backplane import Inbox, backplane, is_of_one_message

logger = logging.getLogger("panther_channels")

_GRACE = 5.0  # seconds for an event in work when its connection ends
_RETRY = 1.0  # seconds between two questions to a layer that fails
_MANY = 1000  # messages in a row that can't be read: it is the layer that fails


@lru_cache(maxsize=256)
def is_not_overridden(consumer: Any, name: str) -> bool:
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
        name in vars(base) for base in consumer.__mro__ if is_not_overridden(base, "__module__")
    ):
        return None
    return name if iscoroutinefunction(getattr(consumer, name, None)) else None


class Subscription:
    """A channel of one connection on a layer: its groups, and the task that hands over its events.

    There is a task while there is something to hand over, where the layer tells of that.

    Made by :meth:`open`.

    Args:
        inbox: the channel.
        longest_wait: seconds after which each call of the layer ends by itself.
    """

    def __init__(self, inbox: Inbox, longest_wait: float) -> None:
        self._inbox = inbox
        self._longest_wait = longest_wait
        self._task: asyncio.Task[None] | None = None
        self._context: Context | None = None  # once there was a task, which had it
        self._is_waiting = False  # the task, for the next event
        self._is_draining = False
        self._has_left = False

    @classmethod
    async def open(cls, layer: Any) -> "Subscription":
        """One with a new channel of a layer.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        found = backplane(layer)
        inbox = await limited(found.open_channel(), TO_JOIN, found.longest_wait)
        return cls(inbox, found.longest_wait)

    @property
    def name(self) -> str:
        """That of the channel."""
        return self._inbox.name

    @property
    def groups(self) -> Collection[str]:
        """What it has joined."""
        return self._inbox.groups

    async def join(self, group: str) -> None:
        """Become a member of a group, up to :meth:`leave`.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        await limited(self._inbox.join(group), TO_JOIN, self._longest_wait)

    async def join_as(self, connection_id: str) -> None:
        """Hand over what comes for a connection, and for everybody.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        await limited(self._inbox.join_as(connection_id), TO_JOIN, self._longest_wait)

    async def leave_group(self, group: str) -> None:
        """Leave a group.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        await limited(self._inbox.leave(group), TO_JOIN, self._longest_wait)

    def bound(self, limit: int, overflow: Callable[[], None]) -> None:
        """Call ``overflow()`` once when more bytes than ``limit`` wait here, and drop the rest.

        Layers that can't count bytes have a limit of messages.
        """
        self._inbox.bound(limit, overflow)

    def start(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        """Hand every event to ``handle``, one after the other, for as long as ``wanted()``."""
        context = copy_context()  # not that of who happens to send

        def wake() -> None:
            if not self._is_draining:
                self._is_draining = True  # before it begins, which may be at once
                self._context = context
                self._task = asyncio.create_task(self._drain(handle, wanted), context=context)

        if not self._inbox.listen(wake):
            self._is_waiting = True  # should leave() come before the task has begun
            self._context = context
            self._task = asyncio.create_task(self._pump(handle, wanted), context=context)

    async def leave(self, grace: Callable[[], float] = lambda: _GRACE) -> bool:
        """Leave the groups, end the task and give the channel up; logs what the layer raises.

        Args:
            grace: tells how many seconds an event in work has.

        Returns:
            Whether that has ended by itself.
        """
        await self._inbox.leave_all()
        in_work = None if self._is_waiting else self._task
        try:
            if in_work is not None:
                await asyncio.wait({in_work}, timeout=grace())
            return in_work is None or in_work.done()
        finally:  # also where a server has had enough, and cancels us
            self._has_left = True
            if self._task is not None:
                await _cancel(self._task)
            if self._context is not None:
                self._context.run(caches.close_all_but, caches.opened())
            await self._inbox.release()

    async def _drain(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        try:
            while wanted() and not self._has_left:
                try:
                    event = self._inbox.take()
                except Exception as error:  # noqa: BLE001 - the next one may be all right
                    logger.warning("A message of the channel layer can't be read: %r", error)
                    await asyncio.sleep(0)
                    continue
                if event is None:
                    return
                await handle(event)
        finally:
            self._is_draining, self._task = False, None

    async def _pump(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        again_at = 0.0  # a single failure costs no time: messages may be waiting
        odd = 0
        while wanted() and not self._has_left:
            self._is_waiting = True
            try:
                event = await self._inbox.receive()
            except Exception as error:  # noqa: BLE001 - it ends no connection, whatever it was
                if is_of_one_message(error) and odd < _MANY:  # the next one may be there already
                    odd += 1
                    logger.warning("A message of the channel layer can't be read: %r", error)
                    await asyncio.sleep(0)
                    continue
                log_failure(error)
                await asyncio.sleep(again_at - time.monotonic())
                again_at = time.monotonic() + _RETRY
                continue
            odd = 0
            self._is_waiting = False
            if not self._has_left:
                await handle(event)


class Ear:
    """A channel at which an event loop hears of others, for as long as it has a reason to.

    Args:
        layer: a channel layer.
        hear: gets every event.

    Attributes:
        subscription: to the channel, while it listens.
    """

    def __init__(self, layer: Any, hear: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self.subscription: Subscription | None = None
        self._layer = layer
        self._hear = hear
        self._lock = Lock()

    @property
    def name(self) -> str:
        """That of the channel, to which others may answer."""
        return "" if self.subscription is None else self.subscription.name

    async def listen(self, groups: Iterable[str], begin: Callable[[], Awaitable[Any]]) -> None:
        """Listen from now on; does nothing if it does already.

        Args:
            groups: those that it joins.
            begin: what belongs to it; if it fails, nobody listens.

        Raises:
            ChannelLayerError: the layer is in trouble, or gave no answer within 1.5 seconds.
        """
        if self.subscription is None:
            await limited(self._listen(groups, begin), TO_JOIN)

    async def _listen(self, groups: Iterable[str], begin: Callable[[], Awaitable[Any]]) -> None:
        async with self._lock:
            if self.subscription is not None:
                return
            subscription = await Subscription.open(self._layer)
            try:
                for group in groups:
                    await subscription.join(group)
                await begin()
            except BaseException:
                await subscription.leave()
                raise
            self.subscription = subscription
            subscription.start(self._hear, lambda: self.subscription is subscription)

    async def rest(
        self, is_needed: Callable[[], object], end: Callable[[], Awaitable[None]]
    ) -> None:
        """Listen no longer.

        Args:
            is_needed: whether it has to, after all.
            end: what belongs to it.
        """
        async with self._lock:
            if self.subscription is None or is_needed():
                return
            subscription, self.subscription = self.subscription, None
            await subscription.leave()  # first: who is told then must not find it there
            await end()


async def _cancel(task: "asyncio.Future[Any]") -> None:
    # Python 3.11's wait_for() may swallow a cancellation (redis-py uses it): ask twice, never wait
    # without a limit.
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)  # nearly always, no more is needed
        if not task.done():
            await asyncio.wait({task}, timeout=1.0)
        if task.done():
            return
