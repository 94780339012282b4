"""The channel layer itself, as the settings name it."""

import asyncio
import atexit
import functools
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

from panther_channels._process.loops import OnePerLoop
from panther_channels.layers.backplane import Backplane, Nodes, node_of, owner_of
from panther_channels.layers.local.channels import Channels
from panther_channels.layers.local.directory import Directory
from panther_channels.layers.local.frames import Kind, encode, pack, unpack
from panther_channels.layers.local.losses import Losses
from panther_channels.layers.local.node import Node
from panther_channels.layers.local.peers import Peers


class LocalChannelLayer(Backplane, BaseChannelLayer):  # type: ignore[misc] # has no types
    """Reaches every process of one host that has the same project and user.

    Works from any number of event loops and threads, after forks, and in processes that only send.
    Once a send returns, the message is with the kernel and outlives its sender. From one sender to
    one channel, messages keep their order.

    Args:
        directory: where the sockets lie; made with mode 0700 where it is missing. By default
            below ``/tmp``, with a name derived from ``BASE_DIR``.
        expiry: seconds after which a message that nobody has received is dropped.
        group_expiry: seconds after which a channel leaves its groups if nobody receives from it.
        capacity: how many messages may wait in a channel.
        channel_capacity: other capacities, by pattern of a channel's name, as Channels has them.

    Attributes:
        losses: what was dropped so far; ``losses.count`` is the number of messages.

    Raises:
        ImproperlyConfigured: there are no Unix sockets on this system, or the directory can't be
            used.
    """

    extensions = ("groups", "flush")
    longest_wait = 0.0  # nobody waits for a process that doesn't read

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
        self._directory = Directory(directory)
        self._nodes = OnePerLoop(self._new_node)
        _layers.add(self)
        _register_hooks()

    def node(self) -> str:
        """The name of this event loop: that of its socket, which is there from now on."""
        node = self._nodes()
        node.listen()
        return node.name

    async def nodes(self, group: str) -> Nodes:
        """The event loops that have sockets, one of whose processes may have been killed."""
        owner, names = node_of(group), self._nodes().names()
        return Nodes(frozenset(names if owner is None else names & {owner}))

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new name for a channel of this event loop."""
        return f"{prefix}.{self.node()}!{secrets.token_hex(8)}"

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
        elif not node.channels.put(channel, payload):
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

    def bound_channel(self, channel: str, limit: int, overflow: Callable[[], None]) -> None:
        """Call ``overflow()`` once when more bytes wait in a channel, and drop what comes then.

        Args:
            channel: a channel of this event loop.
            limit: bytes, which one message alone may exceed.
            overflow: called in this event loop, in the midst of a ``send()`` to the channel.
        """
        self._nodes().channels.bound(channel, limit, overflow)

    async def release(self, channel: str) -> None:
        """Forget a channel of this event loop, with its groups and what waits there."""
        self._nodes().channels.remove(channel)

    def listen(self, channel: str, call: Callable[[], None]) -> bool:
        """Call ``call()`` now if a message waits in a channel, and whenever one comes."""
        self._nodes().channels.listen(channel, call)
        return True

    def take(self, channel: str) -> dict[str, Any] | None:
        """The next message of a channel, if there is one."""
        payload = self._nodes().channels.take(channel)
        return None if payload is None else unpack(payload)

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

    async def flush(self) -> None:
        """Drop all messages and groups, in all processes."""
        node = self._nodes()
        node.channels.flush()
        await node.peers.broadcast(encode(Kind.FLUSH, ""))

    async def _change_membership(self, kind: Kind, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self._require_own_kind(channel)
        node = self._nodes()
        if (owner := owner_of(channel)) != node.name:
            await node.peers.post(owner, encode(kind, channel, group.encode()))
        elif kind is Kind.GROUP_ADD:
            node.channels.group_add(group, channel)
        else:
            node.channels.group_discard(group, channel)

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
        return Node(self._directory, channels, Peers(self._directory, self.losses))

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        node = self._nodes.pop(loop)
        if node is not None:
            node.close(loop)

    def _exit(self) -> None:
        for loop, node in self._nodes.pop_all():
            node.close(loop)

    def _forked(self) -> None:
        for _loop, node in self._nodes.pop_all():
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
