"""daphne, mended: see :mod:`panther_channels.servers.daphne.protocol`."""

from panther_channels.servers.daphne.protocol import install

__all__ = ["install"]
