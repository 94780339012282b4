"""The one client of the tests: over TCP to a server, or in process to an ASGI application.

What it sees is plain data that can be compared: a text message is a ``str``, a binary one is
``bytes``, the end is ``Closed(code, reason)``, and a refused handshake has its HTTP status.
"""

import asyncio
import http.client
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.servers import Server

# An answer that takes longer is a failure, not a slow machine.
SECONDS = 10.0

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
Data = str | bytes | Iterable[str | bytes]


class Closed(NamedTuple):
    """The end of a connection; the code is 1006 where there was no close frame."""

    code: int
    reason: str


Message = str | bytes | Closed


class Connection:
    """One handshake and, if it was accepted, the open WebSocket.

    Attributes:
        status: 101, or the HTTP status of the refusal.
        headers: those of the answer, by their names in lower case.
        body: that of a refusal.
        subprotocol: what was chosen.
        address: ip and port of this side.
        websocket: what is under it, where there is a server.
    """

    websocket: ClientConnection
    status = 101
    body = b""
    subprotocol: str | None = None
    address: tuple[str, int] = ("127.0.0.1", 50000)

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    @property
    def detail(self) -> Any:
        """What a refusal says."""
        return json.loads(self.body)["detail"]

    async def send(self, data: Data) -> None:
        """Send a message; one of several parts goes in as many frames."""
        raise NotImplementedError

    async def receive(self, seconds: float = SECONDS) -> Message:
        """The next message, or the end."""
        raise NotImplementedError

    async def close(self, code: int = 1000, reason: str = "") -> Closed:
        """Close, and tell how it ended."""
        raise NotImplementedError

    async def abort(self) -> None:
        """End it without a close frame."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Wait for the pong."""

    async def leave(self) -> None:
        """Let nothing of it go on."""

    async def ask(self, data: Data) -> Message:
        await self.send(data)
        return await self.receive()

    async def messages(self, count: int) -> list[Message]:
        return [await self.receive() for _ in range(count)]

    async def until_closed(self) -> list[Message]:
        """All that comes, up to the end."""
        found = [await self.receive()]
        while not isinstance(found[-1], Closed):
            found.append(await self.receive())
        return found

    async def closed(self) -> Closed:
        """How it ends; messages on the way are dropped."""
        end = (await self.until_closed())[-1]
        assert isinstance(end, Closed)
        return end


