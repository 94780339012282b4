"""The exceptions of this package.

::

    PantherChannelsError
    ├── ChannelLayerError
    ├── ConnectionNotFoundError
    ├── DeliveryTimeoutError
    └── BaseError
        ├── WebsocketError
        ├── AuthenticationAPIError
        ├── AuthorizationAPIError
        ├── ThrottlingAPIError
        └── InvalidPathVariableAPIError

Errors in settings and URLs are Django's own :exc:`~django.core.exceptions.ImproperlyConfigured`;
bad arguments are :exc:`ValueError` or :exc:`TypeError`.
"""

from collections.abc import Iterable
from typing import Any

from panther_channels import status


class PantherChannelsError(Exception):
    """The base of everything that this package raises itself."""


class ChannelLayerError(PantherChannelsError):
    """The channel layer failed, or gave no answer in time; the cause is its own exception.

    Out of an outside send, it leaves open whether the message arrived. Out of a hook, it refuses
    the handshake with 503, or closes the connection with 1013.
    """

    def __str__(self) -> str:
        return f"The channel layer failed: {str(self.args[0]).rstrip('.')}."


class ConnectionNotFoundError(PantherChannelsError):
    """No open connection has the id that was asked for."""

    def __init__(self, connection_id: str) -> None:
        super().__init__(connection_id)
        self.connection_id = connection_id

    def __str__(self) -> str:
        return f"No open connection has the id {self.connection_id!r}."


class DeliveryTimeoutError(PantherChannelsError):
    """Not all whom it concerns have confirmed in time.

    Who didn't may have got the message nevertheless, or get it yet.

    Attributes:
        within: the seconds that they had.
        delivered: how many connections took it.
        waiting: how many are known to have been handed it, and didn't take it yet.
        missing: the processes that gave no answer, each by the eight digits with which the ids of
            its connections begin; "?" for one of which no more is known than that it is there.
    """

    def __init__(
        self, within: float, delivered: int = 0, waiting: int = 0, missing: Iterable[str] = ()
    ) -> None:
        self.within, self.delivered, self.waiting = within, delivered, waiting
        self.missing = tuple(missing)
        super().__init__(within, delivered, waiting, self.missing)

    def __str__(self) -> str:
        told = []
        if self.delivered or self.waiting or not self.missing:
            plural = "" if self.delivered == 1 else "s"
            told.append(f"{self.delivered} connection{plural} took it")
        if self.waiting:
            told.append(f"{self.waiting} {'has' if self.waiting == 1 else 'have'} yet to")
        if self.missing:
            silent = ("an unnamed process" if each == "?" else each for each in self.missing)
            told.append(f"{'and ' if told else ''}no answer came from {', '.join(silent)}")
        return f"Within {self.within:g} s, {', '.join(told)}."


class BaseError(PantherChannelsError):
    """A refusal with a detail for the client and a status code (Panther's ``BaseError``).

    Raised by an authentication, a permission, a middleware or ``connect()`` before the connection
    is accepted, it refuses the handshake. Raised later by a hook, it closes the connection: with
    its own code and detail where the code may be sent in a close frame, else with 1011.

    Args:
        detail: what is wrong; the class's own ``detail`` by default.
        status_code: an HTTP status or a WebSocket close code; the class's own by default.
    """

    detail: Any = "Internal Server Error"
    status_code: int = status.HTTP_500_INTERNAL_SERVER_ERROR

    def __init__(self, detail: Any = None, status_code: int | None = None) -> None:
        super().__init__(detail, status_code)
        if detail is not None:
            self.detail = detail
        if status_code is not None:
            self.status_code = status_code

    def __str__(self) -> str:
        return str(self.detail)


class WebsocketError(BaseError):
    """The connection is not in a state for this, or a hook wants it closed with a code (1011)."""

    detail = "Internal Error"
    status_code = status.WS_1011_INTERNAL_ERROR


class AuthenticationAPIError(BaseError):
    """The credentials are bad (401)."""

    detail = "Authentication Error"
    status_code = status.HTTP_401_UNAUTHORIZED


class AuthorizationAPIError(BaseError):
    """The user may not do this (403)."""

    detail = "Permission Denied"
    status_code = status.HTTP_403_FORBIDDEN


class ThrottlingAPIError(BaseError):
    """The client does too much (429): too many messages, or too many connections."""

    detail = "Too Many Request"
    status_code = status.HTTP_429_TOO_MANY_REQUESTS


class InvalidPathVariableAPIError(BaseError):
    """A part of the path does not fit the annotation of the parameter that takes it (400)."""

    status_code = status.HTTP_400_BAD_REQUEST

    def __init__(self, value: str, variable_type: Any) -> None:
        name = getattr(variable_type, "__name__", None) or str(variable_type)
        super().__init__(f"Path variable `{value}` is not `{name}`")
