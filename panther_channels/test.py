"""A WebSocket client for tests: it talks to an ASGI application in process, without a server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlencode

from asgiref.testing import ApplicationCommunicator

from panther_channels import status
from panther_channels._process import database
from panther_channels._socket.encoding import to_json
from panther_channels.exceptions import PantherChannelsError


class HandshakeRejected(PantherChannelsError):  # noqa: N818 - it is an outcome, as in `websockets`
    """The application refused the handshake.

    Attributes:
        status: the HTTP status that a client would see.
        body: the body of the response, empty where the application gave none.
    """

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body

    def __str__(self) -> str:
        return f"The handshake was refused with HTTP {self.status}."


class ConnectionClosed(PantherChannelsError):  # noqa: N818
    """The application closed the connection.

    Attributes:
        code: the close code.
        reason: the close reason.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"The application closed the connection with {self.code} {self.reason!r}."


class TestConnection:
    """An open connection of a :class:`WebsocketClient`.

    Attributes:
        subprotocol: what the application chose, or ``None``.
        headers: the headers of its response, pairs of bytes.
        close_code: the close code, once it has ended; else ``None``.
        close_reason: the close reason; empty until it has ended.
    """

    __test__ = False  # its name is no invitation for pytest

    def __init__(self, communicator: ApplicationCommunicator, timeout: float) -> None:
        self._communicator = communicator
        self._timeout = timeout
        self.subprotocol: str | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.close_code: int | None = None
        self.close_reason = ""

    async def send(self, data: Any) -> None:
        """Send a ``str`` as a text frame, ``bytes`` as a binary frame, all else as JSON."""
        if isinstance(data, bytes):
            event = {"type": "websocket.receive", "bytes": data}
        else:
            text = data if isinstance(data, str) else to_json(data)
            event = {"type": "websocket.receive", "text": text}
        await self._communicator.send_input(event)

    async def receive(self) -> str | bytes:
        """The next message of the application.

        Raises:
            ConnectionClosed: the application closed instead.
            TimeoutError: nothing came in time; the connection goes on.
        """
        if self.close_code is not None:
            raise ConnectionClosed(self.close_code, self.close_reason)
        event = await _output(self._communicator, self._timeout)
        if event["type"] == "websocket.close":
            self._closed(event.get("code", status.WS_1000_NORMAL_CLOSURE), event.get("reason"))
            await self._disconnected()
            raise ConnectionClosed(self.close_code or 0, self.close_reason)
        text = event.get("text")
        message: str | bytes = event["bytes"] if text is None else text
        return message

    async def close(self, code: int = status.WS_1000_NORMAL_CLOSURE, reason: str = "") -> None:
        """Close from the client's side, and wait until the application has ended."""
        messages = self._communicator.output_queue
        while self.close_code is None and not messages.empty():
            event = messages.get_nowait()
            if event["type"] == "websocket.close":
                self._closed(event.get("code", code), event.get("reason"))
                await self._disconnected()
        if self.close_code is None:
            self._closed(code, reason)
            await self._disconnected()

    def _closed(self, code: int, reason: str | None) -> None:
        self.close_code = code
        self.close_reason = reason or ""

    async def _disconnected(self) -> None:
        code, reason = self.close_code, self.close_reason
        event = {"type": "websocket.disconnect", "code": code, "reason": reason}
        await self._communicator.send_input(event)
        await self._communicator.wait(self._timeout)


class WebsocketClient:
    """Opens connections to an ASGI application.

    ::

        async with WebsocketClient(application).connect("/ws/book/") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"

    Args:
        application: what ``get_asgi_application()`` returns, or ``SomeWebsocket.as_asgi()``.
        timeout: seconds to wait for each answer of the application, 5 by default.
    """

    def __init__(self, application: Any, timeout: float = 5.0) -> None:
        self._application = application
        self._timeout = timeout

    @asynccontextmanager
    async def connect(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        query_params: Mapping[str, str] | None = None,
        subprotocols: list[str] | None = None,
    ) -> AsyncIterator[TestConnection]:
        """Open a connection, which is closed at the end of the block.

        Args:
            path: the path of the URL, percent-encoded where it must be.
            headers: headers of the request, besides ``Host``.
            query_params: parameters of its query string.
            subprotocols: what the client offers.

        Raises:
            HandshakeRejected: the application refused.
            TimeoutError: it gave no answer in time.
        """
        scope = _scope(path, headers or {}, query_params or {}, subprotocols or [])
        communicator = ApplicationCommunicator(self._application, scope)
        connection = TestConnection(communicator, self._timeout)
        try:
            with database.left_alone():
                await self._open(communicator, connection)
                yield connection
                await connection.close()
        finally:
            communicator.stop(exceptions=False)

    async def _open(
        self, communicator: ApplicationCommunicator, connection: TestConnection
    ) -> None:
        await communicator.send_input({"type": "websocket.connect"})
        event = await _output(communicator, self._timeout)
        if event["type"] != "websocket.accept":
            raise await _rejection(communicator, event, self._timeout)
        connection.subprotocol = event.get("subprotocol")
        connection.headers = list(event.get("headers", ()))


async def _output(communicator: ApplicationCommunicator, seconds: float) -> dict[str, Any]:
    # Not receive_output(), which ends the application where nothing comes in time.
    messages: asyncio.Queue[dict[str, Any]] = communicator.output_queue
    if messages.empty():
        message = asyncio.ensure_future(messages.get())
        try:
            async with asyncio.timeout(seconds):
                events = {message, communicator.future}
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if message.done():
                return message.result()
        finally:
            message.cancel()
    if messages.empty():
        communicator.future.result()
        raise RuntimeError("The application has ended without a further message.")
    return messages.get_nowait()


async def _rejection(
    communicator: ApplicationCommunicator, event: dict[str, Any], seconds: float
) -> HandshakeRejected:
    code, body = status.HTTP_403_FORBIDDEN, b""
    if event["type"] == "websocket.http.response.start":
        code = event["status"]
        body = (await _output(communicator, seconds)).get("body", b"")
    for _ in range(2):  # servers tell of the refusal, and of the end
        await communicator.send_input({"type": "websocket.disconnect", "code": 1006})
    await communicator.wait(seconds)
    return HandshakeRejected(code, body)


def _scope(
    path: str, headers: Mapping[str, str], query_params: Mapping[str, str], offered: list[str]
) -> dict[str, Any]:
    pairs = {"host": "testserver", **{name.lower(): value for name, value in headers.items()}}
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode(query_params).encode(),
        "headers": [(name.encode("latin-1"), value.encode()) for name, value in pairs.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "subprotocols": offered,
        "extensions": {"websocket.http.response": {}},
    }
