"""Connections on the channel layer: how they are reached from outside, and how they listen."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction
from channels.layers import get_channel_layer
from django.core.exceptions import ImproperlyConfigured

from panther_channels import conf, status
from panther_channels._encoding import to_event

logger = logging.getLogger("panther_channels")

#: The one type of event that this package sends over a channel layer.
EVENT_TYPE = "panther_channels.connection"

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_GRACE = 5.0  # seconds for an event in work when its connection ends
_RETRY = 1.0  # seconds until the layer is asked again after it failed
_MAX_REASON = 123  # bytes: a control frame holds 125, the code takes two (RFC 6455 section 5.5)


def group_name(connection_id: str) -> str:
    """The group of one connection on the channel layer."""
    return f"connection.{connection_id}"


def is_connection_id(value: object) -> bool:
    """Whether a value has the form of a ``connection_id``: 32 lower-case hexadecimal digits."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_close(code: int, reason: str) -> None:
    """Refuse what can't stand in a close frame.

    Raises:
        ValueError: the code may not be sent (RFC 6455 section 7.4), or the reason is longer than
            123 bytes of UTF-8.
        TypeError: the code is no ``int``, or the reason no ``str``.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"A close code is an int, not {code!r}.")
    if not isinstance(reason, str):
        raise TypeError(f"A close reason is a str, not {reason!r}.")
    if not status.is_sendable(code):
        raise ValueError(
            f"{code} can't be sent as a close code: use 1000 to 1003, 1007 to 1014, or 3000 to "
            "4999, of which 4000 to 4999 are yours to choose."
        )
    if (size := len(reason.encode())) > _MAX_REASON:
        raise ValueError(f"A close reason has {_MAX_REASON} bytes of UTF-8 at most, not {size}.")


async def send_message_to_websocket(connection_id: str, data: Any) -> None:
    """Send a message to an open connection, from any process that shares its channel layer.

    It passes through the connection's ``send()``: a ``str`` arrives as a text frame, ``bytes`` as
    a binary frame, everything else as JSON. An id that is unknown, malformed or of a connection
    that has closed does nothing. Messages of one sender arrive in the order of their sending.

    Args:
        connection_id: the ``connection_id`` of the connection.
        data: the message.

    Raises:
        TypeError: the data can't be encoded as JSON.
        UnicodeEncodeError: the text holds a lone surrogate.
        ImproperlyConfigured: there is no channel layer.
    """
    await _post(connection_id, to_event(data))


async def close_websocket_connection(
    connection_id: str, code: int = status.WS_1000_NORMAL_CLOSURE, reason: str = ""
) -> None:
    """Close an open connection, from any process that shares its channel layer.

    It passes through the connection's ``close()``. An id that is unknown, malformed or of a
    connection that has closed does nothing.

    Args:
        connection_id: the ``connection_id`` of the connection.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.

    Raises:
        ValueError: the code can't be sent, or the reason is too long.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
    """
    check_close(code, reason)
    await _post(connection_id, {"code": code, "close": reason})


async def _post(connection_id: str, event: dict[str, Any]) -> None:
    alias = conf.channel_layer()
    layer = get_channel_layer(alias)
    if layer is None:
        raise ImproperlyConfigured(
            f"Connections can't be reached from outside without a channel layer: set "
            f'CHANNEL_LAYERS["{alias}"], for example to '
            '{"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", '
            '"CONFIG": {"hosts": ["redis://127.0.0.1:6379"]}}.'
        )
    if is_connection_id(connection_id):
        await layer.group_send(group_name(connection_id), {"type": EVENT_TYPE, **event})


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
        self._groups: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._waiting = False

    async def join(self, groups: Iterable[str]) -> None:
        """Become a member of groups, all of which :meth:`leave` leaves."""
        for group in groups:
            self._groups.append(group)
            await self._layer.group_add(group, self._name)

    def start(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        """Hand every event to ``handle``, one after the other, for as long as ``wanted()``."""
        self._task = asyncio.create_task(self._pump(handle, wanted))

    async def leave(self) -> None:
        """Leave the groups, end the task and give the channel up; logs what the layer raises."""
        for group in self._groups:
            try:
                await self._layer.group_discard(group, self._name)
            except Exception:
                logger.exception("The channel layer failed to remove a connection from %r.", group)
        if self._task is not None and not self._waiting:
            await asyncio.wait({self._task}, timeout=_GRACE)
        if self._task is not None:
            await _cancel(self._task)
        # Where nothing came in its last moment, the layer has forgotten the channel already.
        if not self._waiting or self._name in getattr(self._layer, "channels", ()):
            await self._release()

    async def _pump(
        self, handle: Callable[[Mapping[str, Any]], Awaitable[None]], wanted: Callable[[], bool]
    ) -> None:
        while wanted():
            self._waiting = True
            try:
                event = await self._layer.receive(self._name)
            except Exception:
                logger.exception("The channel layer failed; asking it again in %s s.", _RETRY)
                await asyncio.sleep(_RETRY)
                continue
            self._waiting = False
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


async def _cancel(task: "asyncio.Future[Any]") -> None:
    # Python 3.11's wait_for() may swallow a cancellation (redis-py uses it): ask twice, never wait
    # without a limit.
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        if task.done():
            return
