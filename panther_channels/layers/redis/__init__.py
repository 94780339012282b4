"""A channel layer for any number of hosts, over Redis pub/sub."""

from panther_channels.layers.redis.layer import RedisChannelLayer

__all__ = ["RedisChannelLayer"]
