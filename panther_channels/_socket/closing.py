"""How a connection ends: all close codes and reasons of ours, and what errors ask for."""

import json
import sys
from typing import Any, NamedTuple, TypeGuard

from channels.exceptions import DenyConnection
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404

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
SESSION_ENDED = Ending(reason="session ended")
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


def is_refusal(error: BaseException) -> bool:
    """Whether an exception was raised on purpose, to refuse or to close."""
    return _is_ours(error) or _of_http(error) is not None


def ending_for(error: BaseException) -> Ending:
    """What an exception of a hook asks for: its own code and detail, or 1011."""
    if isinstance(error, ChannelLayerError):
        return UNAVAILABLE
    if _is_ours(error) and isinstance(error.status_code, int):
        code = http = error.status_code
        if not status.is_sendable(code):
            code = _close_code(code)
        if not 400 <= http < 500:
            http = status.HTTP_403_FORBIDDEN
        return Ending(code, shortened_detail(error.detail), http, error.detail)
    if (known := _of_http(error)) is not None:
        http, detail = known
        return Ending(_close_code(http), shortened_detail(detail), http, detail)
    return Ending(code=status.WS_1011_INTERNAL_ERROR)


def _is_ours(error: BaseException) -> TypeGuard[BaseError]:
    return isinstance(error, BaseError) and not isinstance(error, IllegalStateError)


def _close_code(http: int) -> int:
    is_clients = 400 <= http < 500
    return status.WS_1008_POLICY_VIOLATION if is_clients else status.WS_1011_INTERNAL_ERROR


def _of_http(error: BaseException) -> tuple[int, Any] | None:
    """The status and the detail of what a view may raise, as Django answers it.

    What such an exception says is for the log, and not for strangers.
    """
    if isinstance(error, Http404):
        # In the DEBUG page, Django shows it, too; that of a resolver is no text.
        is_shown = settings.DEBUG and error.args and isinstance(error.args[0], str)
        return status.HTTP_404_NOT_FOUND, error.args[0] if is_shown else "Not Found"
    if isinstance(error, PermissionDenied | DenyConnection):
        return status.HTTP_403_FORBIDDEN, "Permission Denied"
    if isinstance(error, BadRequest | SuspiciousOperation):
        return status.HTTP_400_BAD_REQUEST, "Bad Request"
    # Of Django REST framework, which a project need not have: then nothing can be one of its own.
    kind: Any = getattr(sys.modules.get("rest_framework.exceptions"), "APIException", ())
    raised: Any = error
    if isinstance(raised, kind):
        http, detail = raised.status_code, raised.detail
        if isinstance(http, int) and 400 <= http < 600:
            return http, detail.get("detail", detail) if isinstance(detail, dict) else detail
    return None


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
    """A detail as a close reason, cut off where it is long."""
    is_text = not isinstance(detail, dict | list | tuple)
    text = str(detail) if is_text else json.dumps(detail, default=str, ensure_ascii=False)
    return text.encode(errors="replace")[:_MAX_REASON].decode(errors="ignore")
