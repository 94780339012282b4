"""A channel layer for all processes of one host, over Unix sockets, without a broker.

Each event loop that has channels, a *node*, listens at a socket of its own in a directory that only
the user can enter. A sender finds them there. What is for one connection is written to the node
that its id names; what is for another group is written to each of them: who has members of it is
known only where they are, so that nothing has to be kept in agreement.
"""

from panther_channels.layers.local.layer import LocalChannelLayer, close_all

__all__ = ["LocalChannelLayer", "close_all"]
