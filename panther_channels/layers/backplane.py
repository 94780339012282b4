"""What the package asks of a channel layer, and how any layer of Channels' specification gives it.

Our own layers are backplanes. Every other one gets what it lacks here, and nowhere else does
anybody need to know which layer it is.
"""

import asyncio
import math
import re
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer

from panther_channels._process.loops import OnePerLoop
from panther_channels._process.outage import TO_SEND, is_trouble, log_failure

_EXPIRY = 86400.0  # seconds of a membership, where a layer doesn't tell: Channels' default
_STEPS = 64  # looks at the memberships within a third of their time
_RETRY = 10.0  # seconds at most until another attempt to renew them
_LARGEST = 16 * 1024 * 1024 - 1024  # bytes: of the local layer's frames, less what is around them
_LARGEST_OVER_REDIS = 1024 * 1024
_TRIES = 3  # to become a member

#: The group of all connections.
EVERYBODY = "panther_channels.everybody"

_GROUP_OF_ONE = re.compile(r"connection\.([0-9a-f]{8})[0-9a-f]{24}", re.ASCII)

_node = OnePerLoop(lambda: secrets.token_hex(4))


def group_of_connection(connection_id: str) -> str:
    """The group of one connection."""
    return f"connection.{connection_id}"


def group_of_node(node: str, number: int) -> str:
    """A group that layers of ours take for that of a connection, and hand to its node alone."""
    return group_of_connection(f"{node}{number:024}")


def node_of(group: str) -> str | None:
    """The node that has a connection, by the name of its group; ``None`` of any other group."""
    found = _GROUP_OF_ONE.fullmatch(group)
    return None if found is None else found[1]


def owner_of(channel: str) -> str:
    """The node that has a channel of a layer of ours, by its name: ``specific.<node>!<random>``."""
    return channel.partition("!")[0].rpartition(".")[2]


class Nodes(NamedTuple):
    """Whom a question to a group will reach: as far as is known, which may be not at all."""

    names: frozenset[str] | None = None  # as of node()
    number: int | None = None


class Backplane:
    """A channel layer with what the specification of Channels has no words for.

    A layer of ours derives from it beside Channels' class, and overrides what it does better. All
    methods are called in an event loop.

    Attributes:
        longest_wait: seconds after which each of its calls ends, but for ``receive()``: another
            limit would cost another timer for every message.
        largest_message: bytes of a message that may be sent without harm to others.
        is_in_memory: whether it reaches one process alone, and there belongs to one event loop.
        names_all: whether :meth:`nodes` names all event loops that listen, be they members or not.
        ends_with_its_loop: whether who listens needs no task, and need not stop before the end of
            the event loop.
    """

    longest_wait = math.inf
    largest_message = _LARGEST
    is_in_memory = False
    names_all = False
    ends_with_its_loop = False

    if TYPE_CHECKING:  # of Channels' class, which these must not hide

        async def new_channel(self) -> str: ...
        async def send(self, channel: str, message: dict[str, Any]) -> None: ...
        async def receive(self, channel: str) -> dict[str, Any]: ...
        async def group_add(self, group: str, channel: str) -> None: ...
        async def group_discard(self, group: str, channel: str) -> None: ...
        async def group_send(self, group: str, message: dict[str, Any]) -> None: ...

    def node(self) -> str:
        """Eight hexadecimal digits that name the running event loop; ids of connections begin so.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        return _node()

    async def nodes(self, _group: str) -> Nodes:
        """Whom a message to a group will reach, the running event loop among them."""
        return Nodes()

    async def all_nodes(self) -> frozenset[str]:
        """Whoever listens at anything, where :meth:`nodes` has only a number and this is known."""
        return frozenset()

    async def send_to_node(self, group: str, message: dict[str, Any]) -> bool:
        """Send to a group that belongs to one event loop; whether that is there, or may be."""
        await self.group_send(group, message)
        return True

    async def send_here(self, channels: list[str], message: dict[str, Any]) -> list[str]:
        """Put a message into channels of this event loop; those that have no room for it."""
        full = []
        for channel in channels:
            try:
                await self.send(channel, message)
            except ChannelFull:
                full.append(channel)
        return full

    async def group_send_many(self, messages: list[tuple[str, dict[str, Any]]]) -> None:
        """Send messages to groups, one after the other, each in bounded time."""
        for group, message in messages:
            async with asyncio.timeout(TO_SEND):
                await self.group_send(group, message)

    async def open_channel(self) -> "Inbox":
        """A new channel, for the one who receives from it in this event loop."""
        raise NotImplementedError


class Inbox:
    """A channel of the running event loop, as who receives from it has it.

    Args:
        name: of the channel.

    Attributes:
        groups: what it has joined, but for those of its connection.
    """

    __slots__ = ("groups", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.groups: dict[str, None] = {}

    async def join(self, group: str) -> None:
        """Become a member of a group, even should it fail: then when the layer is back."""
        raise NotImplementedError

    async def join_as(self, connection_id: str) -> None:
        """Be the one that a connection is reached by, alone and as one of everybody."""
        raise NotImplementedError

    async def leave(self, group: str) -> None:
        """Leave a group."""
        raise NotImplementedError

    async def leave_all(self) -> None:
        """Leave all groups, those of the connection, too; logs what the layer raises."""
        raise NotImplementedError

    def bound(self, limit: int, overflow: Callable[[], None]) -> None:
        """Call ``overflow()`` once when more bytes wait here, and drop what comes then.

        Layers that can't count bytes have a limit of messages.

        Args:
            limit: bytes, which one message alone may exceed.
            overflow: called in this event loop.
        """

    def listen(self, _call: Callable[[], None]) -> bool:
        """Call ``call()`` now if a message waits, and whenever one comes.

        Returns:
            Whether the layer does that; else somebody has to wait in :meth:`receive`.
        """
        return False

    def take(self) -> dict[str, Any] | None:
        """The next message, if there is one, of an inbox that tells of them.

        Raises:
            ValueError: the message can't be read.
        """
        raise NotImplementedError

    async def receive(self) -> dict[str, Any]:
        """The next message, of an inbox that doesn't tell of them."""
        raise NotImplementedError

    async def release(self) -> None:
        """Forget the channel, from which nobody receives any more."""
        raise NotImplementedError