class Client:
    """Opens connections to one server, and leaves none open.

    ::

        async with Client(server) as connect:
            ws = await connect("/ws/echo")
            assert await ws.ask("hello") == "hello"

    Args:
        server: where to.
        headers: of every handshake.
        at: what goes before a path that has no slash in front.
    """

    def __init__(self, server: Server, headers: Headers = (), at: str = "/") -> None:
        self.host = server.host
        self.port = server.port
        self.at = at
        self._headers = _pairs(headers)
        self._connections: list[Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for connection in self._connections:
            await connection.leave()

    async def __call__(
        self, path: str, *, headers: Headers = (), subprotocols: Iterable[str] = ()
    ) -> Connection:
        pairs = [*self._headers, *_pairs(headers)]
        path = path if path.startswith("/") else self.at + path
        connection = await self._connect(path, pairs, list(subprotocols))
        self._connections.append(connection)
        return connection

    async def status(self, path: str, **options: Any) -> int:
        """The status of a handshake whose connection isn't needed."""
        return (await self(path, **options)).status

    async def first(self, path: str, **options: Any) -> Message | int:
        """The first message of a connection, or the status of its refusal."""
        connection = await self(path, **options)
        return await connection.receive() if connection.status == 101 else connection.status

    async def journal(self, count: int) -> Any:
        """What the handlers of the contract noted: so many entries, or fewer a second later."""
        return json.loads(str(await (await self("/journal/")).ask(str(count))))

    async def http(self, path: str) -> tuple[int, str | None, bytes]:
        """Status, content type and body of a plain HTTP request."""
        return await asyncio.to_thread(self._http, path)

    async def _connect(
        self, path: str, headers: list[tuple[str, str]], subprotocols: list[str]
    ) -> Connection:
        try:
            websocket = await websocket_connect(
                f"ws://{self.host}:{self.port}{path}",
                additional_headers=headers,
                subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                user_agent_header="contract",
                compression=None,
                proxy=None,
                max_size=None,
                open_timeout=SECONDS,
                close_timeout=1,
                ping_interval=None,
            )
        except InvalidStatus as refusal:
            refused = Connection()
            refused.status = refusal.response.status_code
            refused.headers = _lower(refusal.response.headers.raw_items())
            refused.body = bytes(refusal.response.body or b"")
            return refused
        return _SocketConnection(websocket)

    def _http(self, path: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.getheader("content-type"), response.read()
        finally:
            connection.close()


class _SocketConnection(Connection):
    def __init__(self, websocket: ClientConnection) -> None:
        super().__init__()
        assert websocket.response is not None
        self.websocket = websocket
        self.headers = _lower(websocket.response.headers.raw_items())
        self.subprotocol = websocket.subprotocol
        self.address = websocket.local_address[:2]

    async def send(self, data: Data) -> None:
        with suppress(ConnectionClosed):  # receive() tells
            await self.websocket.send(data)

    async def receive(self, seconds: float = SECONDS) -> Message:
        try:
            async with asyncio.timeout(seconds):
                return await self.websocket.recv()
        except ConnectionClosed:
            return self._end()

    async def close(self, code: int = 1000, reason: str = "") -> Closed:
        await self.websocket.close(code, reason)
        return self._end()

    async def abort(self) -> None:
        self.websocket.transport.abort()
        await self.websocket.wait_closed()

    async def ping(self) -> None:
        await (await self.websocket.ping())

    async def leave(self) -> None:
        with suppress(ConnectionClosed):
            await self.abort()

    def _end(self) -> Closed:
        return Closed(int(self.websocket.close_code or 0), self.websocket.close_reason or "")


class InProcess(Client):
    """The same without a server: it plays the server's part to an ASGI application."""

    def __init__(self, application: Any, headers: Headers = (), at: str = "/") -> None:
        self.host = "127.0.0.1"
        self.port = 80
        self.at = at
        self._application = application
        self._headers = _pairs(headers)
        self._connections = []

    async def _connect(
        self, path: str, headers: list[tuple[str, str]], subprotocols: list[str]
    ) -> Connection:
        pairs = [("sec-websocket-version", "13"), ("upgrade", "websocket"), *headers]
        if subprotocols:
            pairs.append(("sec-websocket-protocol", ", ".join(subprotocols)))
        scope = self._scope("websocket", path, pairs, scheme="ws", subprotocols=subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        connection = _AsgiConnection(self._application, scope)
        await connection.open()
        return connection

    async def http(self, path: str) -> tuple[int, str | None, bytes]:
        sent: list[Any] = []
        requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            return next(requests, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = self._scope("http", path, [], scheme="http", method="GET")
        await self._application(scope, receive, send)
        content_type = dict(sent[0]["headers"]).get(b"content-type", b"").decode() or None
        return sent[0]["status"], content_type, b"".join(each["body"] for each in sent[1:])

    def _scope(
        self, kind: str, target: str, headers: list[tuple[str, str]], **more: Any
    ) -> dict[str, Any]:
        path, _, query = target.partition("?")
        pairs = [("host", f"{self.host}:{self.port}"), ("user-agent", "contract"), *headers]
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
            "client": Connection.address,
            "server": (self.host, self.port),
            **more,
        }


class _AsgiConnection(Connection):
    def __init__(self, application: Any, scope: dict[str, Any]) -> None:
        super().__init__()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._closed: Closed | None = None
        self._has_closed = False  # the application, by itself
        self._odd: list[dict[str, Any]] = []  # what it should not have sent
        self._incoming.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(application(scope, self._incoming.get, self._take))
        # Where it returns without a close frame, a server drops the TCP connection.
        self._task.add_done_callback(lambda _: self._outgoing.put_nowait({"type": "ended"}))

    async def open(self) -> None:
        answer = await self._next(SECONDS)
        if answer["type"] == "websocket.accept":
            self.subprotocol = answer.get("subprotocol")
        elif answer["type"] == "websocket.http.response.start":
            self.status = answer["status"]
            self.body = (await self._next(SECONDS))["body"]
        else:
            self.status = 403 if answer["type"] == "websocket.close" else 500
        pairs = answer.get("headers", ())
        self.headers = {name.decode().lower(): value.decode() for name, value in pairs}
        if self.status != 101:
            # Of the response and of the loss, as uvicorn tells them: who refuses waits for both.
            self._disconnect(Closed(1006, ""))
            self._tell_the_end(1006, "")

    async def send(self, data: Data) -> None:
        if not isinstance(data, str | bytes):
            parts: list[Any] = list(data)
            data = parts[0][:0].join(parts)
        kind = "text" if isinstance(data, str) else "bytes"
        self._incoming.put_nowait({"type": "websocket.receive", kind: data})

    async def receive(self, seconds: float = SECONDS) -> Message:
        if self._closed is None or not self._outgoing.empty():
            message = await self._next(seconds)
            if message["type"] == "websocket.send":
                text = message.get("text")
                found: Message = message["bytes"] if text is None else text
                return found
        return self._disconnect(Closed(1006, ""))

    async def close(self, code: int = 1000, reason: str = "") -> Closed:
        return self._disconnect(Closed(code, reason))

    async def abort(self) -> None:
        self._disconnect(Closed(1006, ""))

    async def leave(self) -> None:
        self._disconnect(Closed(1006, ""))
        async with asyncio.timeout(SECONDS):
            await self._task
        assert self._odd == []

    async def _take(self, message: dict[str, Any]) -> None:
        if self._has_closed:
            self._odd.append(message)  # told at the end: here the application would catch it
        if self._closed is not None:
            raise OSError("The client has gone.")
        if message["type"] == "websocket.close":
            self._has_closed = True
            # A client need not answer a close frame, nor with the same code.
            self._disconnect(Closed(message.get("code", 1000), message.get("reason") or ""), 1006)
        elif message["type"] == "websocket.send":
            if ("text" in message) == ("bytes" in message):  # some servers look which key is there
                self._odd.append(message)
            (message.get("text") or "").encode()  # raises in the sender, as it does in a server
        self._outgoing.put_nowait(message)

    async def _next(self, seconds: float) -> dict[str, Any]:
        if not self._outgoing.empty():
            return self._outgoing.get_nowait()
        async with asyncio.timeout(seconds):
            return await self._outgoing.get()

    def _disconnect(self, end: Closed, told: int = 0) -> Closed:
        # The first one counts: what came later on TCP would not be read.
        if self._closed is None:
            self._closed = end
            self._tell_the_end(told or end.code, end.reason)
        return self._closed

    def _tell_the_end(self, code: int, reason: str) -> None:
        event = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._incoming.put_nowait(event)


def _pairs(headers: Headers) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
