"""Channel layers: how the processes of a project reach each other's connections."""

from panther_channels.layers.local import LocalChannelLayer

__all__ = ["LocalChannelLayer"]
