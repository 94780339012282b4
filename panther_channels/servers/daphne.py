"""What daphne leaves out of ASGI's WebSocket messages, mended in the process that runs daphne.

Written for daphne 4.2.3 with autobahn 26.10.2. Each mend is one function or attribute whose text
says what daphne does without it, and has a test that fails once daphne no longer needs it.
"""

import asyncio
import functools
import logging
import re
import time
from collections.abc import Iterable, Iterator
from http.client import responses
from typing import Any

# First, for it installs the reactor that runs on asyncio; autobahn alone would take another one.
from daphne.server import Server  # isort: skip
from autobahn.websocket.protocol import WebSocketProtocol as AutobahnProtocol
from daphne import ws_protocol
from daphne.http_protocol import WebRequest
from daphne.utils import HEADER_NAME_RE
from django.conf import settings
from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, ISSLTransport

from panther_channels import conf, status
from panther_channels._logs import redact
from panther_channels._watch import watch
from panther_channels.servers._flow import SEND_LIMIT, FlowProtocol, IncomingQueue
from panther_channels.servers._last_resort import told_to_stop

logger = logging.getLogger("panther_channels")

_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# A response ends with the connection, and is not chunked.
_OUR_HEADERS = (b"connection", b"transfer-encoding")
_daphne_create_application = Server.create_application
_daphne_log_action = Server.log_action
_daphne_got_length = WebRequest.gotLength
_twisted: Any = reactor


def install() -> None:
    """Mends daphne in this process: every connection that is made from here on.

    A second call does nothing, and where daphne is imported but does not serve, the first neither.
    """
    if issubclass(ws_protocol.WebSocketFactory.protocol, WebSocketProtocol):
        return
    ws_protocol.WebSocketFactory.protocol = WebSocketProtocol
    Server.create_application = _create_application
    Server.kill_all_applications = _kill_all_applications
    Server.log_action = _log_action
    WebRequest.gotLength = _got_length
    FileDescriptor.SEND_LIMIT = SEND_LIMIT
    _twisted.sigTerm = functools.partial(_signalled, _twisted.sigTerm)
    _twisted.sigInt = functools.partial(_signalled, _twisted.sigInt)
    # For autobahn, a client that answers our 1014 with the same has broken the protocol.
    if status.WS_1014_BAD_GATEWAY not in AutobahnProtocol.CLOSE_STATUS_CODES_ALLOWED:
        AutobahnProtocol.CLOSE_STATUS_CODES_ALLOWED.append(status.WS_1014_BAD_GATEWAY)


