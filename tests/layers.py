"""The channel layers that projects have, for tests of layers and of those who send over one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import channels_redis.core
import channels_redis.pubsub
from channels.layers import channel_layers

from panther_channels.layers import RedisChannelLayer

# redis-py's default of 5 s is as long as core waits for a message.
_PATIENT = {"socket_timeout": None}


def redis_layer(kind: str, url: str, **config: Any) -> Any:
    """A layer over Redis: ours ("redis"), or one of channels_redis ("pubsub", "core")."""
    if kind == "core":
        return channels_redis.core.RedisChannelLayer([{"address": url, **_PATIENT}], **config)
    plain = channels_redis.pubsub.RedisPubSubChannelLayer
    return (RedisChannelLayer if kind == "redis" else plain)(hosts=[url], **config)


async def close_layer(layer: Any) -> None:
    """Close what a layer has open in this event loop."""
    if isinstance(layer, channels_redis.core.RedisChannelLayer):
        await layer.close_pools()
    else:
        await layer.flush()


def shard_of(layer: RedisChannelLayer) -> Any:
    """The connections of this event loop to the one Redis of a layer."""
    return layer._get_layer()._shards[0]


def of_connection(layer: Any, number: int = 0) -> str:
    """The group of a connection that is in this event loop."""
    return f"connection.{layer.node()}{number:024}"


async def member(layer: Any, *groups: str) -> str:
    """A new channel in groups, or in "room"."""
    channel: str = await layer.new_channel()
    for group in groups or ("room",):
        await layer.group_add(group, channel)
    return channel


@contextmanager
def default_layer(layer: Any) -> Iterator[None]:
    """Makes a layer the default one; afterwards it is as it was before, even if there was none."""
    before = channel_layers.backends.pop("default", None)
    channel_layers.backends["default"] = layer
    try:
        yield
    finally:
        del channel_layers.backends["default"]
        if before is not None:
            channel_layers.backends["default"] = before
