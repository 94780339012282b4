"""The channel layer itself, as the settings name it."""

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Self
from weakref import WeakSet

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

from panther_channels._process.loops import OnePerLoop
from panther_channels._process.random_digits import random_digits
from panther_channels.layers.backplane import Backplane, Inbox, Nodes, node_of, owner_of
from panther_channels.layers.local.channels import Channels
from panther_channels.layers.local.directory import Directory
from panther_channels.layers.local.frames import Kind, encode, pack, unpack
from panther_channels.layers.local.losses import Losses
from panther_channels.layers.local.node import Node
from panther_channels.layers.local.peers import LAST_WAIT, Peers

_EXIT = LAST_WAIT + 1.0  # seconds for an event loop in another thread, which may be blocked


class LocalChannelLayer(Backplane, BaseChannelLayer):  # type: ignore[misc] # has no types
    """Reaches every process of one host that has the same project and user.

    Works from any number of event loops and threads, after forks, and in processes that only send.
    Once a send returns, the message is with the kernel and outlives its sender. From one sender to
    one channel, messages keep their order.

    Args:
        directory: where the sockets lie; made with mode 0700 where it is missing. By default
            below ``/tmp``, with a name derived from ``BASE_DIR``, and another one in each test run.
        expiry: seconds after which a message that nobody has received is dropped.
        group_expiry: seconds after which a channel leaves its groups if nobody receives from it.
        capacity: how many messages may wait in a channel.
        channel_capacity: other capacities, by pattern of a channel's name, as Channels has them.

    Attributes:
        losses: what was dropped so far; ``losses.count`` is the number of messages.
        on_listening: called with a layer in each event loop that begins to listen, and is known to
            all others from then on, be it for a plain consumer of Channels.

    Raises:
        ImproperlyConfigured: there are no Unix sockets on this system, or the directory can't be
            used.
    """

    extensions = ("groups", "flush")
    names_all = True
    ends_with_its_loop = True
    longest_wait = 0.0  # nobody waits for a process that doesn't read
    on_listening: ClassVar[Callable[[Self], object] | None] = None

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 10_000,
        channel_capacity: Mapping[Any, int] | None = None,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.group_expiry = group_expiry
        self.losses = Losses()
        self._path = directory
        Directory(directory)  # an error shows now
        self._nodes = OnePerLoop(self._new_node)
        _layers.add(self)
        _register_hooks()

    def node(self) -> str:
        """The name of this event loop: that of its socket, which is there from now on."""
        return self._listening().name

    def _listening(self) -> Node:
        node = self._nodes()
        is_new = not node.name
        node.listen()
        if is_new and LocalChannelLayer.on_listening is not None:
            LocalChannelLayer.on_listening(self)
        return node

    async def nodes(self, group: str) -> Nodes:
        """The event loops that have sockets, one of whose processes may have been killed."""
        owner, names = node_of(group), self._nodes().names()
        return Nodes(frozenset(names if owner is None else names & {owner}))

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new name for a channel of this event loop."""
        return f"{prefix}.{self.node()}!{random_digits()}"

    async def open_channel(self) -> Inbox:
        """A new channel, for the one who receives from it in this event loop."""
        node = self._listening()
        return node.channels.open(f"specific.{node.name}!{random_digits()}")

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel.

        Raises:
            ChannelFull: too many messages wait there. Of a channel of another process that isn't
                known here: there the message is dropped, and that is logged.
            TypeError: the name is none, or the message is no dict that msgpack can pack.
            ValueError: the message is too large, or an integer in it.
        """
        self._require_own_kind(channel)
        node, payload = self._nodes(), pack(message)
        if (owner := owner_of(channel)) != node.name:
            await node.peers.post(owner, encode(Kind.SEND, channel, payload))
        elif not node.channels.put(node.channels.channel(channel), payload):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel, as soon as there is one.

        Raises:
            ValueError: the channel belongs to another process or event loop.
            TypeError: the name is none.
        """
        node = self._nodes()
        if "!" not in channel or owner_of(channel) != node.name:
            self._require_own_kind(channel)
            raise ValueError(f"{channel!r} belongs to another process or event loop.")
        return unpack(await node.channels.receive(channel))

    async def group_add(self, group: str, channel: str) -> None:
        """Make a channel a member of a group; does nothing if it is one.

        Raises:
            ValueError: the group is that of a connection in another event loop.
            TypeError: a name is none.
        """
        owner = node_of(group) if isinstance(group, str) else None
        if owner is not None and owner != owner_of(channel):
            raise ValueError(
                f"{group!r} is the group of a connection, and {channel!r} is none of its process: "
                "give a group of your own another name."
            )
        await self._change_membership(Kind.GROUP_ADD, group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; does nothing if it isn't in it."""
        await self._change_membership(Kind.GROUP_DISCARD, group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all channels in a group.

        What a channel has no room for is dropped, and that is logged.

        Raises:
            TypeError: the name is none, or the message is no dict that msgpack can pack.
            ValueError: the message is too large, or an integer in it.
        """
        self.require_valid_group_name(group)
        await self._nodes().group_send(group, pack(message))

    async def send_to_node(self, group: str, message: dict[str, Any]) -> bool:
        """Send to a group that belongs to one event loop; whether that is there."""
        return await self._nodes().group_send(group, pack(message))

    async def send_here(self, channels: list[str], message: dict[str, Any]) -> list[str]:
        """Put a message into channels of this event loop; those that have no room for it."""
        found, payload = self._nodes().channels, pack(message)
        return [name for name in channels if not found.put(found.channel(name), payload)]

    async def group_send_many(self, messages: list[tuple[str, dict[str, Any]]]) -> None:
        """Send messages to groups; the same as one after the other."""
        for group, message in messages:
            await self.group_send(group, message)

    async def flush(self) -> None:
        """Drop all messages and groups, in all processes."""
        node = self._nodes()
        node.channels.flush()
        await node.peers.broadcast(encode(Kind.FLUSH, ""))

    async def _change_membership(self, kind: Kind, group: str, channel: str) -> None:
        if not isinstance(group, str) or node_of(group) is None:
            self.require_valid_group_name(group)
        self._require_own_kind(channel)
        node = self._nodes()
        if (owner := owner_of(channel)) != node.name:
            await node.peers.post(owner, encode(kind, channel, group.encode()))
        elif kind is Kind.GROUP_ADD:
            node.channels.join(group, node.channels.channel(channel))
        else:
            node.channels.discard(group, channel)

    def _require_own_kind(self, channel: str) -> None:
        self.require_valid_channel_name(channel)
        if "!" not in channel:
            raise ValueError(
                f"LocalChannelLayer has no channel {channel!r}, which any process could receive "
                "from: its channels are made by new_channel(). For `manage.py runworker` use "
                "channels_redis.core.RedisChannelLayer."
            )

    def _new_node(self) -> Node:
        loop = asyncio.get_running_loop()
        _call_before_close(loop, lambda: self._close(loop))
        channels = Channels(self.get_capacity, self.expiry, self.group_expiry, self.losses)
        directory = Directory(self._path)  # now: after a fork, this may be the worker of a test run
        return Node(directory, channels, Peers(directory, self.losses))

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        node = self._nodes.pop(loop)
        if node is not None:
            node.close(loop)

    def _exit(self) -> None:
        for loop in self._nodes.loops():
            if loop.is_running():  # in a thread, of `sync` or `runserver`
                self._close_there(loop)
            else:
                self._close(loop)

    def _close_there(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the loop's own thread: two threads would close the same sockets at once."""
        is_closed = threading.Event()

        def close() -> None:
            self._close(loop)
            is_closed.set()

        with suppress(RuntimeError):  # the loop has ended just now, and closed what it had
            loop.call_soon_threadsafe(close)
            is_closed.wait(_EXIT)

    def _forked(self) -> None:
        for loop in self._nodes.loops():
            if (node := self._nodes.pop(loop)) is not None:
                node.abandon()


def _call_before_close(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    # The one moment that every kind of event loop has, after its tasks have ended.
    close = loop.close

    def call_and_close() -> None:
        call()
        close()

    loop.close = call_and_close  # type: ignore[method-assign]


_layers: WeakSet[LocalChannelLayer] = WeakSet()


def close_all(loop: asyncio.AbstractEventLoop) -> None:
    """Close what an event loop has of all local layers; whoever needs one again gets a new one."""
    _for_all(lambda layer: layer._close(loop))  # noqa: SLF001


def _for_all(call: Callable[[LocalChannelLayer], None]) -> None:
    for layer in list(_layers):
        call(layer)


@functools.cache  # once, with the first layer
def _register_hooks() -> None:
    # daphne, and whoever ends without closing its event loop.
    atexit.register(_for_all, LocalChannelLayer._exit)  # noqa: SLF001
    os.register_at_fork(after_in_child=lambda: _for_all(LocalChannelLayer._forked))  # noqa: SLF001
