"""The channel layer itself, of which each event loop has a node."""

import asyncio
from typing import Any

from channels.layers import BaseChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from channels_redis.utils import _wrap_close, create_pool, decode_hosts

from panther_channels.layers.backplane import Backplane, Inbox, Nodes
from panther_channels.layers.redis.node import Node

_OF_CORE = {"capacity", "channel_capacity", "expiry", "group_expiry"}
_names = BaseChannelLayer()  # knows which names are valid


class RedisChannelLayer(Backplane, RedisPubSubChannelLayer):  # type: ignore[misc] # has no types
    """Reaches every process that has the same Redis and prefix.

    It takes the ``CONFIG`` of ``channels_redis.pubsub.RedisPubSubChannelLayer``, and has its own
    connections to Redis: messages keep their order, an outage of Redis is told to who sends and
    loses nothing else, and a connection of a client costs Redis nothing.

    Args:
        hosts: Redis servers, which share the work; as channels_redis has them.
        prefix: begins all names in Redis. By default it has the numbers of the databases in it,
            of which pub/sub knows nothing: projects that share a Redis server and a number need
            prefixes of their own.
        symmetric_encryption_keys: keys of which the first one encrypts all messages.
        serializer_format: how messages are packed, ``"msgpack"`` or ``"json"``.
        others: what ``channels_redis.core`` has besides, and is ignored.

    Raises:
        TypeError: there is no such option.
    """

    extensions = ("groups", "flush")
    ends_with_its_loop = True
    longest_wait = 5.0
    #: Bytes. Redis cuts a process off from all messages when too much waits for it.
    largest_message = 1024 * 1024

    def __init__(
        self,
        hosts: Any = None,
        prefix: str | None = None,
        symmetric_encryption_keys: Any = None,
        serializer_format: str = "msgpack",
        **others: Any,
    ) -> None:
        if unknown := others.keys() - _OF_CORE:  # a mistyped prefix would let projects meet
            raise TypeError(f"RedisChannelLayer has no {', '.join(sorted(unknown))}")
        super().__init__(
            symmetric_encryption_keys=symmetric_encryption_keys, serializer_format=serializer_format
        )
        self.hosts: list[dict[str, Any]] = decode_hosts(hosts)
        self.prefix = _default_prefix(self.hosts) if prefix is None else prefix

    def node(self) -> str:
        """Eight hexadecimal digits that name the running event loop."""
        return self._get_layer().name

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new name for a channel of this event loop.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        return (await self._get_layer().new_channel(prefix)).name

    async def open_channel(self) -> Inbox:
        """A new channel, for the one who receives from it in this event loop.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        return await self._get_layer().new_channel("specific")

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel.

        Raises:
            TypeError: the name is none, or the message is no dict that can be packed.
            redis.exceptions.RedisError: Redis failed.
        """
        _names.require_valid_channel_name(channel)
        await self._get_layer().send(channel, self._packed(message))

    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel, which is forgotten when this call is cancelled.

        A channel whose name has no ``!`` in it is one of all processes, each of which gets all
        that is sent while it receives.

        Raises:
            ValueError: the channel belongs to another process or event loop, or the message can't
                be read.
            TypeError: the name is none.
        """
        node = self._get_layer()
        if channel not in node.channels:
            _names.require_valid_channel_name(channel)
        message: dict[str, Any] = self.deserialize(await node.receive(channel))
        return message

    async def group_add(self, group: str, channel: str) -> None:
        """Make a channel of this event loop a member of a group; does nothing if it is one.

        Raises:
            TypeError: a name is none.
            ValueError: the channel belongs to another process or event loop, or the group to a
                connection that does.
            redis.exceptions.RedisError: Redis failed. The channel becomes a member when it is back.
        """
        await self._get_layer().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; does nothing if it isn't in it, and needs no Redis."""
        self._get_layer().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all channels in a group.

        Raises:
            TypeError: the name is none, or the message is no dict that can be packed.
            redis.exceptions.RedisError: Redis failed.
        """
        _names.require_valid_group_name(group)
        await self._get_layer().group_send(group, self._packed(message))

    async def send_to_node(self, group: str, message: dict[str, Any]) -> bool:
        """Send to a group that belongs to one event loop; whether that is there.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        return await self._get_layer().send_to_node(group, self._packed(message))

    async def send_here(self, channels: list[str], message: dict[str, Any]) -> list[str]:
        """Put a message into channels of this event loop; all have room for it."""
        found, packed = self._get_layer().channels, self._packed(message)
        for channel in channels:
            if (mailbox := found.get(channel)) is not None:
                mailbox.put(packed)
        return []

    async def group_send_many(self, messages: list[tuple[str, dict[str, Any]]]) -> None:
        """Send messages to groups, and wait for Redis only after many of them.

        Raises:
            TypeError: a name is none, or a message is no dict that can be packed.
            redis.exceptions.RedisError: Redis failed.
        """
        packed = []
        for group, message in messages:
            _names.require_valid_group_name(group)
            packed.append((group, self._packed(message)))
        await self._get_layer().group_send_many(packed)

    async def nodes(self, group: str) -> Nodes:
        """How many event loops have members of a group, of which Redis knows no names.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        return Nodes(number=await self._get_layer().subscribers(group))

    async def all_nodes(self) -> frozenset[str]:
        """The event loops that Redis has subscriptions of.

        Raises:
            redis.exceptions.RedisError: Redis failed.
        """
        return await self._get_layer().nodes()

    async def flush(self) -> None:
        """Forget all channels and groups of this event loop, and close its connections."""
        await self._get_layer().flush()

    def _packed(self, message: dict[str, Any]) -> bytes:
        if not isinstance(message, dict):
            raise TypeError(f"A message is a dict, not {message!r}.")
        packed: bytes = self.serialize(message)
        return packed

    def _get_layer(self) -> Node:
        loop = asyncio.get_running_loop()
        node: Node | None = self._layers.get(loop)
        if node is None:
            node = self._layers[loop] = Node(self.hosts, self.prefix, self.deserialize)
            _wrap_close(self, loop)
        return node


def _default_prefix(hosts: list[dict[str, Any]]) -> str:
    numbers = [create_pool(host).connection_kwargs.get("db") or 0 for host in hosts]
    return f"asgi.{'.'.join(map(str, dict.fromkeys(numbers)))}"
