"""What one event loop has of the layer: its channels, its groups and its connections to Redis."""

import logging
import secrets
from collections.abc import Callable
from typing import Any

from channels.layers import BaseChannelLayer
from channels_redis.utils import _consistent_hash

from panther_channels._process.random_digits import random_digits
from panther_channels.layers.backplane import EVERYBODY, group_of_connection, node_of, owner_of
from panther_channels.layers.mailbox import Mailbox
from panther_channels.layers.redis.frames import pack, unpack
from panther_channels.layers.redis.shard import Shard

logger = logging.getLogger("panther_channels")

_names = BaseChannelLayer()  # knows which names are valid


class Channel(Mailbox):
    """One of a node, in which everything may wait, as in channels_redis."""

    __slots__ = ("_node",)

    def __init__(self, name: str, node: "Node") -> None:
        super().__init__(name)
        self._node = node

    async def join(self, group: str) -> None:
        """Become a member of a group; should Redis fail, when it is back."""
        await self._node.join(group, self)

    async def join_as(self, connection_id: str) -> None:
        """Be the one that a connection is reached by."""
        self._node.connections.pop(self.connection, None)  # of an accept() that failed
        self.connection = group_of_connection(connection_id)
        self._node.connections[self.connection] = self
        await self._node.hear_what_is_for_everybody()

    async def leave(self, group: str) -> None:
        """Leave a group, which needs no Redis."""
        self._node.leave(group, self)

    async def leave_all(self) -> None:
        """Leave all groups."""
        self._node.connections.pop(self.connection, None)
        for group in [*self.groups]:
            self._node.leave(group, self)

    def take(self) -> dict[str, Any] | None:
        """The next message, if there is one."""
        payload = self.next()
        return None if payload is None else self._node.unpack(payload)

    async def release(self) -> None:
        """Be forgotten."""
        self._node.release(self)


