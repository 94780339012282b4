"""Who comes to the site: its database, credentials of the tests' own making, bare handshakes."""

import asyncio
import base64
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import jwt

from tests import wire
from tests.client import SECONDS
from tests.project.settings import SECRET_KEY
from tests.servers import Server

OTHER_KEY = "the key of somebody else, long enough for every signature"


def _nested(depth: int) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":' + b"[" * depth).rstrip(b"=").decode()
    return f"{head}.{head[:8]}.{head[:8]}"


#: Tokens that are bad: the whole text, or what is other than in a good one.
BAD: dict[str, str | dict[str, Any]] = {
    "malformed": "no-token-but-a-secret",
    "dots": "a.b.c",
    "nested": _nested(4500),
    "expired": {"exp": int(time.time()) - 1},
    "forged": {"key": OTHER_KEY},
    "unsigned": {"key": "", "algorithm": "none"},
    "algorithm": {"algorithm": "HS384", "key": OTHER_KEY},
    "refresh": {"token_type": "refresh"},
    "sliding": {"token_type": "sliding"},
    "no_type": {"token_type": None},
    "no_id": {"jti": None},
    "no_expiry": {"exp": None},
    "not_yet": {"nbf": 4_000_000_000},
    "no_user": {"user_id": None},
    "unknown": {"user_id": "99999"},
    "user_text": {"user_id": "'; DROP TABLE auth_user"},
    "user_list": {"user_id": [1]},
    "user_huge": {"user_id": "9" * 30},
}


@dataclass
class Site:
    """The database: who is in it, and what must not be found in a log."""

    database: str
    ids: dict[str, int]
    sessions: dict[str, str]
    revocations: dict[str, str]
    secrets: set[str] = field(default_factory=set)
    servers: list[Server] = field(default_factory=list)

    def token(self, user: str = "alice", *, key: str = SECRET_KEY, algorithm: str = "HS256",
              **claims: Any) -> str:  # fmt: skip
        """An access token; a claim of `None` is left out."""
        now = int(time.time())
        known = {"token_type": "access", "exp": now + 300, "iat": now, "jti": uuid4().hex}
        found = {**known, "user_id": str(self.ids.get(user, 0)), **claims}
        payload = {name: value for name, value in found.items() if value is not None}
        return self.secret(jwt.encode(payload, key, algorithm))

    def secret(self, text: str) -> str:
        """Take note of a credential: no log may show it."""
        self.secrets.add(text)
        return text

    def fill(self, text: str) -> str:
        """Fill in credentials: "{alice}" is her token, "{expired}" a bad one, "{session[bob]}"."""
        return text.format_map(_Credentials(self))

    def leaks(self, log: str) -> list[str]:
        """The credentials that a log shows, and for tokens also their signatures."""
        parts = self.secrets | {secret.split(".")[-1] for secret in self.secrets}
        parts |= set(self.sessions.values())
        return [part for part in parts if len(part) > 15 and part in log]


class _Credentials(dict[str, Any]):
    def __init__(self, site: Site) -> None:
        super().__init__(session=site.sessions)
        self._site = site

    def __missing__(self, name: str) -> str:
        found = BAD.get(name, {})
        if isinstance(found, str):
            return self._site.secret(found)
        return self._site.token("alice" if found else name, **found)


def pairs(headers: str) -> list[tuple[str, str]]:
    """Headers as a table has them: "Name: value", more of them on lines of their own."""
    lines = (line.partition(": ") for line in headers.splitlines())
    return [(name, value) for name, _, value in lines]


def request(headers: str) -> dict[str, Any]:
    """The same for a client, which wants to know itself which subprotocols it offers."""
    found = dict(pairs(headers))
    offered = found.get("Sec-WebSocket-Protocol")
    others = [pair for pair in pairs(headers) if pair[0] != "Sec-WebSocket-Protocol"]
    return {"headers": others, "subprotocols": offered.split(", ") if offered else []}


class Answer(NamedTuple):
    """The answer to a handshake."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def detail(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        assert int(self.headers["content-length"]) == len(self.body.encode())
        return json.loads(self.body)["detail"]


async def handshake(
    server: Server, target: str, headers: Iterable[tuple[str, str | bytes]] = ()
) -> Answer:
    """Ask for a WebSocket, byte by byte as no client would; a hung server is a TimeoutError."""
    return await asyncio.to_thread(_handshake, server, target, headers)


def _handshake(server: Server, target: str, headers: Iterable[tuple[str, str | bytes]]) -> Answer:
    lines = (
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode())
        for name, value in headers
    )
    host = f"127.0.0.1:{server.port}".encode()
    opening = wire.request(target.encode(), *lines, host=host)
    with wire.raw_client(server, opening, is_waiting=False, timeout=SECONDS) as client:
        first, *found = client.head().strip().split("\r\n")
        named = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in found)
        }
        status = int(first.split()[1])
        size = int(named.get("content-length", "0")) if status != 101 else 0
        return Answer(status, named, client.take(size).decode())
