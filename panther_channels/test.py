"""A WebSocket client for tests: it talks to an ASGI application in process, without a server."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlencode

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib import auth

from panther_channels import conf, status
from panther_channels._handshake.questions import declared_by, questions
from panther_channels._process import database
from panther_channels._socket.encoding import to_text
from panther_channels.authentications import (
    CookieJWTAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
    SubprotocolJWTAuthentication,
)
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
            event = {"type": "websocket.receive", "text": to_text(data)}
        await self._communicator.send_input(event)

    async def receive(self) -> str | bytes:
        """The next message of the application.

        Raises:
            ConnectionClosed: the application closed instead.
            TimeoutError: nothing came in time; the connection goes on.
        """
        return await self._next(self._timeout)

    async def _next(self, seconds: float) -> str | bytes:
        if self.close_code is not None:
            raise ConnectionClosed(self.close_code, self.close_reason)
        event = await _output(self._communicator, seconds)
        if event["type"] == "websocket.close":
            self._closed(event.get("code", status.WS_1000_NORMAL_CLOSURE), event.get("reason"))
            await self._disconnected()
            raise ConnectionClosed(self.close_code or 0, self.close_reason)
        text = event.get("text")
        message: str | bytes = event["bytes"] if text is None else text
        return message

    async def receive_json(self) -> Any:
        """What the next message of the application says, which is JSON.

        Raises:
            ValueError: it is no JSON.
            ConnectionClosed: the application closed instead.
            TimeoutError: nothing came in time; the connection goes on.
        """
        message = await self.receive()
        try:
            return json.loads(message)
        except ValueError:
            raise ValueError(f"The application sent {message!r}, which is no JSON.") from None

    async def receive_nothing(self, within: float = 0.1) -> bool:
        """Wait for a while in which the application sends nothing; the connection goes on.

        Args:
            within: seconds to wait, a tenth by default.

        Returns:
            ``True``, so that an ``assert`` before it does no harm.

        Raises:
            AssertionError: it sent something, which the error tells.
            ConnectionClosed: the application closed, or has closed before.
        """
        try:
            message = await self._next(within)
        except TimeoutError:
            return True
        raise AssertionError(f"The application sent {message!r}, and should have sent nothing.")

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
        user: Any = None,
        headers: Mapping[str, str] | None = None,
        query_params: Mapping[str, str] | None = None,
        subprotocols: list[str] | None = None,
    ) -> AsyncIterator[TestConnection]:
        """Open a connection, which is closed at the end of the block.

        Args:
            path: the path of the URL, percent-encoded where it must be.
            user: a saved user who connects, with the credential that the class's ``auth``, or
                ``WS_AUTHENTICATION``, takes: the cookie of a new session, or a new token in the
                header, cookie, query parameter or subprotocol where it is looked for. Of several
                authentications, it is the first for which one can be made. Behind a router or
                middleware that isn't of this package, it is a session.
            headers: headers of the request, besides ``Host``.
            query_params: parameters of its query string.
            subprotocols: what the client offers.

        Raises:
            HandshakeRejected: the application refused.
            TimeoutError: it gave no answer in time.
            ValueError: for this class, no credential of the user can be made.
        """
        scope = _scope(path, headers or {}, query_params or {}, subprotocols or [])
        if user is not None:
            await _present(user, _class_at(self._application, scope), scope)
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


def _class_at(application: Any, scope: dict[str, Any]) -> Any:
    """The class that an application hands a handshake to, where that is one of this package."""
    application = getattr(application, "application", application)  # that serves static files
    if (applications_at := getattr(application, "applications_at", None)) is not None:
        application = next(iter(applications_at(scope)), None)
    consumer = getattr(application, "consumer_class", None)
    return consumer if hasattr(consumer, "auth") else None


async def _present(user: Any, handler: Any, scope: dict[str, Any]) -> None:
    """Add a user's credential to a handshake, of the kind that its class looks for."""
    if handler is None:
        kinds: list[Any] = [SessionAuthentication]
    else:
        declared = questions(declared_by(handler, "auth") or conf.authentication())
        kinds = [each if isinstance(each, type) else type(each) for each in declared]
    for kind in kinds:
        if issubclass(kind, SessionAuthentication):
            key = await sync_to_async(_new_session)(user)
            _add_cookie(scope, settings.SESSION_COOKIE_NAME, key)
            return
        if issubclass(kind, JWTAuthentication):
            _add_token(scope, kind, str(await sync_to_async(_new_token)(user)))
            return
    names = ", ".join(kind.__qualname__ for kind in kinds) or "no auth"
    raise ValueError(
        f"{handler.__qualname__} has {names}, for which connect(user=…) can make no credential: "
        "give one in headers, query_params or subprotocols."
    )


def _add_token(scope: dict[str, Any], kind: Any, token: str) -> None:
    from rest_framework_simplejwt.settings import api_settings

    if issubclass(kind, SubprotocolJWTAuthentication):
        scope["subprotocols"] = [kind.subprotocol, token, *scope["subprotocols"]]
    elif issubclass(kind, QueryParamJWTAuthentication):
        pairs = [scope["query_string"].decode(), urlencode({kind.parameter: token})]
        scope["query_string"] = "&".join(filter(None, pairs)).encode()
    elif issubclass(kind, CookieJWTAuthentication):
        _add_cookie(scope, kind.cookie, token)
    else:
        types = api_settings.AUTH_HEADER_TYPES
        name = api_settings.AUTH_HEADER_NAME.removeprefix("HTTP_").replace("_", "-")
        _add_header(scope, name, f"{types if isinstance(types, str) else types[0]} {token}")


def _new_session(user: Any) -> str:
    # Not by force_login() of Django's client, which saves the user, and tells signal handlers.
    backends = settings.AUTHENTICATION_BACKENDS
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[auth.SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[auth.BACKEND_SESSION_KEY] = next(
        path for path in backends if hasattr(auth.load_backend(path), "get_user")
    )
    session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


def _new_token(user: Any) -> Any:
    from rest_framework_simplejwt.settings import api_settings

    return api_settings.AUTH_TOKEN_CLASSES[0].for_user(user)


def _add_cookie(scope: dict[str, Any], name: str, value: str) -> None:
    given = dict(scope["headers"]).get(b"cookie", b"").decode()
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"cookie"]
    _add_header(scope, "Cookie", "; ".join(filter(None, [given, f"{name}={value}"])))


def _add_header(scope: dict[str, Any], name: str, value: str) -> None:
    scope["headers"].append((name.lower().encode(), value.encode()))


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
