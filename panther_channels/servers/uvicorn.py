"""Handshakes and frames that uvicorn leaves without an answer, or answers with a traceback.

Written for uvicorn 0.54 with its protocol "websockets-sansio", the default where `websockets` is
installed. Each mend is one function or class whose text says what uvicorn does without it, and has
a test that fails once uvicorn no longer needs it.
"""

import asyncio
import logging
import sys
import zlib
from collections.abc import Generator
from typing import Any

from django.conf import settings
from uvicorn.protocols.websockets import websockets_sansio_impl as implementation
from uvicorn.server import Server as UvicornServer
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader, PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import BINARY, CLOSE, PING, PONG, TEXT, Frame
from websockets.http11 import Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from panther_channels import conf, status
from panther_channels._hub.hub import hub
from panther_channels._socket.closing import too_large, too_many_fragments
from panther_channels.servers import short_messages as short
from panther_channels.servers.incoming import (
    MANY,
    OVERHEAD,
    TOO_MANY_CONTROL_FRAMES,
    ControlFrames,
    max_fragments,
    skip_to_close,
)
from panther_channels.servers.opening import Answer, Opening, plain_target, read, scope_of
from panther_channels.servers.shutdown import told_to_stop

# Of WS_SHUTDOWN_TIMEOUT: in it, a client has to take its close frame.
_FLUSHING = 0.7
_AT_LEAST = 1.0  # seconds for that, where the connections took all of the time
_ANSWERING = 2.0  # seconds for the clients to answer it
_LINGERING = 5.0  # seconds for what a client that did wrong still sends, and its answer
_MASK = 4  # bytes before the payload of a client

_Protocol: Any = implementation.WebSocketsSansIOProtocol
_uvicorn_connection_made = _Protocol.connection_made
_uvicorn_handle_connect = _Protocol.handle_connect
_uvicorn_send = _Protocol.send
_uvicorn_start_keepalive = _Protocol.start_keepalive
_uvicorn_resume_writing = _Protocol.resume_writing
_uvicorn_handle_parser_exception = _Protocol.handle_parser_exception
_uvicorn_connection_shutdown = _Protocol.shutdown
_recv_frame = ServerProtocol.recv_frame
_Server: Any = UvicornServer
_uvicorn_handle_exit = _Server.handle_exit
_uvicorn_shutdown = _Server.shutdown


def install() -> None:
    """Mends uvicorn in this process. A second call does nothing."""
    _Protocol.connection_made = _connection_made
    _Protocol.handle_connect = _handle_connect
    _Protocol.data_received = _data_received
    _Protocol.receive = _receive
    _Protocol.send = _send
    _Protocol.start_keepalive = _start_keepalive
    _Protocol.handle_ping = _handle_ping
    _Protocol.resume_writing = _resume_writing
    _Protocol.handle_parser_exception = _handle_parser_exception
    _Protocol.shutdown = _connection_shutdown
    _Server.handle_exit = _handle_exit
    _Server.shutdown = _shutdown
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
    opening = read(data)
    if opening is not None and protocol.conn.take(opening):
        _begin(protocol, opening)
        return
    protocol.data_received(data)
    if protocol.conn.handshake_exc is not None and not protocol.handshake_initiated:
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.transport.close()


def _begin(protocol: Any, opening: Opening) -> None:
    """In place of uvicorn's ``handle_connect()``, whose scope is what `websockets` has parsed."""
    protocol.response = protocol.conn.answer
    protocol.handshake_initiated = True
    protocol.scope = scope_of(protocol, opening)
    protocol.queue.put_nowait({"type": "websocket.connect"})
    task = protocol.loop.create_task(protocol.run_asgi())
    task.add_done_callback(protocol.on_task_complete)
    protocol.tasks.add(task)


def _handle_connect(protocol: Any, request: Any) -> None:
    """A target in absolute-form, or with a fragment: uvicorn hands all of it on as the path.

    For HTTP, httptools leaves out what is neither path nor query; with h11, uvicorn does the same
    to HTTP.
    """
    request.path = plain_target(protocol.config, request.path)
    _uvicorn_handle_connect(protocol, request)


# What is read, and when


def _data_received(protocol: Any, data: bytes) -> None:
    """In place of uvicorn's.

    What comes behind a handshake that isn't answered yet: uvicorn reads it without a limit.
    """
    conn = protocol.conn
    reader = conn.reader
    reader.unhandled = 0  # nothing is read while messages wait
    if not (reader.buffer or reader.is_held or reader.is_partial):
        data = _take_short(protocol, data)
        if not data:
            return
    conn.receive_data(data)
    if conn.parser_exc is not None:
        protocol.handle_parser_exception()
        return
    protocol.handle_events()
    if reader.is_held:
        if protocol.handshake_complete:
            reader.owner = protocol  # for send_close()
        if not protocol.read_paused and len(reader.buffer) > MANY:
            protocol.read_paused = True
            protocol.transport.pause_reading()


