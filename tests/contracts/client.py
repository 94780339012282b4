"""The one client of the contract: what it sees is plain data that can be compared."""

import asyncio
import http.client
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

# An answer that takes longer is a failure, not a slow machine.
DEADLINE = 5.0

Frame = tuple[object, ...]


class Connection:
    """One handshake and, if it was accepted, the open WebSocket.

    ``handshake`` is the HTTP status. Frames are ``("text", str)``, ``("binary", bytes)`` and, at
    the end, ``("close", code, reason)``; the code is 1006 where the TCP connection just ended.
    """

    def __init__(self, handshake: int, websocket: ClientConnection | None = None) -> None:
        self.handshake = handshake
        self._websocket = websocket

    @property
    def websocket(self) -> ClientConnection:
        if self._websocket is None:
            raise AssertionError(f"The handshake was refused with {self.handshake}.")
        return self._websocket

    async def send(self, message: str | bytes | Iterable[str | bytes]) -> None:
        await self.websocket.send(message)

    async def receive(self) -> Frame:
        try:
            async with asyncio.timeout(DEADLINE):
                message = await self.websocket.recv()
        except ConnectionClosed:
            return self._end()
        return ("text" if isinstance(message, str) else "binary", message)

    async def frames(self, count: int) -> list[Frame]:
        return [await self.receive() for _ in range(count)]

    async def until_closed(self) -> list[Frame]:
        frames = [await self.receive()]
        while frames[-1][0] != "close":
            frames.append(await self.receive())
        return frames

    async def ask(self, message: str | bytes | Iterable[str | bytes]) -> Frame:
        await self.send(message)
        return await self.receive()

    async def close(self, code: int = 1000, reason: str = "") -> Frame:
        await self.websocket.close(code, reason)
        return self._end()

    async def abort(self) -> None:
        """Ends the TCP connection without a close frame."""
        self.websocket.transport.abort()
        await self.websocket.wait_closed()

    def _end(self) -> Frame:
        return ("close", int(self.websocket.close_code or 0), self.websocket.close_reason)


class Client:
    """Connects to one server in the name of one scenario, and leaves nothing open."""

    def __init__(self, host: str, port: int, run: str) -> None:
        self.host = host
        self.port = port
        self._run = run
        self._open: list[ClientConnection] = []

    async def __call__(
        self,
        path: str,
        *,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        subprotocols: list[str] | None = None,
    ) -> Connection:
        items = list(headers.items() if isinstance(headers, dict) else headers or [])
        try:
            websocket = await websocket_connect(
                f"ws://{self.host}:{self.port}{path}",
                additional_headers=[("X-Run", self._run), *items],
                subprotocols=[Subprotocol(name) for name in subprotocols or []] or None,
                user_agent_header="contract",
                compression=None,
                proxy=None,
                max_size=None,
                open_timeout=DEADLINE,
                close_timeout=1,
                ping_interval=None,
            )
        except InvalidStatus as refusal:
            return Connection(refusal.response.status_code)
        self._open.append(websocket)
        return Connection(101, websocket)

    async def handshake(self, path: str, **options: Any) -> int:
        """The status of a handshake whose connection isn't needed."""
        connection = await self(path, **options)
        return connection.handshake

    async def first(self, path: str, **options: Any) -> object:
        """The first frame of a connection, or the status of its refusal."""
        connection = await self(path, **options)
        return await connection.receive() if connection.handshake == 101 else connection.handshake

    async def journal(self, count: int) -> list[Any]:
        """What the server noted for this scenario: ``count`` entries, or fewer a second later."""
        reader = await self("/journal/")
        _, entries = await reader.ask(str(count))
        return list(json.loads(str(entries)))

    async def http(self, path: str) -> tuple[int, str | None, object]:
        """Status, content type and JSON of a plain HTTP request."""
        return await asyncio.to_thread(self._http, path)

    def _http(self, path: str) -> tuple[int, str | None, object]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.getheader("content-type"), json.load(response)
        finally:
            connection.close()

    async def leave(self) -> None:
        for websocket in self._open:
            with suppress(ConnectionClosed):
                websocket.transport.abort()
                await websocket.wait_closed()
