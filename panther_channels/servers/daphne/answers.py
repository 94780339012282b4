"""The answer to a handshake on daphne: headers that are checked, and a refusal as bytes."""

import re
from collections.abc import Iterable, Iterator
from http.client import responses

from daphne.utils import HEADER_NAME_RE

_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# A response ends with the connection, and is not chunked.
_OUR_HEADERS = (b"connection", b"transfer-encoding")


class Denial:
    """The answer to a handshake that is refused, as it grows."""

    def __init__(self, code: object, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if not isinstance(code, int) or not 200 <= code < 600:
            raise ValueError(f"{code!r} is no status from 200 to 599")
        self.code = code
        self.headers = [pair for pair in _checked(headers) if pair[0].lower() not in _OUR_HEADERS]
        self.body = bytearray()
        self.is_whole = False

    def __bytes__(self) -> bytes:
        phrase = responses.get(self.code, "").encode()
        ours = [(b"Connection", b"close")]
        if not any(name.lower() == b"content-length" for name, _ in self.headers):
            ours.append((b"Content-Length", b"%d" % len(self.body)))
        lines = [b"%s: %s\r\n" % pair for pair in (*self.headers, *ours)]
        return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (self.code, phrase, b"".join(lines), self.body)


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """ASGI's headers as autobahn takes them, which writes UTF-8."""
    values: dict[str, list[str]] = {}
    for name, value in _checked(headers):
        values.setdefault(name.decode(), []).append(value.decode())
    return values


def _checked(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers of a response, of which autobahn checks nothing."""
    for name, value in headers:
        if (
            not HEADER_NAME_RE.fullmatch(name)
            or _CONTROL_CHARACTER.search(value)
            or name.lower() == b"sec-websocket-protocol"  # ASGI has a field for it
        ):
            raise ValueError(f"{name!r}: {value!r} cannot be a header of the response")
        yield name, value
