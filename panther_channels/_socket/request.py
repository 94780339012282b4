"""Facts of the handshake request, as Panther names them."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple
from urllib.parse import parse_qsl

from django.core.handlers.asgi import ASGIRequest

from panther_channels._process.logs import is_secret


class Headers:
    """Request headers by attribute or by item: ``headers.user_agent``, ``headers["user-agent"]``.

    Names are case-insensitive (RFC 9110 section 5.1), ``-`` and ``_`` are the same, and a missing
    or empty one is ``None``. A repeated header is joined with a comma (section 5.3), a cookie with
    a semicolon.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs
        self._values: dict[str, str] = {}
        for raw_name, raw_value in pairs:
            name, value = raw_name.decode("latin-1").lower(), _decode(raw_value)
            if name in self._values:
                separator = "; " if name == "cookie" else ","
                value = f"{self._values[name]}{separator}{value}"
            self._values[name] = value

    def __getattr__(self, name: str) -> str | None:
        if name.startswith("_"):  # what copy, pickle and inspect look for is no header
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> str | None:
        return self._values.get(_key(name)) or None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _key(name) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = (f"{k}={'***' if is_secret(k) else v}" for k, v in self._values.items())
        return f"Headers({', '.join(shown)})"

    def get_cookies(self) -> dict[str, str]:
        """The cookies by name, as Django has them in ``request.COOKIES``."""
        # By Django itself: what it does with quotes, repetition and odd bytes differs by version.
        pairs = [pair for pair in self._pairs if pair[0].lower() == b"cookie"]
        scope = {"path": "", "method": "", "headers": pairs}
        cookies: dict[str, str] = ASGIRequest(scope, BytesIO()).COOKIES
        return cookies


class Address(NamedTuple):
    """One end of the connection; prints as ``ip:port``."""

    ip: str
    port: int | None

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


def query_params(query_string: bytes) -> dict[str, str]:
    """The parameters of a query string: of a repeated name the last, blank values dropped."""
    return dict(parse_qsl(query_string.decode("utf-8", "replace")))


def _key(name: str) -> str:
    return name.lower().replace("_", "-")


def _decode(value: bytes) -> str:
    # Header values are UTF-8 in practice and latin-1 by the RFC; latin-1 can't fail.
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