class Node:
    """An event loop, which Redis knows by the one channel that it has subscribed to.

    Over it comes what is for one channel, or for the group of one connection. What is for other
    groups comes over channels of theirs.

    Args:
        hosts: as `create_pool()` of channels_redis takes them.
        prefix: begins all names in Redis.
        unpack: makes a message of its payload.

    Attributes:
        name: eight hexadecimal digits, which stand in the names of its channels and connections.
        channels: by their names.
        groups: the channels that are members of a group here, by what its messages are addressed
            to.
        connections: the channels by which connections are reached, by the groups of those.
        unpack: makes a message of its payload.
    """

    def __init__(
        self, hosts: list[dict[str, Any]], prefix: str, unpack: Callable[[bytes], dict[str, Any]]
    ) -> None:
        self.name = secrets.token_hex(4)
        self.unpack = unpack
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, dict[Channel, None]] = {}
        self.connections: dict[str, Channel] = {}
        self._prefix = prefix
        self._home = self._address_of(self.name)
        self._everybody = self._address_of_group(EVERYBODY)
        self._shards = [Shard(host, prefix, self._home, self._deliver) for host in hosts]
        self._shared = f"{prefix}__channel__"  # channels of all processes

    async def new_channel(self, prefix: str) -> Channel:
        """A new channel."""
        await self._be_reachable()
        return self._channel(f"{prefix}.{self.name}!{random_digits()}")

    async def send(self, channel: str, payload: bytes) -> None:
        """Send to a channel of whatever process."""
        if "!" in channel:
            await self._post(owner_of(channel), channel, payload)
        else:
            await self._publish(self._shared + channel, payload)

    async def receive(self, channel: str) -> bytes:
        """What waits in a channel first."""
        found = self.channels.get(channel)
        if found is None or found.is_closed:
            await self._open(channel)
            found = self.channels.get(channel) or self._channel(channel)
            found.reopen()
        try:
            return await found.get()
        except BaseException:
            # Channels has no other way to say that a channel is no longer needed.
            if not found.is_awaited:
                self.release(found)
            raise

    def release(self, channel: Channel) -> None:
        """Forget a channel; one in groups is in them when somebody receives from it again."""
        if self.channels.get(channel.name) is channel:
            channel.close()
            if "!" not in channel.name:
                address = self._shared + channel.name
                self._shard(address).unsubscribe(address)
            self._forget(channel)

    async def group_add(self, group: str, channel: str) -> None:
        """Make one of the channels here a member of a group."""
        if channel not in self.channels:
            _names.require_valid_channel_name(channel)
            raise ValueError(f"{channel!r} is no channel of this process and event loop.")
        if not isinstance(group, str) or node_of(group) is None:
            _names.require_valid_group_name(group)
        await self.join(group, self.channels[channel])

    async def join(self, group: str, channel: Channel) -> None:
        """The same of a name that is valid."""
        owner = node_of(group)
        if owner is None:
            address = self._address_of_group(group)
            self._enter(address, group, channel)
            await self._shard(address).subscribe(address)
        elif owner == self.name:
            self._enter(group, group, channel)
            await self._be_reachable()
        else:
            raise ValueError(f"{group!r} belongs to another process or event loop.")

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        if not isinstance(group, str) or node_of(group) is None:
            _names.require_valid_group_name(group)
        if (found := self.channels.get(channel)) is None:
            _names.require_valid_channel_name(channel)
        else:
            self.leave(group, found)
            self._forget(found)

    def leave(self, group: str, channel: Channel) -> None:
        """The same of a channel that there is, and a name that is valid."""
        address = group if node_of(group) is not None else self._address_of_group(group)
        members = self.groups.get(address, {})
        channel.groups.pop(group, None)
        if channel in members:
            del members[channel]
            if not members:
                del self.groups[address]
                if address is not group and address != self._everybody:
                    self._shard(address).unsubscribe(address)

    async def hear_what_is_for_everybody(self) -> None:
        """Subscribe to it, for as long as there is the event loop: connections come and go."""
        await self._shard(self._everybody).subscribe(self._everybody)

    async def group_send(self, group: str, payload: bytes) -> None:
        """Send to all members of a group, in whatever process."""
        await self._publish(*self._addressed(group, payload))

    async def send_to_node(self, group: str, payload: bytes) -> bool:
        """Send to a group that belongs to one event loop; whether that has got it."""
        address, message = self._addressed(group, payload)
        return await self._shard(address).publish_to_one(address, message)

    async def group_send_many(self, messages: list[tuple[str, bytes]]) -> None:
        """Send to the members of many groups."""
        by_shard: dict[Shard, list[tuple[str, bytes]]] = {}
        for group, payload in messages:
            addressed = self._addressed(group, payload)
            by_shard.setdefault(self._shard(addressed[0]), []).append(addressed)
        for shard, addressed_to_it in by_shard.items():
            await shard.publish_many(addressed_to_it)

    async def subscribers(self, group: str) -> int:
        """How many event loops have members of a group; of that of a connection, one or none."""
        owner = node_of(group)
        address = self._address_of_group(group) if owner is None else self._address_of(owner)
        return await self._shard(address).subscribers(address)

    async def nodes(self) -> frozenset[str]:
        """The event loops that have subscribed to the one channel of theirs."""
        beginning = self._address_of("")
        found = [each for shard in self._shards for each in await shard.channels(beginning)]
        return frozenset(each.removeprefix(beginning) for each in found)

    async def flush(self) -> None:
        """Forget all channels and groups, and close the connections."""
        self.channels, self.groups, self.connections = {}, {}, {}
        for shard in self._shards:
            await shard.flush()

    async def _be_reachable(self) -> None:
        shard = self._shard(self._home)
        if not shard.is_at_home:
            await shard.subscribe(self._home)

    async def _open(self, channel: str) -> None:
        if "!" not in channel:
            await self._shard(self._shared + channel).subscribe(self._shared + channel)
        elif owner_of(channel) == self.name:  # as it is after flush()
            await self._be_reachable()
        else:
            raise ValueError(f"{channel!r} belongs to another process or event loop.")

    def _addressed(self, group: str, payload: bytes) -> tuple[str, bytes]:
        if (owner := node_of(group)) is None:
            return self._address_of_group(group), payload
        return self._address_of(owner), pack(group, payload)

    async def _post(self, node: str, name: str, payload: bytes) -> None:
        await self._publish(self._address_of(node), pack(name, payload))

    async def _publish(self, address: str, message: bytes) -> None:
        await self._shard(address).publish(address, message)

    def _deliver(self, address: str, message: bytes) -> None:
        name = address
        if address == self._home:
            try:
                name, message = unpack(message)
            except ValueError as error:  # a stranger's
                logger.warning("A message of the channel layer can't be read: %r", error)
                return
        elif address.startswith(self._shared):
            name = address.removeprefix(self._shared)
        found = self.channels.get(name) or self.connections.get(name)
        if found is not None:
            found.put(message)
        # Lists, since eager tasks may change it.
        for channel in [*self.groups.get(name, ())]:
            channel.put(message)
        if address == self._everybody:
            for channel in [*self.connections.values()]:
                channel.put(message)

    def _channel(self, name: str) -> Channel:
        channel = self.channels[name] = Channel(name, self)
        return channel

    def _enter(self, address: str, group: str, channel: Channel) -> None:
        self.groups.setdefault(address, {})[channel] = None
        channel.groups[group] = None

    def _forget(self, channel: Channel) -> None:
        if channel.is_closed and not channel.groups:
            self.channels.pop(channel.name, None)

    def _shard(self, address: str) -> Shard:
        shards = self._shards
        return shards[0] if len(shards) == 1 else shards[_consistent_hash(address, len(shards))]

    def _address_of(self, node: str) -> str:
        return f"{self._prefix}__node__{node}"

    def _address_of_group(self, group: str) -> str:
        return f"{self._prefix}__group__{group}"
