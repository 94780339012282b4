"""The states of a connection, and the errors of a call in the wrong one."""

import enum

from panther_channels.exceptions import WebsocketError


class State(enum.Enum):
    """The states of a connection, with Panther's words for them."""

    CONNECTING = "Connected"
    OPEN = "Accepted"
    CLOSED = "Closed"
    REJECTED = "Rejected"


OPEN = State.OPEN  # read for every message; a global is faster than an attribute of an enum


class IllegalStateError(WebsocketError):
    """A method was called in a state in which it is not legal."""


class GoneError(IllegalStateError):
    """The client has gone, or somebody outside closed the connection: nobody's mistake."""
