"""Handshakes and frames that uvicorn leaves without an answer, or answers with a traceback.

Written for uvicorn 0.54 with its protocol "websockets-sansio", the default where `websockets` is
installed. Each mend is one function or class whose text says what uvicorn does without it, and has
a test that fails once uvicorn no longer needs it.
"""

import itertools
import logging
import sys
from typing import Any

from django.conf import settings
from uvicorn.protocols.websockets import websockets_sansio_impl as implementation
from uvicorn.server import Server as UvicornServer
from websockets.exceptions import PayloadTooBig
from websockets.protocol import State
from websockets.server import ServerProtocol

from panther_channels import conf, status
from panther_channels._state import too_large
from panther_channels._watch import seconds_to_close
from panther_channels.servers._last_resort import told_to_stop

# Of WS_SHUTDOWN_TIMEOUT: in it, a client has to take its close frame.
_FLUSHING = 0.7
_LINGERING = 2.0  # seconds for the rest of a message that is too large, and the client's answer
_MASK = 4  # bytes before the payload of a client

_Protocol: Any = implementation.WebSocketsSansIOProtocol
_uvicorn_connection_made = _Protocol.connection_made
_uvicorn_handle_connect = _Protocol.handle_connect
_uvicorn_shutdown = _Protocol.shutdown
_uvicorn_handle_parser_exception = _Protocol.handle_parser_exception
_Server: Any = UvicornServer
_uvicorn_handle_exit = _Server.handle_exit


def install() -> None:
    """Mends uvicorn in this process. A second call does nothing."""
    _Protocol.connection_made = _connection_made
    _Protocol.handle_connect = _handle_connect
    _Protocol.shutdown = _shutdown
    _Protocol.handle_parser_exception = _handle_parser_exception
    _Server.handle_exit = _handle_exit
    vars(implementation)["ServerProtocol"] = _ServerProtocol
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(present, _OneLine) for present in logger.filters):
        logger.addFilter(_OneLine())


def _connection_made(protocol: Any, transport: Any) -> None:
    """The first data, which is the whole request; the rest doesn't pass through here."""
    _uvicorn_connection_made(protocol, transport)
    protocol.data_received = lambda data: _request_received(protocol, data)


def _request_received(protocol: Any, data: bytes) -> None:
    """A request with a line, or more headers, than `websockets` takes.

    That has an answer ready, but uvicorn neither sends it nor closes the connection.
    """
    del protocol.data_received
    protocol.data_received(data)
    if protocol.conn.handshake_exc is not None and not protocol.handshake_initiated:
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.transport.close()


def _handle_connect(protocol: Any, request: Any) -> None:
    """A target with a scheme and host, or with a fragment: for HTTP, httptools leaves these out.

    uvicorn hands the whole target to a WebSocket as its path.
    """
    if not request.path.startswith("/") or "#" in request.path:
        # Of h11, uvicorn takes the whole target for HTTP, too.
        http = sys.modules[protocol.config.http_protocol_class.__module__]
        if hasattr(http, "httptools"):
            request.path = _path_and_query(http.httptools, request.path)
    _uvicorn_handle_connect(protocol, request)


def _path_and_query(httptools: Any, target: str) -> str:
    try:
        url = httptools.parse_url(target.encode())
    except httptools.HttpParserError:
        return target
    if url.path is None:
        return target
    query = b"" if url.query is None else b"?" + url.query
    return str((url.path + query).decode())


def _handle_parser_exception(protocol: Any) -> None:
    """Too large a message: uvicorn closes the transport at once.

    What the client is still sending resets the connection then, and the close frame is lost. This
    is called again for all data that comes afterwards.
    """
    close = protocol.conn.close_sent
    if close.code != status.WS_1009_MESSAGE_TOO_BIG:
        _uvicorn_handle_parser_exception(protocol)
    elif protocol.close_sent:
        if protocol.conn.unread < 0:  # the client has answered
            protocol.transport.close()
    else:
        protocol.handle_events()  # what came before it
        message = {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        protocol.queue.put_nowait(message)
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        protocol.close_timer = protocol.loop.call_later(_LINGERING, protocol.transport.close)


def _shutdown(protocol: Any) -> None:
    """The end of the server: uvicorn closes all connections at once, and all clients come back.

    It waits for those that are still open: for ever where a client doesn't read, and over TLS for
    half a minute where it doesn't answer, as who writes without end.
    """
    seconds = conf.shutdown_timeout()
    protocol.loop.call_later(seconds * _FLUSHING, _abort_if_open, protocol)
    stopping = vars(protocol.config)  # one of all connections of the server
    if "panther_channels" not in stopping:
        count = len(protocol.connections)
        spread = seconds_to_close(count, seconds)
        stopping["panther_channels"] = (spread / count, itertools.count())
    pause, numbers = stopping["panther_channels"]
    if pause:
        protocol.loop.call_later(pause * next(numbers), _shutdown_if_open, protocol)
    else:
        _uvicorn_shutdown(protocol)


def _shutdown_if_open(protocol: Any) -> None:
    if protocol in protocol.connections:
        _uvicorn_shutdown(protocol)


def _abort_if_open(protocol: Any) -> None:
    if protocol in protocol.connections:
        protocol.transport.abort()


def _handle_exit(server: Any, number: int, frame: Any) -> None:
    """The signals that end it: uvicorn waits for ever for a hook that swallows cancellations."""
    _uvicorn_handle_exit(server, number, frame)
    told_to_stop(frame)


class _ServerProtocol(ServerProtocol):
    """The parser of frames, which `websockets` has brought.

    Attributes:
        unread: how many bytes of a message that is too large have not come yet.
    """

    unread = 0

    def __init__(self, *, max_size: int | None = None, **options: Any) -> None:
        """The size of a message: uvicorn takes up to 16 MiB before we see how much it is."""
        if settings.configured:
            limit = conf.max_message_size()
            max_size = limit if max_size is None else min(max_size, limit)
        super().__init__(max_size=max_size, **options)

    def fail(self, code: int, reason: str = "") -> None:
        """Too large a message: the reason is the same on all servers."""
        error = sys.exception()
        if isinstance(error, PayloadTooBig) and self.max_message_size is not None:
            reason = too_large(self.max_message_size)
            if error.size is not None:  # None: of a compressed message, all of it has come
                self.unread = _MASK + error.size - len(self.reader.buffer)
                vars(self)["receive_data"] = self._receive_rest
        super().fail(code, reason)

    def _receive_rest(self, data: bytes | bytearray) -> None:
        """What comes after it is not parsed, but counted."""
        self.unread -= len(data)
        super().receive_data(data)

    def send_close(self, code: int | None = None, reason: str = "") -> None:
        """Text that is not UTF-8, and behind it a close frame, which was read before.

        uvicorn closes what is closing already, and the exception ends the transport.
        """
        is_bad_text = code == status.WS_1007_INVALID_FRAME_PAYLOAD_DATA
        if self.state is State.OPEN or not is_bad_text:
            super().send_close(code, reason)


class _OneLine(logging.Filter):
    """Text that is not UTF-8: every client could fill the log with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == "Invalid UTF-8 sequence received from client.":
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True
