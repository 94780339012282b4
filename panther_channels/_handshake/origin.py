"""Which ``Host`` and which ``Origin`` may open a WebSocket.

A browser lets every page open a WebSocket to every site, and sends the site's cookies along; only
the ``Origin`` header tells the page (RFC 6455 section 10.2). A request without one is not of a
browser.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from panther_channels import conf
from panther_channels._process.log_lines import Repeats, shown
from panther_channels._socket.request import Headers

_HOST = {"HTTP_HOST": "host", "HTTP_X_FORWARDED_HOST": "x-forwarded-host"}
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_refusals = Repeats(logging.getLogger("panther_channels"), logging.WARNING, interval=60.0)


class Origin(NamedTuple):
    """A web origin (RFC 6454): a scheme, a host in lower case, and a port."""

    scheme: str
    host: str
    port: int | None


def parse_origin(value: str) -> Origin | None:
    """Take an ``Origin`` apart; ``None`` for ``null`` and for what is none."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    rest = (parts.path, parts.query, parts.fragment, parts.username, parts.password)
    # urlsplit() drops control characters; and a host of no label would match a wildcard.
    if not all("!" <= character <= "~" for character in value) or "," in value:
        return None
    if not scheme or not host or host.startswith(".") or any(rest):
        return None
    return Origin(scheme, host, _PORTS.get(scheme) if port is None else port)


class _Handshake(HttpRequest):
    """As much of a request as Django needs to tell the scheme, and to tell and check the host."""

    def __init__(self, headers: Headers, scheme: str) -> None:  # and no more: at every handshake
        self.META = {key: headers[name] or "" for key, name in _HOST.items() if name in headers}
        self._headers, self._scheme = headers, scheme

    def is_secure(self) -> bool:
        """Whether the connection is encrypted, as the server or a proxy says."""
        if settings.SECURE_PROXY_SSL_HEADER:
            key = settings.SECURE_PROXY_SSL_HEADER[0]
            if (name := key.removeprefix("HTTP_")) in self._headers:
                self.META[key] = self._headers[name] or ""
        return super().is_secure()

    def _get_scheme(self) -> str:
        return "https" if self._scheme in ("wss", "https") else "http"


def problem_with(pairs: Sequence[tuple[bytes, bytes]], scheme: str = "ws") -> str | None:
    """Why a handshake with these headers is refused, for the log; ``None`` where it may go on.

    Args:
        pairs: the headers of the request, as ASGI has them.
        scheme: of the connection, as the server knows it.
    """
    headers = dict(pairs)
    host = headers.get(b"host")
    is_usual = b"origin" not in headers and len(headers) == len(pairs)
    if host is None or not is_usual or settings.USE_X_FORWARDED_HOST:
        return _problem_with(Headers(pairs), scheme)
    # No browser: there is the host alone to look at, and the same one nearly always. Not kept by
    # the list, which may be changed in place, or ask a table what is in it.
    return _problem_with_host(host, tuple(settings.ALLOWED_HOSTS), settings.DEBUG)


@lru_cache(maxsize=256)
def _problem_with_host(host: bytes, _allowed: tuple[str, ...], _debug: bool) -> str | None:
    return _problem_with(Headers([(b"host", host)]), "ws")


def _problem_with(headers: Headers, scheme: str) -> str | None:
    request = _Handshake(headers, scheme)
    try:
        host = request.get_host()
    except (DisallowedHost, KeyError):
        return f"the host {shown(headers['host'])} is not in ALLOWED_HOSTS"
    if "origin" not in headers:
        return None
    value = headers["origin"] or ""
    origin, named = parse_origin(value), f"the origin {shown(value)}"
    allowed = conf.allowed_origins()
    # Apps in a web view send what is no origin: file://, app://., null. Listed, it is let in.
    if allowed is not None and ("*" in allowed or (value and value.lower() in allowed)):
        return None
    if origin is None:
        return f"{named} is of no site: for an app of yours, add it to WS_ALLOWED_ORIGINS"
    if allowed is not None:
        if any(_matches(origin, pattern) for pattern in allowed):
            return None
        return f"{named} is not in WS_ALLOWED_ORIGINS: add it there"
    if not _is_allowed_host(origin.host, host):
        return f"{named} is not allowed by ALLOWED_HOSTS: add it to WS_ALLOWED_ORIGINS"
    # An http page may be of whoever is in the network, and our Secure cookies would go with it.
    # The other way round is usual: a proxy takes TLS off, and doesn't say so.
    if origin.scheme != "https" and (origin.scheme != "http" or request.is_secure()):
        wanted = "https" if request.is_secure() else "http or https"
        return f"{named} is not of {wanted}: add it to WS_ALLOWED_ORIGINS"
    if _is_other_port(origin, host):
        return f"{named} is another port of this host: add it to WS_ALLOWED_ORIGINS"
    return None


def _matches(origin: Origin, pattern: str) -> bool:
    scheme, separator, host = pattern.partition("://")
    if separator and host.startswith("*."):
        allowed = parse_origin(f"{scheme}://{host[2:]}")
        return (
            allowed is not None
            and (origin.scheme, origin.port) == (allowed.scheme, allowed.port)
            and origin.host.endswith(f".{allowed.host}")
        )
    return origin == parse_origin(pattern)


def _is_allowed_host(host: str, own_host: str) -> bool:
    allowed: Iterable[str] = settings.ALLOWED_HOSTS
    if not allowed and settings.DEBUG:
        allowed = [".localhost", "127.0.0.1", "[::1]"]  # as Django does
    if "*" in allowed:
        # This says that any name may lead here, not that any page may act for our users.
        own = parse_origin(f"http://{own_host}")
        return own is not None and host == own.host
    return validate_host(f"[{host}]" if ":" in host else host, allowed)


def _is_other_port(origin: Origin, own_host: str) -> bool:
    # Another port of the same host is another site, and cookies go to both. Browsers leave the
    # usual port out; so do some proxies with any, behind which WS_ALLOWED_ORIGINS has to say it.
    host, port = split_domain_port(own_host)
    usual = _PORTS.get(origin.scheme)
    return host.strip("[]") == origin.host and origin.port != (int(port) if port else usual)


def log_refusal(problem: str, path: str) -> None:
    """Log a refusal, the same one at most once a minute: anybody can ask for more."""
    _refusals.add(problem, f"WebSocket {shown(path)} was refused: {problem}.")
