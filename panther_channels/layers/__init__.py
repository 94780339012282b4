"""Channel layers: how the processes of a project reach each other's connections."""

from typing import TYPE_CHECKING, Any

from panther_channels.layers.local import LocalChannelLayer

if TYPE_CHECKING:
    from panther_channels.layers.redis import RedisChannelLayer

__all__ = ["LocalChannelLayer", "RedisChannelLayer"]


def __getattr__(name: str) -> Any:
    # Not for all: it takes the time to import Redis.
    if name == "RedisChannelLayer":
        from panther_channels.layers.redis import RedisChannelLayer

        return RedisChannelLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
