"""What a connection receives over the channel layer, and which of its methods that may reach."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import copy_context
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction

from panther_channels._process.outage import TO_JOIN, limited, log_failure
from panther_channels.layers.backplane import backplane, is_of_one_message

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

    Args:
        layer: a channel layer.
        name: what ``layer.new_channel()`` gave.
    """

    def __init__(self, layer: Any, name: str) -> None:
        self._backplane = backplane(layer)
        self._name = name
        self._groups: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._is_waiting = False  # the task, for the next event
        self._is_draining = False
        self._has_left = False

    async def join(self, groups: Iterable[str]) -> None:
        """Become a member of groups, all of which :meth:`leave` leaves.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        for group in groups:
            self._groups.append(group)
            joining = self._backplane.group_add(group, self._name)
            await limited(joining, TO_JOIN, self._backplane.longest_wait)

    def bound(self, limit: int, overflow: Callable[[], None]) -> None:
        """Call ``overflow()`` once when more bytes than ``limit`` wait here, and drop the rest.

        Layers that can't count bytes have a limit of messages.
        """
        self._backplane.bound_channel(self._name, limit, overflow)

    def start(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        """Hand every event to ``handle``, one after the other, for as long as ``wanted()``."""
        context = copy_context()  # not that of who happens to send

        def wake() -> None:
            if not self._is_draining:
                self._is_draining = True  # before it begins, which may be at once
                self._task = asyncio.create_task(self._drain(handle, wanted), context=context)

        if not self._backplane.listen(self._name, wake):
            self._is_waiting = True  # should leave() come before the task has begun
            self._task = asyncio.create_task(self._pump(handle, wanted))

    async def leave(self, grace: float = _GRACE) -> bool:
        """Leave the groups, end the task and give the channel up; logs what the layer raises.

        Args:
            grace: seconds for an event in work.

        Returns:
            Whether that has ended by itself.
        """
        for group in self._groups:
            try:
                await self._backplane.group_discard(group, self._name)
            except Exception as error:  # noqa: BLE001 - whatever it was, the others are left, too
                log_failure(error)
        in_work = None if self._is_waiting else self._task
        try:
            if in_work is not None:
                await asyncio.wait({in_work}, timeout=grace)
            return in_work is None or in_work.done()
        finally:  # also where a server has had enough, and cancels us
            self._has_left = True
            if self._task is not None:
                await _cancel(self._task)
            await self._backplane.release(self._name)

    async def _drain(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        try:
            while wanted() and not self._has_left:
                try:
                    event = self._backplane.take(self._name)
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
                event = await self._backplane.receive(self._name)
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
