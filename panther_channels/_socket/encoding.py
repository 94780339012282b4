"""Python values to WebSocket frames, and to the one field of an event on a channel layer.

A ``str`` is a text frame, and so is a lazy string; ``bytes`` are a binary frame, everything else is
a text frame of JSON. That holds for what comes from outside as well.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import orjson
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.functional import Promise

_encode_by_django = DjangoJSONEncoder().default


def _encode_unknown(value: Any) -> Any:
    # A named tuple, such as a client's address: json takes it for a list, orjson doesn't.
    return [*value] if isinstance(value, tuple) else _encode_by_django(value)


class JSONString(str):
    """What was a date, say, where it was sent from outside: a string of JSON.

    Handlers that override ``send()`` get it, and hand it on. ``send()`` writes it as JSON, which is
    what it would make of the date.
    """

    __slots__ = ()


def to_text(value: Any) -> str:
    """The text frame for what is no ``bytes``.

    Raises:
        TypeError: nothing can encode the value.
    """
    if isinstance(value, str) and type(value) is not JSONString:
        return value
    return str(value) if isinstance(value, Promise) else to_json(value)


def to_json(value: Any) -> str:
    """Compact JSON as orjson writes it; what orjson doesn't know, ``DjangoJSONEncoder`` may.

    Raises:
        TypeError: nothing can encode the value, as orjson says.
    """
    return orjson.dumps(value, _encode_unknown).decode()


def size_of(data: str | bytes) -> int:
    """The bytes of a message on the wire, where text is UTF-8."""
    # Lone surrogates, which only a test client can have here, count as they would in UTF-8.
    return len(data) if isinstance(data, bytes) else len(data.encode(errors="surrogatepass"))


def to_event(value: Any) -> dict[str, str]:
    """The field that carries a value over a channel layer: ``text``, ``base64`` or ``json``.

    Its content is always a ``str``, since a layer may be set to serialise with JSON, which has no
    bytes. What can't be encoded fails here, at the sender, where the mistake is.

    Raises:
        TypeError: the value is not JSON.
        UnicodeEncodeError: a ``str`` holds a lone surrogate, which UTF-8 can't say.
    """
    if isinstance(value, Promise):  # here, in the language of who sends
        value = str(value)
    if isinstance(value, str) and not isinstance(value, JSONString):
        value.encode()
        return {"text": value}
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    return {"json": to_json(value)}


def from_event(event: Mapping[str, Any]) -> Any:
    """The value that :func:`to_event` was given, as JSON renders it.

    Raises:
        LookupError: the event carries none of the fields.
        TypeError: what it carries is no ``str``.
        ValueError: it can't be decoded.
    """
    if "text" in event:
        return checked_text(event["text"])
    if "base64" in event:
        return b64decode(checked_text(event["base64"]))
    value = orjson.loads(checked_text(event["json"]))
    return JSONString(value) if isinstance(value, str) else value


def checked_text(value: Any) -> str:
    """A value itself, if it is text that UTF-8 can say.

    Raises:
        TypeError: it is no ``str``.
        UnicodeEncodeError: it holds a lone surrogate.
    """
    if not isinstance(value, str):
        raise TypeError(f"The text of a message is a str, not {value!r}.")
    if not value.isascii():
        value.encode()
    return value
