"""How a connection ends: all close codes and reasons of ours, and what errors ask for."""

from typing import Any, NamedTuple, TypeGuard

from panther_channels import status
from panther_channels.exceptions import BaseError, ChannelLayerError, WebsocketError

_MAX_REASON = 123  # bytes: a control frame holds 125, the code takes two (RFC 6455 section 5.5)


class IllegalStateError(WebsocketError):
    """A method was called in a state in which it is not legal."""


class GoneError(IllegalStateError):
    """The client has gone, or somebody outside closed the connection: nobody's mistake."""


class Ending(NamedTuple):
    """How a connection ends: what an open one is closed with, and what a handshake is answered."""

    code: int = status.WS_1008_POLICY_VIOLATION
    reason: str = ""
    status: int = status.HTTP_403_FORBIDDEN
    detail: Any = "Permission Denied"


TOKEN_EXPIRED = Ending(reason="token expired")
TOO_MANY_CONNECTIONS = Ending(reason="too many connections")
USER_DEACTIVATED = Ending(reason="user deactivated")
USER_DELETED = Ending(reason="user deleted")
RESTART = Ending(status.WS_1012_SERVICE_RESTART, "service restart")
HOOK_OVERDUE = Ending(
    status.WS_1013_TRY_AGAIN_LATER,
    status=status.HTTP_503_SERVICE_UNAVAILABLE,
    detail="Service Unavailable",
)
SLOW_CLIENT = Ending(status.WS_1013_TRY_AGAIN_LATER, "slow consumer")
UNAVAILABLE = Ending(
    status.WS_1013_TRY_AGAIN_LATER,
    "try again later",
    status.HTTP_503_SERVICE_UNAVAILABLE,
    "Service Unavailable",
)


def is_refusal(error: BaseException) -> TypeGuard[BaseError]:
    """Whether an exception was raised on purpose, to refuse or to close."""
    return isinstance(error, BaseError) and not isinstance(error, IllegalStateError)


def ending_for(error: BaseException) -> Ending:
    """What an exception of a hook asks for: its own code and detail, or 1011."""
    if isinstance(error, ChannelLayerError):
        return UNAVAILABLE
    if not is_refusal(error) or not isinstance(error.status_code, int):
        return Ending(code=status.WS_1011_INTERNAL_ERROR)
    code = http = error.status_code
    if not status.is_sendable(code):
        is_clients = 400 <= code < 500
        code = status.WS_1008_POLICY_VIOLATION if is_clients else status.WS_1011_INTERNAL_ERROR
    if not 400 <= http < 500:
        http = status.HTTP_403_FORBIDDEN
    return Ending(code, shortened_detail(error.detail), http, error.detail)


def check_close(code: int, reason: str) -> None:
    """Refuse what can't stand in a close frame.

    Raises:
        ValueError: the code may not be sent (RFC 6455 section 7.4), or the reason is longer than
            123 bytes of UTF-8.
        TypeError: the code is no ``int``, or the reason no ``str``.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"A close code is an int, not {code!r}.")
    if not isinstance(reason, str):
        raise TypeError(f"A close reason is a str, not {reason!r}.")
    if not status.is_sendable(code):
        raise ValueError(
            f"{code} can't be sent as a close code: use 1000 to 1003, 1007 to 1014, or 3000 to "
            "4999, of which 4000 to 4999 are yours to choose."
        )
    if (size := len(reason.encode())) > _MAX_REASON:
        raise ValueError(f"A close reason has {_MAX_REASON} bytes of UTF-8 at most, not {size}.")


def too_large(limit: int) -> str:
    """The reason of a close for a message that is larger than ``WS_MAX_MESSAGE_SIZE``."""
    return f"a message has {limit} bytes at most"


def too_many_fragments(limit: int) -> str:
    """The reason of a close for a message of more fragments."""
    return f"a message has {limit} fragments at most"


def too_many_control_frames(count: int, seconds: float) -> str:
    """The reason of a close for a client that floods a server with pings and pongs."""
    return f"more than {count} pings and pongs in {seconds:g} s"


def shortened_detail(detail: Any) -> str:
    return str(detail).encode(errors="replace")[:_MAX_REASON].decode(errors="ignore")