def _take_short(protocol: Any, data: bytes) -> bytes:
    """Take short messages off the front of what has come, without the parser; returns the rest.

    That makes up for what our limits cost.
    """
    conn, reader, start = protocol.conn, protocol.conn.reader, 0
    if conn.debug or conn.extensions or conn.state is not State.OPEN:
        return data
    try:
        for kind, message, end in short.short_messages(data, conn.limit):
            key, content = ("text", message.decode()) if kind == short.TEXT else ("bytes", message)
            protocol.queue.put_nowait({"type": "websocket.receive", key: content})
            start = end
            reader.unhandled += OVERHEAD + len(message)
            if reader.unhandled > MANY and end < len(data):
                reader.is_held = True
                break
    except UnicodeDecodeError:
        pass  # the parser says what is wrong with it
    if start and not protocol.read_paused:
        protocol.read_paused = True
        protocol.transport.pause_reading()
    return data[start:]


async def _receive(protocol: Any) -> Any:
    """In place of uvicorn's, which only knows of what has been parsed."""
    message = await protocol.queue.get()
    if protocol.read_paused and protocol.queue.empty():
        reader = protocol.conn.reader
        if not (reader.is_held or reader.is_choked):
            protocol.read_paused = False
            protocol.transport.resume_reading()
        elif protocol.handshake_complete:
            _parse_on(protocol)
    return message


async def _send(protocol: Any, message: Any) -> None:
    """In place of uvicorn's, for short messages: `websockets` makes five objects for a frame."""
    conn = protocol.conn
    if (
        message["type"] == "websocket.send"
        and protocol.handshake_complete
        and protocol.writable.is_set()
        and not (protocol.disconnected or protocol.close_sent or conn.extensions or conn.debug)
        and conn.state is State.OPEN
    ):
        text, data, kind = message.get("text"), message.get("bytes"), short.BINARY
        if data is None and text is not None:
            data, kind = text.encode(), short.TEXT
        if data is not None and (frame := short.short_frame(kind, data)) is not None:
            protocol.transport.write(frame)
            return
    await _uvicorn_send(protocol, message)


def _start_keepalive(protocol: Any) -> None:
    """The handshake has been accepted: what came behind it is parsed now."""
    _uvicorn_start_keepalive(protocol)
    if protocol.conn.reader.buffer:
        _parse_on(protocol)


def _parse_on(protocol: Any) -> None:
    """Parse what was held, and read again if nothing waits for the application then."""
    reader = protocol.conn.reader
    reader.is_held, reader.owner = False, None
    if not protocol.transport.is_closing():
        protocol.data_received(b"")
    if protocol.read_paused and protocol.queue.empty() and not reader.is_choked:
        protocol.read_paused = False
        protocol.transport.resume_reading()


def _handle_ping(protocol: Any) -> None:
    """A client that pings and doesn't read: uvicorn keeps all the pongs.

    Only a ping stops reading, and no message: of a client that writes all its messages before it
    reads any, nothing would ever come to an end.
    """
    output = protocol.conn.data_to_send()
    if protocol.close_sent:
        return
    protocol.transport.write(b"".join(output))
    if not protocol.writable.is_set():
        protocol.conn.reader.is_choked = True
        if not protocol.read_paused:
            protocol.read_paused = True
            protocol.transport.pause_reading()


def _resume_writing(protocol: Any) -> None:
    """The client has taken the pongs."""
    _uvicorn_resume_writing(protocol)
    if protocol.conn.reader.is_choked:
        protocol.conn.reader.is_choked = False
        if protocol.queue.empty():
            _parse_on(protocol)


# Closes


