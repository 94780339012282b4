"""The opening handshake (RFC 6455 section 4.2), of the requests that nearly all clients send.

`websockets` parses a second time what uvicorn has parsed, and its answer is made of general parts;
that takes a third of the time of a handshake. Whatever looks unusual is left to it, with all its
errors.
"""

import re
import sys
from base64 import b64encode
from hashlib import sha1
from typing import Any, NamedTuple
from urllib.parse import unquote

_START, _END = b"GET /", b" HTTP/1.1"
_LARGEST = 8192  # bytes of a request; of `websockets`, those of a line
_MOST_HEADERS = 128
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # of 16 bytes
_TOKENS = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+(?:, ?[-!#$%&'*+.^_`|~0-9A-Za-z]+)*")
_SCHEME_AND_HOST = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]+", re.ASCII | re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_WITH_A_BODY = {b"transfer-encoding", b"content-length"}


def origin_form(target: str) -> str:
    """The path and query of a request's target, also of one in absolute-form.

    RFC 9112 section 3.2.2: a server has to accept ``http://host/path`` as well as ``/path``.
    """
    absolute = _SCHEME_AND_HOST.match(target)
    rest = target if absolute is None else target[absolute.end() :]
    return rest if absolute is None or rest.startswith("/") else f"/{rest}"


class Opening(NamedTuple):
    """What a request asks for.

    Attributes:
        target: the path and the query.
        headers: as ASGI has them.
        accept: what ``Sec-WebSocket-Accept`` answers.
        subprotocols: those that the client offers.
        extensions: the header that offers some, or ``None``.
    """

    target: bytes
    headers: list[tuple[bytes, bytes]]
    accept: str
    subprotocols: list[str]
    extensions: bytes | None


def read(data: bytes) -> Opening | None:
    """Read a request, as uvicorn's HTTP protocols hand it on; ``None`` for an unusual one."""
    if len(data) > _LARGEST or not data.startswith(_START) or not data.endswith(b"\r\n\r\n"):
        return None
    first, *lines = data[:-4].split(b"\r\n")
    headers = []
    for line in lines:
        name, separator, value = line.partition(b": ")
        if not separator:
            return None
        headers.append((name.lower(), value.strip(b" \t")))
    found = dict(headers)
    # Of what is there twice, each rule of HTTP is another one.
    if not first.endswith(_END) or not len(found) == len(headers) <= _MOST_HEADERS:
        return None
    target, key = first[4 : -len(_END)], found.get(b"sec-websocket-key", b"")
    offered = found.get(b"sec-websocket-protocol")
    if (
        not target.isascii()
        or b" " in target
        or b"#" in target
        or found.get(b"sec-websocket-version") != b"13"
        or _KEY.fullmatch(key) is None
        or found.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in found.get(b"connection", b"").lower().replace(b" ", b"").split(b",")
        or not _WITH_A_BODY.isdisjoint(found)
        or (offered is not None and _TOKENS.fullmatch(offered) is None)
    ):
        return None
    return Opening(
        target,
        headers,
        b64encode(sha1(key + _GUID, usedforsecurity=False).digest()).decode(),
        [] if offered is None else offered.decode().replace(" ", "").split(","),
        found.get(b"sec-websocket-extensions"),
    )


def scope_of(protocol: Any, opening: Opening) -> dict[str, Any]:
    """The ASGI scope of a protocol of uvicorn's."""
    raw_path, _, query_string = opening.target.partition(b"?")
    path, root_path = raw_path.decode(), protocol.root_path
    return {
        "type": "websocket",
        "asgi": {"version": protocol.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": protocol.scheme,
        "server": protocol.server,
        "client": protocol.client,
        "root_path": root_path,
        "path": root_path + (unquote(path) if "%" in path else path),
        "raw_path": root_path.encode("ascii") + raw_path,
        "query_string": query_string,
        "headers": opening.headers,
        "subprotocols": opening.subprotocols,
        "state": protocol.app_state.copy(),
        "extensions": {"websocket.http.response": {}},
    }


def plain_target(config: Any, target: str) -> str:
    """The path and query of a target in absolute-form, or with a fragment, as HTTP has them.

    httptools leaves out what is neither path nor query, and uvicorn hands all of it to a WebSocket;
    with h11, it keeps a fragment for HTTP, too.
    """
    target = origin_form(target)
    http = sys.modules[config.http_protocol_class.__module__]
    return target.partition("#")[0] if hasattr(http, "httptools") else target


class Answer:
    """The answer 101, as far as uvicorn uses the one of `websockets`.

    Args:
        accept: of the :class:`Opening`.
        extensions: what was negotiated, or ``None``.
    """

    status_code, reason_phrase, body = 101, "Switching Protocols", b""

    def __init__(self, accept: str, extensions: str | None) -> None:
        self._head = (
            "HTTP/1.1 101 Switching Protocols\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        )
        if extensions is not None:
            self._head += f"Sec-WebSocket-Extensions: {extensions}\r\n"

    @property
    def headers(self) -> "Answer":
        """Itself: uvicorn takes one out, which isn't in, and adds others."""
        return self

    def __delitem__(self, _name: str) -> None: ...

    def update(self, pairs: list[tuple[str, str]]) -> None:
        """Add headers."""
        self._head += "".join([f"{name}: {value}\r\n" for name, value in pairs])

    def serialize(self) -> bytes:
        """What goes to the client."""
        return f"{self._head}\r\n".encode("latin-1")
