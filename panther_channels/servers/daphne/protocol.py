"""What daphne leaves out of ASGI's WebSocket messages, mended in the process that runs daphne.

Written for daphne 4.2.3 with autobahn 26.10.2. Each mend is one function or attribute whose text
says what daphne does without it, and has a test that fails once daphne no longer needs it.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

# First, for it installs the reactor that runs on asyncio; autobahn alone would take another one.
from daphne.server import Server  # isort: skip
from autobahn.websocket.protocol import WebSocketProtocol as AutobahnProtocol
from daphne import ws_protocol
from django.conf import settings
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport

from panther_channels import conf, status
from panther_channels._hub.hub import hub
from panther_channels.servers.answers import Denial, checked, close_of
from panther_channels.servers.daphne import quiet
from panther_channels.servers.daphne import server as daphne_server
from panther_channels.servers.daphne.flow import SEND_LIMIT, FlowProtocol, IncomingQueue
from panther_channels.servers.incoming import MANY
from panther_channels.servers.opening import origin_form
from panther_channels.servers.short_messages import BINARY, TEXT

logger = logging.getLogger("panther_channels")

# An address that may have a port; one of IPv6 has brackets then.
_FORWARDED = re.compile(r"(?:\[(.+)\]|([^:]+))(?::([0-9]{1,5}))?")
_DEAF = 5.0  # seconds after WS_CONNECT_TIMEOUT, in which hooks are cancelled again and again

_daphne_create_application = Server.create_application


def install() -> None:
    """Mends daphne in this process: every connection that is made from here on.

    A second call does nothing, and where daphne is imported but does not serve, the first neither.
    """
    if issubclass(ws_protocol.WebSocketFactory.protocol, WebSocketProtocol):
        return
    ws_protocol.WebSocketFactory.protocol = WebSocketProtocol
    Server.create_application = _create_application
    FileDescriptor.SEND_LIMIT = SEND_LIMIT
    daphne_server.install()
    quiet.install()
    # For autobahn, a client that answers our 1014 with the same has broken the protocol.
    if status.WS_1014_BAD_GATEWAY not in AutobahnProtocol.CLOSE_STATUS_CODES_ALLOWED:
        AutobahnProtocol.CLOSE_STATUS_CODES_ALLOWED.append(status.WS_1014_BAD_GATEWAY)


class WebSocketProtocol(FlowProtocol):
    """daphne's protocol with its omissions mended."""

    muted: bool
    data: bytes
    # Of the request, before autobahn sees it.
    target = b""
    origin: bytes | None = None
    # The answer of a refusal, once it was begun.
    denial: Denial | None = None
    _is_late = False  # the answer, by daphne's limit

    # autobahn answers a client's close frame with 1000, so that 1000 is what the client's own code
    # sees; RFC 6455 section 5.5.1 echoes what was received.
    echoCloseCodeReason = True  # noqa: N815

    def processHandshake(self) -> None:  # noqa: N802
        """The path: autobahn takes the target of the request apart as a URL, which it needn't be.

        It drops ``;x`` of the last segment, takes the first part of ``//host/path`` for a host, and
        refuses a ``#``. For HTTP, daphne's path is all up to the query, and a proxy's rule sees it.
        The origin: autobahn answers 400 where there is no host in it, as in an app's ``app://``.

        And what comes behind a handshake that isn't answered yet: autobahn keeps it without a
        limit, and takes a second request for another handshake.
        """
        if hasattr(self, "handshake_deferred"):
            if len(self.data) > MANY and hasattr(self, "application_queue"):
                self.set_reading(False)
            return
        method, self.target, rest = self.data.split(b" ", 2)
        head, has_origin, rest = rest.partition(b"\r\nOrigin: ")
        if has_origin:
            self.origin, _, rest = rest.partition(b"\r\n")
            rest = b"null\r\n" + rest
        self.data = b"%b / %b%b%b" % (method, head, has_origin, rest)
        super().processHandshake()

    def onConnect(self, request: Any) -> Deferred[Any]:  # noqa: N802
        """As above; and subprotocols that are not ASCII: daphne fails on them with a traceback."""
        request.path = self.target.partition(b"?")[0].decode("ascii")
        if self.origin is not None:
            request.headers["origin"] = self.origin.decode("latin-1")
        name = "sec-websocket-protocol"
        if name in request.headers:
            request.headers[name] = request.headers[name].encode("ascii", "ignore").decode()
        offered: Deferred[Any] = super().onConnect(request)
        return offered

    def onOpenHandshakeTimeout(self) -> None:  # noqa: N802
        """An application that doesn't answer: autobahn resets the connection.

        Ours refuses the client after WS_CONNECT_TIMEOUT, which may be more than daphne's limit.
        """
        self.openHandshakeTimeoutCall = None
        if self.state != self.STATE_CONNECTING:
            return
        application = self.server.connections[self].get("application_instance")
        if application in hub().connections and not self._is_late:
            self._is_late = True
            later = asyncio.get_running_loop().call_later
            call = later(conf.connect_timeout() + _DEAF, self.onOpenHandshakeTimeout)
            self.openHandshakeTimeoutCall = call  # cancelled by autobahn
        else:
            self.denial = Denial(status.HTTP_503_SERVICE_UNAVAILABLE, ())
            self.denial.is_whole = True
            self.serverReject()

    def check_timeouts(self) -> None:
        """The limit of a handshake again, every two seconds: with daphne's, an answer of 403."""
        if self.state != self.STATE_CONNECTING:
            super().check_timeouts()

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
        if text is not None:
            self.send_message(TEXT, text.encode())
        elif data is not None:
            self.send_message(BINARY, data)

    def _close(self, message: dict[str, Any]) -> None:
        """Close codes and reasons: daphne drops reasons, autobahn refuses codes 1001 to 1014."""
        code, reason = close_of(message)
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
            self.denial = Denial(message.get("status"), message.get("headers") or ())
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
        """Where the refusal comes out of autobahn; its own answer has neither headers nor body.

        Of an exception, it tells the client all.
        """
        if code == status.HTTP_500_INTERNAL_SERVER_ERROR:
            reason = "Internal Server Error"
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


def _header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """ASGI's headers as autobahn takes them, which writes UTF-8 and checks nothing."""
    values: dict[str, list[str]] = {}
    for name, value in checked(headers):
        values.setdefault(name.decode(), []).append(value.decode())
    return values


def _create_application(server: Any, protocol: Any, scope: dict[str, Any]) -> Any:
    """In place of `Server.create_application`, which alone sees the scope and starts the task.

    The root path: daphne takes it from the header Daphne-Root-Path of whoever sends one, and with
    it a client can have a path served that a proxy in front of us does not let through.

    The address: some proxies write the client's port into X-Forwarded-For, and daphne takes
    "1.2.3.4:5000" for a host. So every connection would be of another client.

    The path: of a target in absolute-form, daphne takes all of it.
    """
    if not (settings.configured and conf.trust_daphne_root_path()):
        scope["root_path"] = server.root_path
    if not scope["path"].startswith("/"):
        raw_path = origin_form(scope["raw_path"].decode("ascii"))
        scope["path"], scope["raw_path"] = unquote(raw_path), raw_path.encode("ascii")
    client = scope["client"]
    is_forwarded = client and server.proxy_forwarded_address_header
    if is_forwarded and (found := _FORWARDED.fullmatch(client[0])) is not None:
        six, other, port = found.groups()
        client[:] = [six or other, int(port or client[1])]  # in place: the protocol logs it
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
