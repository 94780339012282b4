"""What one event loop has of the layer: its channels, its groups and its connections to Redis."""

import logging
import secrets
from typing import Any

from channels_redis.utils import _consistent_hash

from panther_channels.layers.backplane import node_of, owner_of
from panther_channels.layers.redis.frames import pack, unpack
from panther_channels.layers.redis.queue import Queue
from panther_channels.layers.redis.shard import Shard

logger = logging.getLogger("panther_channels")


class Node:
    """An event loop, which Redis knows by the one channel that it has subscribed to.

    Over it comes what is for one channel, or for the group of one connection. What is for other
    groups comes over channels of theirs.

    Args:
        hosts: as `create_pool()` of channels_redis takes them.
        prefix: begins all names in Redis.

    Attributes:
        name: eight hexadecimal digits, which stand in the names of its channels and connections.
        channels: by name, the queues of what waits for each.
        groups: the channels that are members of a group here, by what its messages are addressed
            to.
    """

    def __init__(self, hosts: list[dict[str, Any]], prefix: str) -> None:
        self.name = secrets.token_hex(4)
        self.channels: dict[str, Queue] = {}
        self.groups: dict[str, dict[str, None]] = {}
        self._prefix = prefix
        self._home = self._address_of(self.name)
        self._shards = [Shard(host, prefix, self._home, self._deliver) for host in hosts]
        self._shared = f"{prefix}__channel__"  # channels of all processes

    async def new_channel(self, prefix: str) -> str:
        """A new channel."""
        await self._be_reachable()
        name = f"{prefix}.{self.name}!{secrets.token_hex(8)}"
        self.channels[name] = Queue()
        return name

    async def send(self, channel: str, payload: bytes) -> None:
        """Send to a channel of whatever process."""
        if "!" in channel:
            await self._post(owner_of(channel), channel, payload)
        else:
            await self._publish(self._shared + channel, payload)

    async def receive(self, channel: str) -> bytes:
        """What waits in a channel first."""
        queue = self.channels.get(channel)
        if queue is None:
            await self._open(channel)
            queue = self.channels.setdefault(channel, Queue())
        try:
            return await queue.get()
        except BaseException:
            # Channels has no other way to say that a channel is no longer needed.
            if self.channels.get(channel) is queue and not queue.is_awaited:
                self.release(channel)
            raise

    def release(self, channel: str) -> None:
        """Forget a channel."""
        if self.channels.pop(channel, None) is not None and "!" not in channel:
            self._shard(self._shared + channel).unsubscribe(self._shared + channel)

    async def group_add(self, group: str, channel: str) -> None:
        """Make one of the channels here a member of a group."""
        if channel not in self.channels:
            raise ValueError(f"{channel!r} is no channel of this process and event loop.")
        owner = node_of(group)
        if owner is None:
            address = self._address_of_group(group)
            self.groups.setdefault(address, {})[channel] = None
            await self._shard(address).subscribe(address)
        elif owner == self.name:
            self.groups.setdefault(group, {})[channel] = None
            await self._be_reachable()
        else:
            raise ValueError(f"{group!r} belongs to another process or event loop.")

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        address = group if node_of(group) else self._address_of_group(group)
        members = self.groups.get(address, {})
        if channel in members:
            del members[channel]
            if not members:
                del self.groups[address]
                if address is not group:
                    self._shard(address).unsubscribe(address)

    async def group_send(self, group: str, payload: bytes) -> None:
        """Send to all members of a group, in whatever process."""
        if (owner := node_of(group)) is None:
            await self._publish(self._address_of_group(group), payload)
        else:
            await self._post(owner, group, payload)

    async def subscribers(self, group: str) -> int:
        """How many event loops have members of a group; of that of a connection, one or none."""
        owner = node_of(group)
        address = self._address_of_group(group) if owner is None else self._address_of(owner)
        return await self._shard(address).subscribers(address)

    async def flush(self) -> None:
        """Forget all channels and groups, and close the connections."""
        self.channels, self.groups = {}, {}
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
        queue = self.channels.get(name)
        if queue is not None:
            queue.put(message)
        for channel in list(self.groups.get(name, ())):  # eager tasks may change it
            if (queue := self.channels.get(channel)) is not None:
                queue.put(message)

    def _shard(self, address: str) -> Shard:
        index: int = _consistent_hash(address, len(self._shards))
        return self._shards[index]

    def _address_of(self, node: str) -> str:
        return f"{self._prefix}__node__{node}"

    def _address_of_group(self, group: str) -> str:
        return f"{self._prefix}__group__{group}"