class WebSocketProtocol(FlowProtocol):
    """daphne's protocol with its omissions mended."""

    muted: bool
    data: bytes
    # The answer of a refusal, once it was begun.
    denial: "_Denial | None" = None

    # autobahn answers a client's close frame with 1000, so that 1000 is what the client's own code
    # sees; RFC 6455 section 5.5.1 echoes what was received.
    echoCloseCodeReason = True  # noqa: N815

    def processHandshake(self) -> None:  # noqa: N802
        """Slashes: autobahn takes the first part of ``//host/path`` for a host, and refuses it."""
        if self.data.startswith(b"GET //"):
            self.data = b"GET /" + self.data[4:].lstrip(b"/")
        super().processHandshake()

    def onConnect(self, request: Any) -> Deferred[Any]:  # noqa: N802
        """Subprotocols that are not ASCII: daphne fails on them with 500 and a traceback."""
        name = "sec-websocket-protocol"
        if name in request.headers:
            request.headers[name] = request.headers[name].encode("ascii", "ignore").decode()
        offered: Deferred[Any] = super().onConnect(request)
        return offered

    def handle_reply(self, message: dict[str, Any]) -> None:
        """After the close: between a close frame and the end of TCP, daphne's send() raises.

        What comes out is autobahn's `Disconnected`. After the end of TCP daphne drops the message
        silently, and so does this, always.
        """
        kind = message.get("type")
        if self.state in (self.STATE_CLOSING, self.STATE_CLOSED):
            return
        if kind == "websocket.send" and self.state == self.STATE_OPEN:
            self._send(message)
        elif kind == "websocket.close" and self.state == self.STATE_OPEN:
            self._close(message)
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            self._deny(message)
        elif self.denial is not None:
            raise ValueError(f"a response was begun: its body must follow, not {kind}")
        elif kind == "websocket.accept":
            self._accept(message)
        else:
            super().handle_reply(message)

    def _send(self, message: dict[str, Any]) -> None:
        """Empty messages, of which daphne sends none, and large ones.

        For `sendMessage`, the limit of incoming messages holds for what is sent, too.
        """
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise ValueError("a websocket.send message has either bytes or text")
        if text is None:
            self.sendFrame(opcode=2, payload=data)
        else:
            self.sendFrame(opcode=1, payload=text.encode())

    def _close(self, message: dict[str, Any]) -> None:
        """Close codes and reasons: daphne drops reasons, autobahn refuses codes 1001 to 1014."""
        code = message.get("code")
        code = status.WS_1000_NORMAL_CLOSURE if code is None else code
        if not isinstance(code, int) or not status.is_sendable(code):
            raise ValueError(f"{code!r} is none of 1000-1003, 1007-1014, 3000-4999: no close code")
        reason = (message.get("reason") or "").encode()
        if len(reason) > 123:
            raise ValueError(f"a close reason has at most 123 bytes in UTF-8, not {len(reason)}")
        self.sendCloseFrame(code=code, reasonUtf8=reason, isReply=False)

    def _accept(self, message: dict[str, Any]) -> None:
        """Accept headers, which daphne drops, and the subprotocol.

        One that was not offered raises in autobahn where nobody sees it, and the client waits.
        """
        if self.state != self.STATE_CONNECTING:
            raise ValueError("the socket is already accepted")
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.websocket_protocols:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        self.serverAccept((subprotocol, _header_values(message.get("headers") or ())))

    def _deny(self, message: dict[str, Any]) -> None:
        """A refusal with an answer, which daphne ignores: "websocket.http.response"."""
        if self.state != self.STATE_CONNECTING:
            raise ValueError("the socket is already accepted")
        if message["type"] == "websocket.http.response.start":
            if self.denial is not None:
                raise ValueError("the response was begun already")
            self.denial = _Denial(message.get("status"), message.get("headers") or ())
            return
        if self.denial is None:
            raise ValueError("there is no response yet that this could be the body of")
        self.denial.body += message.get("body", b"")
        if not message.get("more_body", False):
            self.denial.is_whole = True
            self.serverReject()

    def sendHttpErrorResponse(  # noqa: N802
        self,
        code: int,
        reason: str,
        responseHeaders: Any = None,  # noqa: N803
    ) -> None:
        """Where the refusal comes out of autobahn; its own answer has neither headers nor body."""
        if self.denial is not None and self.denial.is_whole:
            self.sendData(bytes(self.denial))
        else:
            super().sendHttpErrorResponse(code, reason, responseHeaders)

    def onClose(self, was_clean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802
        """The client's close: daphne tells no reason, and None for a frame without a code."""
        queue = None if self.muted else getattr(self, "application_queue", None)
        self.muted = True  # daphne leaves the event to us then
        # Of a refused connection that takes its time, daphne has forgotten that it was there.
        self.server.connections.setdefault(self, {})
        super().onClose(was_clean, code, reason)
        if queue is not None:
            if self.failedByMe:  # the client did wrong, and was told what by a close frame
                code, reason = self.localCloseCode, None
            code = status.WS_1005_NO_STATUS_RCVD if code is None else code
            # The reason of an unclean close is autobahn's own sentence.
            reason = reason if was_clean and reason else ""
            queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def complete_scope(self, scope: dict[str, Any]) -> None:
        """The scope: in daphne's there is no scheme, no http_version, and no extension.

        Its subprotocols are percent-decoded, and accept() has to name one as it was offered.
        """
        # Set where daphne is told to trust a proxy; None if the proxy did not say.
        forwarded = getattr(self, "client_scheme", None)
        if forwarded is None:
            secure = ISSLTransport.providedBy(self.transport)
        else:
            secure = forwarded.strip().lower() in ("https", "wss")
        scope["scheme"] = "wss" if secure else "ws"
        scope["http_version"] = "1.1"
        scope["subprotocols"] = list(self.websocket_protocols)
        scope["extensions"] = {"websocket.http.response": {}}

    def application_done(self, application: asyncio.Future[object]) -> None:
        """The application's end: daphne leaves the socket open, or for an exception up to a second.

        Its log line about the exception still comes within that second.
        """
        if application.cancelled():  # at the end of the server; else only after that of the socket
            code = status.WS_1012_SERVICE_RESTART
        elif application.exception() is not None:
            code = status.WS_1011_INTERNAL_ERROR
        else:
            code = status.WS_1000_NORMAL_CLOSURE
            if self.state == self.STATE_CONNECTING:
                logger.error("The application returned without an answer to %r", self)
        self._end(code)

    def handle_exception(self, exception: BaseException) -> None:
        """A second end: daphne's checker calls this after us, and would die of a second errback."""
        self._end(status.WS_1011_INTERNAL_ERROR)

    def _end(self, code: int) -> None:
        if self.state == self.STATE_CONNECTING:
            super().handle_exception(None)  # answers 500
            del self.handshake_deferred
        else:
            self.sendCloseFrame(code=code)  # nothing, if the close has begun


class _Denial:
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


def _header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
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


def _create_application(server: Any, protocol: Any, scope: dict[str, Any]) -> Any:
    """In place of `Server.create_application`, which alone sees the scope and starts the task.

    The root path: daphne takes it from the header Daphne-Root-Path of whoever sends one, and with
    it a client can have a path served that a proxy in front of us does not let through.
    """
    if not (settings.configured and conf.trust_daphne_root_path()):
        scope["root_path"] = server.root_path
    if not isinstance(protocol, WebSocketProtocol):
        return _daphne_create_application(server, protocol, scope)
    protocol.complete_scope(scope)
    # As daphne does it, with a queue and a send() that know limits.
    scope.setdefault("asgi", {"version": "3.0"})
    queue = IncomingQueue(protocol)
    served = server.application(scope=scope, receive=queue.get, send=protocol.reply)
    application = asyncio.ensure_future(served)
    server.connections[protocol]["application_instance"] = application
    application.add_done_callback(protocol.application_done)
    return queue


def _got_length(request: Any, length: int | None) -> None:
    """A handshake with a body: daphne waits for all of it, as long as a byte comes each minute.

    RFC 6455 knows of none, and uvicorn ends such a connection.
    """
    _daphne_got_length(request, length)
    upgrade = request.requestHeaders.getRawHeaders(b"upgrade", [b""])[0]
    if length != 0 and upgrade.lower() == b"websocket":
        request.channel._respondToBadRequestAndDisconnect()  # noqa: SLF001 - Twisted's own


def _log_action(server: Any, protocol: str, action: str, details: dict[str, Any]) -> None:
    """The access log: daphne prints the whole query of a request, also what is a token in it."""
    details = {**details, "path": redact(details["path"])}
    _daphne_log_action(server, protocol, action, details)


def _signalled(handler: Any, number: int, frame: Any = None) -> None:
    """The signals that end it: daphne waits for as long as anything hangs, a thread or its loop."""
    handler(number, frame)
    told_to_stop(frame)


def _kill_all_applications(server: Any) -> Deferred[object]:
    """The server's end: closes the ports, then our connections, and cancels what is left then.

    daphne goes on accepting connections, sends no close frames, cancels nobody if one connection
    has no application (KeyError), and stops waiting as soon as one has ended.
    """
    return Deferred.fromFuture(asyncio.ensure_future(_stop(server)))


async def _stop(server: Any) -> None:
    started = time.monotonic()
    seconds = server.application_close_timeout
    if settings.configured:
        seconds = conf.shutdown_timeout()
    for reader in _twisted.getReaders():
        if IListeningPort.providedBy(reader):
            reader.stopListening()
    await watch().stop(seconds)
    applications = [entry.get("application_instance") for entry in server.connections.values()]
    pending = [each for each in applications if each is not None and not each.done()]
    for application in pending:
        application.cancel()
    if pending:
        await asyncio.wait(pending, timeout=seconds - (time.monotonic() - started))