def _handle_parser_exception(protocol: Any) -> None:
    """A client that did wrong: uvicorn closes the transport at once.

    What the client is still sending resets the connection then, and the close frame is lost. This
    is called again for all data that comes afterwards.
    """
    conn, transport = protocol.conn, protocol.transport
    if not protocol.close_sent:
        protocol.handle_events()  # what came before it, of which some may be as bad
    if not protocol.close_sent:
        if conn.parser_exc is None:  # text that isn't UTF-8, which uvicorn finds
            conn.parser_exc = sys.exception()
            conn.fail(status.WS_1007_INVALID_FRAME_PAYLOAD_DATA)
        close = conn.close_sent
        message = {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
        protocol.queue.put_nowait(message)
        transport.write(b"".join(conn.data_to_send()))
        protocol.close_sent = True
        if protocol.read_paused:
            protocol.read_paused = False
            transport.resume_reading()
        if transport.can_write_eof():  # all but TLS: who reads the end needn't wait for ours
            transport.write_eof()
        protocol.close_timer = protocol.loop.call_later(_LINGERING, transport.close)
    if conn.is_answered:
        transport.close()


async def _shutdown(server: Any, sockets: Any = None) -> None:
    """The end of the server: uvicorn closes all connections at once, and all clients come back.

    It waits for those that are still open: for ever where a client doesn't read, and over TLS for
    half a minute where it doesn't answer, as who writes without end.
    """
    loop = asyncio.get_running_loop()
    seconds, started = conf.shutdown_timeout(), loop.time()
    for listening in (*server.servers, *(sockets or ())):
        listening.close()
    stopping = asyncio.ensure_future(hub().stop(seconds))
    while not (stopping.done() or server.force_exit):  # by a second signal
        await asyncio.wait({stopping}, timeout=0.1)
    stopping.cancel()
    left = seconds * _FLUSHING - (loop.time() - started)
    loop.call_later(max(left, _AT_LEAST), _abort_all, server)
    await _uvicorn_shutdown(server, sockets)


def _connection_shutdown(protocol: Any) -> None:
    """The same, of a connection that is closing: uvicorn doesn't wait for the client's answer.

    It resets the connection then, and nginx has an error in its log.
    """
    if protocol.close_timer is None:
        _uvicorn_connection_shutdown(protocol)
    else:
        protocol.close_timer.cancel()
        end = protocol.transport.close
        protocol.close_timer = protocol.loop.call_later(_ANSWERING, end)


def _abort_all(server: Any) -> None:
    for protocol in list(server.server_state.connections):
        if isinstance(protocol, _Protocol) or hasattr(protocol, "asgi_transport"):
            protocol.transport.abort()


def _handle_exit(server: Any, number: int, frame: Any) -> None:
    """The signals that end it: uvicorn waits for ever for a hook that swallows cancellations."""
    _uvicorn_handle_exit(server, number, frame)
    told_to_stop(frame)


class _Reader(StreamReader):
    """What has come and isn't parsed.

    `websockets` parses all that has come, and inflates it: of compressible text, a thousand times
    what was read.

    Attributes:
        is_held: whether the parser, which asks before each frame, has to wait.
        is_choked: whether reading waits until the client has taken its pongs.
        is_partial: whether a message has begun whose end has not come.
        unhandled: bytes of messages that were parsed, and may wait for the application.
        fragments: how many the message has so far.
        control_frames: counts them.
        owner: uvicorn's protocol, while messages are held.
    """

    # Of the class, and of no other object: most connections need none of their own.
    is_held = True  # from the request until it is answered
    is_choked = is_partial = False
    unhandled = fragments = 0
    control_frames: ControlFrames | None = None
    owner: Any = None

    def at_eof(self) -> Generator[None, None, bool]:
        while self.is_held or not self.buffer:
            if self.eof and not self.buffer:
                return True
            yield
        return False


class _RefusedError(ProtocolError):
    """What RFC 6455 doesn't forbid a client, but we do."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _ServerProtocol(ServerProtocol):
    """The parser of frames, which `websockets` has brought.

    Attributes:
        is_answered: whether the client's close frame has come.
    """

    reader: _Reader
    is_answered = False
    # Bytes of a frame that is too large which have not come yet. Of other faults nobody knows: that
    # may be the head of a frame, in the middle of which `websockets` has stopped.
    _unread: int | None = None

    def __init__(self, *, max_size: int | None = None, **options: Any) -> None:
        """The size of a message: uvicorn takes up to 16 MiB before we see how much it is.

        `websockets` takes no compressed message of exactly the largest size: zlib then has
        something left to say, and for zlib a limit of 0 is none. What can't be compressed is larger
        on the way than it is. So the parser lets a bit more through.
        """
        if settings.configured:
            limit = conf.max_message_size()
            max_size = limit if max_size is None else min(max_size, limit)
        self.limit = sys.maxsize if max_size is None else max_size
        parsed = None if max_size is None else max_size + max_size // 4 + 1024
        super().__init__(max_size=parsed, **options)
        # The parser has begun, and takes the reader with it.
        vars(self)["reader"].__class__ = _Reader

    def take(self, opening: Opening) -> bool:
        """Go on behind the handshake; ``False`` where `websockets` has something to say to it."""
        negotiated = None
        if self.debug:
            return False
        if opening.extensions is not None and self.available_extensions:
            offered = Headers([("Sec-WebSocket-Extensions", opening.extensions.decode("latin-1"))])
            try:
                negotiated, self.extensions = self.process_extensions(offered)
            except InvalidHeader:
                return False
        self.answer = Answer(opening.accept, negotiated)
        self.parser = Protocol.parse(self)  # of frames
        next(self.parser)
        return True

    def send_response(self, response: Response) -> None:
        """The answer to the handshake: frames behind it are none before it is accepted.

        `websockets` parses them at once, and uvicorn has a traceback for each that is wrong.
        """
        self.reader.is_held = False
        super().send_response(response)

    def recv_frame(self, frame: Frame) -> None:
        """Limits; and in place of `websockets`', a message of one frame, as most are."""
        opcode, size = frame.opcode, len(frame.data)
        is_whole = frame.fin and (opcode is TEXT or opcode is BINARY) and self.current_size is None
        if is_whole and size <= self.limit:
            self.reader.unhandled += size + OVERHEAD
            self.events.append(frame)
        else:
            self._check(frame)
            _recv_frame(self, frame)
        if self.reader.unhandled > MANY and self.state is State.OPEN:
            self.reader.is_held = True
        if self.extensions:
            self._begin_anew()

    def _check(self, frame: Frame) -> None:
        opcode, reader = frame.opcode, self.reader
        if opcode is PING or opcode is PONG:
            reader.control_frames = reader.control_frames or ControlFrames()
            if reader.control_frames.are_too_many():
                raise _RefusedError(status.WS_1008_POLICY_VIOLATION, TOO_MANY_CONTROL_FRAMES)
        elif opcode is CLOSE:
            self.is_answered = True
            self.current_size = None  # a message may be left unfinished; `websockets` fails then
        else:
            size = len(frame.data) + (self.current_size or 0)
            if size > self.limit:
                raise _RefusedError(status.WS_1009_MESSAGE_TOO_BIG, too_large(self.limit))
            reader.is_partial = not frame.fin
            if frame.fin:
                reader.fragments = 0
                reader.unhandled += size + OVERHEAD
                return
            reader.fragments += 1
            if reader.fragments >= max_fragments(self.limit):
                reason = too_many_fragments(max_fragments(self.limit))
                raise _RefusedError(status.WS_1009_MESSAGE_TOO_BIG, reason)

    def _begin_anew(self) -> None:
        """A message that ends its deflate stream, as RFC 7692 section 7.2.3.4 lets it.

        To `websockets`, all that follows is empty; zlib collects it.
        """
        for extension in self.extensions:
            if isinstance(extension, PerMessageDeflate):
                decoder = getattr(extension, "decoder", None)
                if decoder is not None and decoder.eof:
                    extension.decoder = zlib.decompressobj(-extension.remote_max_window_bits)

    def fail(self, code: int, reason: str = "") -> None:
        """A client that did wrong: our own codes, and reasons that are the same on all servers."""
        error = sys.exception()
        if isinstance(error, _RefusedError):
            code = error.code
        elif isinstance(error, PayloadTooBig):
            reason = too_large(self.limit)
            if error.size is not None:  # None: of a compressed message, all of it has come
                self._unread = _MASK + error.size
        self.reader.is_held = False
        super().fail(code, reason)

    def discard(self) -> Generator[None]:
        """After a failure: `websockets` overlooks the client's close frame."""
        if self.state is State.CLOSING and not self.is_answered:
            return self._discard_to_close()
        return super().discard()

    def _discard_to_close(self) -> Generator[None]:
        yield from skip_to_close(self.reader.buffer, self._unread)
        self.is_answered = True
        yield from super().discard()

    def send_close(self, code: int | None = None, reason: str = "") -> None:
        """Text that is not UTF-8, and behind it a close frame, which was read before.

        uvicorn closes what is closing already, and the exception ends the transport.
        """
        is_bad_text = code == status.WS_1007_INVALID_FRAME_PAYLOAD_DATA
        if self.state is State.OPEN or not is_bad_text:
            super().send_close(code, reason)
        if self.reader.is_held:  # the client's answer may have come
            protocol = self.reader.owner
            protocol.loop.call_soon(_parse_on, protocol)


class _OneLine(logging.Filter):
    """Text that is not UTF-8: every client could fill the log with tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == "Invalid UTF-8 sequence received from client.":
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True
