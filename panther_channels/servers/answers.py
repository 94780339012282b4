"""What an application sends, checked: headers, refusals, closes; the same on our protocols."""

import re
from collections.abc import Iterable, Iterator, Mapping
from http.client import responses
from typing import Any

from panther_channels import status

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# A response ends with the connection, and is not chunked.
_OUR_HEADERS = (b"connection", b"transfer-encoding")


class Denial:
    """The answer to a handshake that is refused, as it grows."""

    def __init__(self, code: object, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if not isinstance(code, int) or not 200 <= code < 600:
            raise ValueError(f"{code!r} is no status from 200 to 599")
        self.code = code
        self.headers = [pair for pair in checked(headers) if pair[0].lower() not in _OUR_HEADERS]
        self.body = bytearray()
        self.is_whole = False

    def __bytes__(self) -> bytes:
        phrase = responses.get(self.code, "").encode()
        ours = [(b"Connection", b"close")]
        if not any(name.lower() == b"content-length" for name, _ in self.headers):
            ours.append((b"Content-Length", b"%d" % len(self.body)))
        lines = [b"%s: %s\r\n" % pair for pair in (*self.headers, *ours)]
        return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (self.code, phrase, b"".join(lines), self.body)


def checked(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers of a response.

    Raises:
        ValueError: one would end its line, or is none that a response may have.
    """
    for name, value in headers:
        if (
            not _NAME.fullmatch(name)
            or _CONTROL_CHARACTER.search(value)
            or name.lower() == b"sec-websocket-protocol"  # ASGI has a field for it
        ):
            raise ValueError(f"{name!r}: {value!r} cannot be a header of the response")
        yield name, value


def close_of(message: Mapping[str, Any]) -> tuple[int, bytes]:
    """The code and the reason of a ``websocket.close``.

    Raises:
        ValueError: they can't stand in a close frame.
    """
    code = message.get("code")
    code = status.WS_1000_NORMAL_CLOSURE if code is None else code
    if not isinstance(code, int) or not status.is_sendable(code):
        raise ValueError(f"{code!r} is none of 1000-1003, 1007-1014, 3000-4999: no close code")
    reason = (message.get("reason") or "").encode()
    if len(reason) > 123:
        raise ValueError(f"a close reason has at most 123 bytes in UTF-8, not {len(reason)}")
    return code, reason
