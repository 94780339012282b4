"""The states of a connection, and the errors that end it."""

import enum

from panther_channels import status
from panther_channels.exceptions import BaseError, WebsocketError


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


def verdict(error: BaseException, state: State) -> tuple[int, str, bool]:
    """What an exception of a hook does to its connection.

    Returns:
        The close code, the close reason, and whether it was meant: a ``BaseError`` that refuses
        the handshake, or closes with a code other than 1011. All else is an error of the server.
    """
    if not isinstance(error, BaseError) or isinstance(error, IllegalStateError):
        return status.WS_1011_INTERNAL_ERROR, "", False
    code = error.status_code
    if not isinstance(code, int) or not status.is_sendable(code):
        code = status.WS_1011_INTERNAL_ERROR
    reason = str(error).encode(errors="replace")[:123].decode(errors="ignore")
    closes = state is State.OPEN and code != status.WS_1011_INTERNAL_ERROR
    return code, reason, closes or state in {State.CONNECTING, State.REJECTED}
