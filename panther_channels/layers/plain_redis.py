"""The layers of channels_redis as they are: which a project has, for the system checks."""

from typing import Any


def kind_of(layer: Any) -> str:
    """``"core"`` or ``"pubsub"`` for what is or derives from a class of channels_redis, or ``""``.

    Args:
        layer: a class of channel layers.
    """
    # By name: who has no such layer need not have channels_redis.
    modules = {base.__module__ for base in layer.__mro__}
    if "panther_channels.layers.redis.layer" in modules:
        return ""
    return next((kind for kind in ("core", "pubsub") if f"channels_redis.{kind}" in modules), "")


def hasty_hosts(core: Any) -> list[int]:
    """The hosts whose ``socket_timeout`` is not above the time that ``receive()`` waits.

    redis-py 8 has a default of 5 s where none is set, which is just as long.

    Args:
        core: a ``channels_redis.core.RedisChannelLayer``.
    """
    found = []
    for index in range(core.ring_size):
        timeout = core.create_pool(index).connection_kwargs.get("socket_timeout", 0)
        if timeout is not None and timeout <= core.brpop_timeout:
            found.append(index)
    return found
