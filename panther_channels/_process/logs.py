"""Keeps credentials out of the log: masks them in the lines of others.

uvicorn writes the query of every request and every WebSocket, others that of requests; at its level
DEBUG uvicorn has the headers and frames of WebSockets, too. A filter on
their loggers changes the record before any handler sees it. daphne's access log is no logger:
``servers/daphne.py`` masks its lines.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

_MASK = "***"
_PARAMETERS = frozenset({"authorization", "access_token", "token"})
_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "sec-websocket-protocol"}
)
_LOGGERS = (
    "uvicorn.error",  # WebSockets
    "uvicorn.access",
    "uvicorn.asgi",  # prints the scope at --log-level trace
    "daphne.server",  # prints what Twisted and autobahn log, from -v 2 on
    "django.server",  # runserver where daphne is not installed
)
# A value goes on to one of these; a "?" or a "=" may be a part of it.
_SEPARATORS = re.compile(r"([&\s])", re.ASCII)
# What may stand before a name, or after a value, where a query is quoted in a sentence.
_OPENING = re.compile(r"[?\"'(\[{<,;]")
_CLOSING = "\"')]}>,;"

# Which the websockets library writes at level DEBUG.
_HEADER_LINES = ("< %s: %s", "> %s: %s")
_FRAME_LINES = ("< %s", "> %s")
# Which autobahn says of a subprotocol, from daphne -v 2 on.
_DUPLICATE = re.compile(r'(duplicate protocol ").*(" specified)')


class Secrets(NamedTuple):
    """Where a project has credentials, beside the usual places; asked for every line.

    Attributes:
        parameters: names of query parameters.
        headers: names of headers, in any spelling.
        are_in_frames: whether clients send them in messages.
    """

    parameters: Callable[[], Iterable[str]] = tuple
    headers: Callable[[], Iterable[str]] = tuple
    are_in_frames: Callable[[], bool] = bool


_secrets = Secrets()


def install(secrets: Secrets) -> None:
    """Adds the filter to the loggers of the servers; where it is already, it stays."""
    global _secrets
    _secrets = secrets
    for logger in map(logging.getLogger, _LOGGERS):
        if not any(isinstance(present, RedactCredentials) for present in logger.filters):
            logger.addFilter(RedactCredentials())


class RedactCredentials(logging.Filter):
    """Masks credentials in a record, and lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Masks arguments one by one: uvicorn's formatter wants the five of an access line."""
        arguments: Any = record.args
        if record.msg in _HEADER_LINES and isinstance(arguments, tuple) and len(arguments) == 2:
            name = arguments[0]
            if is_secret(str(name)):
                record.args = (name, _MASK)
                return True
        elif record.msg in _FRAME_LINES and isinstance(arguments, tuple) and len(arguments) == 1:
            arguments = (_without_payload(arguments[0]),)
        elif record.exc_info and isinstance(record.msg, str) and record.msg.startswith("! "):
            # A handshake that websockets can't read; the exception shows the header.
            record.msg = f"{record.msg}: {type(record.exc_info[1]).__name__}"
            record.exc_info = None
        if isinstance(arguments, Mapping):
            record.args = {key: _redacted(value) for key, value in arguments.items()}
        elif isinstance(arguments, tuple):
            record.args = tuple(map(_redacted, map(_without_subprotocols, arguments)))
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - logging reports that itself, and prints the text
            record.msg = _redacted(record.msg)
            return True
        # A name may stand in the text, and its value in the arguments.
        redacted = _DUPLICATE.sub(rf"\1{_MASK}\2", redact(message))
        if redacted != message:
            record.msg, record.args = redacted, ()
        return True


def redact(text: str) -> str:
    """The text with ``***`` for the values of credential parameters, wherever it holds a query.

    Names are compared percent-decoded, and in any case. Never raises.
    """
    if "=" not in text:
        return text
    names = _names()
    return "".join(_masked(part, names) for part in _SEPARATORS.split(text))


def is_secret(header: str) -> bool:
    """Whether the value of a header is a credential, or may hold one. Never raises."""
    names = set(_HEADERS)
    with suppress(Exception):  # no line is lost for a caller's mistake
        names.update(_header(name) for name in _secrets.headers())
    return _header(header) in names


def _header(name: str) -> str:
    return name.lower().replace("_", "-")


def _names() -> set[str]:
    names = set(_PARAMETERS)
    with suppress(Exception):
        names.update(str(name).casefold() for name in _secrets.parameters())
    return names


def _without_payload(frame: Any) -> Any:
    """A frame of the websockets library: its message may be a fresh token."""
    name = getattr(getattr(frame, "opcode", None), "name", "")
    if name not in ("TEXT", "BINARY", "CONT"):
        return frame
    try:
        is_plain = not _secrets.are_in_frames()
    except Exception:  # noqa: BLE001 - what isn't known is masked
        is_plain = False
    more = "" if frame.fin else ", continued"
    return frame if is_plain else f"{name} {_MASK} [{len(frame.data)} bytes{more}]"


def _masked(part: str, names: set[str]) -> str:
    """A part of a query, maybe with the path before it, or anything else between two spaces."""
    start = 0
    # Also the later ones: a whole URL may be the value of a parameter.
    for name in part.split("=")[:-1]:
        start += len(name) + 1
        spellings = (name.rpartition("?")[2], _OPENING.split(name)[-1])
        if any(unquote_plus(spelling).casefold() in names for spelling in spellings):
            value = part[start:].rstrip(_CLOSING)
            return part[:start] + (_MASK if value else "") + part[start + len(value) :]
    return part


def _without_subprotocols(argument: Any) -> Any:
    """A scope, as uvicorn prints it at level TRACE, where a subprotocol may be a token."""
    if isinstance(argument, dict) and argument.get("subprotocols"):
        return {**argument, "subprotocols": _MASK}
    return argument


def _redacted(argument: Any) -> Any:
    """The argument itself, or if its text holds a credential, the masked text."""
    try:
        text = str(argument)
    except Exception:  # noqa: BLE001 - logging will meet it too, and report it
        return argument
    masked = redact(text)
    return argument if masked == text else masked
