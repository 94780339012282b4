"""How the tests come to the project: with tokens of their own making, and by bare handshakes."""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import jwt
from websockets.asyncio.client import ClientConnection, connect

from tests.project.settings import SECRET_KEY
from tests.servers import Server

SECONDS = 10.0
# RFC 6455 section 1.3; its answer is known, and nobody looks at it here.
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

Headers = Iterable[tuple[str, str | bytes]]


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

    def leaks(self, server: Server) -> list[str]:
        """The credentials that a log shows, and for tokens also their signatures."""
        log = server.log
        parts = self.secrets | {secret.split(".")[-1] for secret in self.secrets}
        parts |= set(self.sessions.values())
        return [part for part in parts if len(part) > 15 and part in log]


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
    server: Server, target: str, headers: Headers = (), *, host: str | None = ""
) -> Answer:
    """Ask for a WebSocket, byte by byte as a client would; a hung server is a TimeoutError."""
    host = f"127.0.0.1:{server.port}" if host == "" else host
    lines = [
        b"GET %b HTTP/1.1" % target.encode("latin-1"),
        *([] if host is None else [b"Host: %b" % host.encode()]),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + _KEY,
        *(_line(name, value) for name, value in headers),
    ]
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        try:
            writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
            return await _answer(reader)
        finally:
            writer.close()


def _line(name: str, value: str | bytes) -> bytes:
    return name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode())


async def _answer(reader: asyncio.StreamReader) -> Answer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(0, {}, "")  # closed without a word
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    status = int(first.split()[1])
    size = int(headers.get("content-length", "0")) if status != 101 else 0
    return Answer(status, headers, (await reader.readexactly(size)).decode())


async def who(server: Server, target: str, headers: Headers = (), **options: Any) -> Any:
    """What the WebSocket says of its user."""
    async with connected(server, target, headers, **options) as client:
        return json.loads(await received(client))


def connected(server: Server, target: str, headers: Headers = (), **options: Any) -> Any:
    pairs = [(name, str(value)) for name, value in headers]
    return connect(f"{server.ws_url}{target}", additional_headers=pairs, **options)


async def received(client: ClientConnection) -> str:
    return str(await asyncio.wait_for(client.recv(), SECONDS))


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """How the connection ends; messages on the way are dropped."""
    await asyncio.wait_for(client.wait_closed(), SECONDS)
    return client.close_code, client.close_reason


#: What opened() has opened; the fixture `clients` closes it.
clients: list[ClientConnection] = []


async def opened(
    server: Server, target: str, headers: Headers = (), **options: Any
) -> tuple[ClientConnection, Any]:
    """A connection after its first message, and that; for tests with the fixture `clients`."""
    client = await connected(server, target, headers, **options)
    clients.append(client)
    return client, json.loads(await received(client))