class _AnyInbox(Inbox):
    """That of a layer of the specification, which knows channels by their names."""

    __slots__ = ("_layer",)

    def __init__(self, layer: "_AnyLayer", name: str) -> None:
        super().__init__(name)
        self._layer = layer

    async def join(self, group: str) -> None:
        self.groups[group] = None
        await self._layer.group_add(group, self.name)

    async def join_as(self, connection_id: str) -> None:
        for group in (group_of_connection(connection_id), EVERYBODY):
            await self.join(group)

    async def leave(self, group: str) -> None:
        self.groups.pop(group, None)
        await self._layer.group_discard(group, self.name)

    async def leave_all(self) -> None:
        for group in [*self.groups]:
            try:
                await self.leave(group)
            except Exception as error:  # noqa: BLE001 - whatever it was, the others are left, too
                log_failure(error)

    async def receive(self) -> dict[str, Any]:
        return await self._layer.receive(self.name)

    async def release(self) -> None:
        await self._layer.release(self.name)


class _AnyLayer(Backplane):
    """A layer of the specification, in one event loop.

    It keeps memberships: what a layer of the specification forgets after its ``group_expiry`` is
    told to it again long before. Whether it receives, and is cancelled, decides what it forgets.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.is_in_memory = isinstance(layer, InMemoryChannelLayer)
        if any(base.__module__.startswith("channels_redis") for base in type(layer).__mro__):
            # Redis cuts a process off from all messages when more waits for it than its
            # client-output-buffer-limit allows.
            self.largest_message = _LARGEST_OVER_REDIS
        self._receiving: set[str] = set()
        self._members: dict[tuple[str, str], float] = {}  # since when, in this order
        self._keeping: asyncio.Task[None] | None = None

    def new_channel(self) -> Any:
        return self._layer.new_channel()

    async def open_channel(self) -> Inbox:
        return _AnyInbox(self, await self.new_channel())

    def send(self, channel: str, message: dict[str, Any]) -> Any:
        return self._layer.send(channel, message)

    def group_send(self, group: str, message: dict[str, Any]) -> Any:
        return self._layer.group_send(group, message)

    async def receive(self, channel: str) -> dict[str, Any]:
        self._receiving.add(channel)
        message: dict[str, Any] = await self._layer.receive(channel)
        self._receiving.discard(channel)
        return message

    async def release(self, channel: str) -> None:
        # A channel layer forgets a channel when a receive() on it is cancelled, and has no other
        # way. The one in memory keeps it where something came in its last moment.
        if channel in self._receiving:
            self._receiving.discard(channel)
            if channel not in getattr(self._layer, "channels", ()):
                return
        for _ in range(1000):
            receiving = asyncio.ensure_future(self._layer.receive(channel))
            done, _pending = await asyncio.wait({receiving}, timeout=0.01)
            if not done:
                receiving.cancel()
                await asyncio.wait({receiving}, timeout=1.0)
                return
            with suppress(Exception):
                receiving.result()

    # Memberships

    async def group_add(self, group: str, channel: str) -> None:
        self._note(group, channel)  # even should it fail: then it will be left
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep())
        await self._add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._members.pop((group, channel), None)
        if not self._members and self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        async with asyncio.timeout(TO_SEND):
            await self._layer.group_discard(group, channel)

    async def _add(self, group: str, channel: str) -> None:
        # After a restart of its Redis, redis-py 8.1 hands out what is dead in its pool, unchecked
        # (where `maint_notifications_enabled()` is "auto"): each such connection fails once.
        for tries_left in reversed(range(_TRIES)):
            try:
                await self._layer.group_add(group, channel)
                break
            except Exception as error:
                if not tries_left or not is_trouble(error):
                    raise

    def _note(self, group: str, channel: str) -> None:
        self._members.pop((group, channel), None)
        self._members[group, channel] = asyncio.get_running_loop().time()

    async def _keep(self) -> None:
        interval = (getattr(self._layer, "group_expiry", None) or _EXPIRY) / 3
        step = pause = interval / _STEPS
        while True:
            await asyncio.sleep(pause)
            is_well = await self._renew(self._due(interval))
            pause = step if is_well else min(step, _RETRY)

    def _due(self, interval: float) -> list[tuple[str, str]]:
        # Thousands may have come at once, after a restart: each look takes a share of them.
        share = math.ceil(2 * len(self._members) / _STEPS)
        now = asyncio.get_running_loop().time()
        due: list[tuple[str, str]] = []
        for member, since in self._members.items():
            age = now - since
            if age < interval / 2 or (len(due) >= share and age < interval):
                break
            due.append(member)
        return due

    async def _renew(self, members: list[tuple[str, str]]) -> bool:
        is_well = True
        for group, channel in members:
            if (group, channel) not in self._members:
                continue  # it has left meanwhile
            try:
                async with asyncio.timeout(TO_SEND):
                    await self._add(group, channel)
                    if (group, channel) not in self._members:  # in just this moment
                        await self._layer.group_discard(group, channel)
                        continue
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                log_failure(error)
                is_well = False
                if is_trouble(error):
                    break
            else:
                self._note(group, channel)
        return is_well


def is_of_one_message(error: Exception) -> bool:
    """Whether what ``receive()`` raised is about one message, which some other process has sent."""
    fernet: Any = sys.modules.get("cryptography.fernet")  # encrypts the messages of channels_redis
    kinds = (ValueError, TypeError, LookupError)
    return isinstance(error, kinds if fernet is None else (*kinds, fernet.InvalidToken))


_others: OnePerLoop[dict[int, _AnyLayer]] = OnePerLoop(dict)
_none = _AnyLayer(None)


def backplane(layer: Any) -> Backplane:
    """What the package uses of a channel layer; the same one at each call in an event loop.

    Args:
        layer: the layer; ``None`` has a :meth:`~Backplane.node` at least.
    """
    if layer is None:
        return _none
    if isinstance(layer, Backplane):
        return layer
    try:
        others = _others()
    except RuntimeError:  # no event loop is running: who calls wants no more than its attributes
        return _AnyLayer(layer)
    found = others.get(id(layer))  # it is held there, so that nobody else has its id
    if found is None:
        found = others[id(layer)] = _AnyLayer(layer)
    return found
