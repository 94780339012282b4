"""Keeps tokens in URLs out of the log: masks the values of query parameters in others' lines.

uvicorn writes the query of every request and every WebSocket, others that of requests. A filter on
their loggers changes the record before any handler sees it. daphne's access log is no logger:
``servers/daphne.py`` masks its lines.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus

_MASK = "***"
_PARAMETERS = frozenset({"authorization", "access_token", "token"})
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
_HEADERS = {"authorization", "cookie", "set-cookie", "sec-websocket-protocol"}

_further_names: Callable[[], Iterable[str]] = tuple


def install(names: Callable[[], Iterable[str]]) -> None:
    """Adds the filter to the loggers of the servers; where it is already, it stays.

    Args:
        names: gives the names of further parameters, and is asked for every line with a query.
    """
    global _further_names
    _further_names = names
    for logger in map(logging.getLogger, _LOGGERS):
        if not any(isinstance(present, RedactCredentials) for present in logger.filters):
            logger.addFilter(RedactCredentials())


class RedactCredentials(logging.Filter):
    """Masks credentials in a record, and lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Masks arguments one by one: uvicorn's formatter wants the five of an access line."""
        arguments: Any = record.args
        if record.msg in _HEADER_LINES and isinstance(arguments, tuple) and len(arguments) == 2:
            name, value = arguments
            record.args = (name, _MASK if str(name).lower() in _HEADERS else value)
            return True
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
        if (redacted := redact(message)) != message:
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


def _names() -> set[str]:
    names = set(_PARAMETERS)
    with suppress(Exception):  # no line is lost for a caller's mistake
        names.update(str(name).casefold() for name in _further_names())
    return names


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
