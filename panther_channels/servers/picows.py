"""A WebSocket protocol for uvicorn whose frames are parsed and written in C, by `picows`.

::

    uvicorn --ws panther_channels.servers.picows:PicowsProtocol project.asgi:application

It serves any ASGI application, with what :mod:`panther_channels.servers.uvicorn` mends of uvicorn's
own. It doesn't offer ``permessage-deflate``. Written for picows 2.3 and uvicorn 0.54.
"""

import asyncio
import logging
import os
import struct
import sys
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from django.conf import settings

try:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport
    from picows.picows import WSAutoPingStrategy, WSProtocol  # type: ignore[attr-defined]
    from picows.version import __version__
    from websockets.http11 import Request
    from websockets.server import ServerProtocol
except ImportError as error:
    missing = f"{error.name} is missing: python -m pip install 'panther-channels[fast]'"
    raise ImportError(missing) from None
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)

from panther_channels import conf, status
from panther_channels._socket.closing import (
    RESTART,
    shortened_detail,
    too_large,
    too_many_fragments,
)
from panther_channels._socket.transport import acknowledged
from panther_channels.servers.answers import Denial, checked, close_of
from panther_channels.servers.incoming import (
    LARGEST_CLOSE,
    MANY,
    OVERHEAD,
    TOO_MANY_CONTROL_FRAMES,
    ControlFrames,
    ends_in_close,
    max_fragments,
)
from panther_channels.servers.opening import Answer, Opening, plain_target, read, scope_of

_TEXT, _BINARY, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE
_PING, _PONG, _CONTINUATION = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CONTINUATION

# Bytes at once. picows parses all of them, and Python makes fifty times as much of tiny messages.
_PIECE, _MOST_PIECES = 16 * 1024, 4
_SMALL, _LARGE = 4096, 128 * 1024  # buffers: one that stays, and one that doesn't wait for a ping
_CLOSING = 10.0  # seconds for the client's close frame, as in uvicorn
_STOPPING = 2.0  # seconds for that while the server stops
_LINGERING = 5.0  # seconds for what a client that did wrong still sends
_CLOSE_FRAME = 0x88  # its first byte
_PLAIN = (b"Content-Type", b"text/plain; charset=utf-8")
# picows wants a handshake of its own: its answer goes nowhere.
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

# Its protocol has no public side: another version may take other arguments.
if not __version__.startswith("2.3."):
    raise ImportError(
        f"picows {__version__} is none that this protocol was written for: "
        "python -m pip install 'panther-channels[fast]'"
    )

logger = logging.getLogger("uvicorn.error")


class PicowsProtocol(WSListener):
    """One connection, as uvicorn makes it of a request to upgrade.

    Args:
        config: of uvicorn.
        server_state: of uvicorn.
        app_state: what the lifespan has left for the application.
    """

    # Not a dict: there may be many thousands of them.
    __slots__ = (
        *("app", "app_state", "asgi_version", "client", "root_path", "scheme", "server"),
        *("scope", "transport", "_answer", "_close_timer", "_config", "_control", "_denial"),
        *("_fragments", "_has_failed", "_has_grown", "_is_choked", "_is_lost", "_is_open"),
        *("_is_paused", "_kind", "_limit", "_loop", "_parser", "_ping", "_ping_timer", "_queue"),
        *("_size", "_skipped", "_state", "_taken", "_unhandled", "_unread"),
        *("_waiter", "_writable", "_ws"),
    )

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any]) -> None:
        self.app = config.loaded_app
        self.app_state = app_state
        self.asgi_version = config.asgi_version
        self.root_path = config.root_path
        self._config, self._state = config, server_state
        self._loop = asyncio.get_running_loop()
        self._limit = sys.maxsize if config.ws_max_size is None else config.ws_max_size
        if settings.configured:
            self._limit = min(self._limit, conf.max_message_size())
        self._answer: Answer | None = None  # to the handshake, until it is given
        self._denial: Denial | None = None  # a refusal of several messages, as it grows
        self._ws: WSTransport | None = None  # from accept() on
        self._parser: Any = None
        self._is_open = self._is_lost = self._is_paused = False
        self._is_choked = False  # by pongs that its client doesn't take
        self._has_grown = False  # the parser's buffer, by a large message
        self._queue: deque[dict[str, Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._unhandled = 0  # bytes of what waits for the application
        self._writable: asyncio.Event | None = None  # where the transport is full
        self._unread: bytes = b""  # what came before accept()
        self._fragments: list[bytes] | None = None
        self._kind: Any = None  # of the message whose fragments they are
        self._size = 0  # of them all
        self._control: ControlFrames | None = None
        self._has_failed = False
        self._skipped = b""  # the end of what came after that
        self._close_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._ping: bytes | None = None  # that has no answer yet
        self._taken = 0  # bytes by the client, when it was sent, or the close

    # The handshake

    def connection_made(self, transport: Any) -> None:
        """Called by uvicorn with the transport of the request."""
        self.transport = transport
        self.server, self.client = get_local_addr(transport), get_remote_addr(transport)
        self.scheme = "wss" if is_ssl(transport) else "ws"
        self._state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The request, whole; then what comes before it is answered, or after a failure."""
        if self._has_failed:
            self._skip(data)
        elif self._answer is not None:
            self._unread += data
            self._pause()
        elif not self._is_lost and (opening := read(data) or self._read_unusual(data)):
            self._begin(opening)

    def _read_unusual(self, data: bytes) -> Opening | None:
        """A request that `websockets` understands, or refuses."""
        conn = ServerProtocol()
        conn.receive_data(data)
        for request in conn.events_received():
            if isinstance(request, Request):
                response = conn.accept(request)
                if response.status_code == status.HTTP_101_SWITCHING_PROTOCOLS:
                    offered = request.headers.get_all("Sec-WebSocket-Protocol")
                    return Opening(
                        plain_target(self._config, request.path).encode(),
                        [
                            (name.lower().encode(), value.encode("latin-1"))
                            for name, value in request.headers.raw_items()
                        ],
                        response.headers["Sec-WebSocket-Accept"],
                        [each.strip() for value in offered for each in value.split(",")],
                        None,
                    )
                conn.send_response(response)
        self._is_lost = True
        self.transport.write(b"".join(conn.data_to_send()))
        self._close_transport()
        return None

    def _begin(self, opening: Opening) -> None:
        self._answer = Answer(opening.accept, None)
        self.scope = scope_of(self, opening)
        self._queue.append({"type": "websocket.connect"})
        task = self._loop.create_task(self._run())
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    async def _run(self) -> None:
        try:
            result = await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            self._end(status.WS_1000_NORMAL_CLOSURE)
        except BaseException:
            logger.exception("Exception in ASGI application\n")
            self._end(status.WS_1011_INTERNAL_ERROR)
        else:
            if self._answer is not None:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
            self._end(status.WS_1000_NORMAL_CLOSURE)

    def _end(self, code: int, reason: str = "") -> None:
        """The application has ended, or the server stops."""
        if self._answer is not None:
            self._respond(Denial(500, [_PLAIN]), b"Internal Server Error")
        elif self._is_open:
            self._close(code, reason.encode())

    def _accept(self, answer: Answer, message: Any) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol and subprotocol not in self.scope["subprotocols"]:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        headers = [*self._state.default_headers, *checked(message.get("headers") or ())]
        pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in headers]
        if subprotocol:
            pairs.append(("Sec-WebSocket-Protocol", subprotocol))
        self._answer = None
        answer.update(pairs)
        self._log("[accepted]")
        self.transport.write(answer.serialize())
        self._is_open = True
        self._parse_anew()
        unread, self._unread = self._unread, b""
        self._resume()
        self._feed(unread)
        self._schedule_ping()

    def _parse_anew(self) -> Any:
        """A parser with an empty buffer; that of a large message would stay as large."""
        stand_in = _StandIn(self.transport, self._parser_failed)
        self._parser = _Parser(
            *(None, None, False, lambda _request: self, stand_in, False, None),
            *(False, 1, 1, WSAutoPingStrategy.PING_WHEN_IDLE, False, self._limit, None, 0),
        )
        self._parser.connection_made(stand_in)
        self._feed(_HANDSHAKE)
        self._has_grown = stand_in.is_deaf = False
        self.transport.set_protocol(self._parser)
        return self._parser

    def _feed(self, data: bytes) -> None:
        while data and not self._has_failed:
            buffer = self._parser.get_buffer(-1)  # of another parser, maybe
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self._parser.buffer_updated(size)
            data = data[size:]

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows, whose handshake is over."""
        self._ws = transport

    # What comes in

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows for each frame."""
        kind = frame.msg_type
        if self._has_grown:
            parser = self._parser
            parser.is_used_up = frame.last_in_buffer and not frame.tail_size
            parser.pieces = 0
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(status.WS_1002_PROTOCOL_ERROR, "reserved bits must be 0")
        elif self._fragments is None and frame.fin and (kind is _TEXT or kind is _BINARY):
            size = frame.payload_size
            if not self._is_open:
                return
            if kind is _BINARY:
                self._put(
                    {"type": "websocket.receive", "bytes": frame.get_payload_as_bytes()}, size
                )
                return
            try:
                text = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                self._fail(status.WS_1007_INVALID_FRAME_PAYLOAD_DATA)
            else:
                self._put({"type": "websocket.receive", "text": text}, size)
        elif not self._has_failed:
            self._take_other(kind, frame)

    def _take_other(self, kind: WSMsgType, frame: WSFrame) -> None:
        if kind is _CLOSE:
            self._take_close(frame)
        elif kind is _PING or kind is _PONG:
            self._control = self._control or ControlFrames()
            if self._control.are_too_many():
                self._fail(status.WS_1008_POLICY_VIOLATION, TOO_MANY_CONTROL_FRAMES)
            elif kind is _PONG:
                self._take_pong(frame.get_payload_as_bytes())
            elif self._is_open and self._ws is not None:
                self._ws.send(_PONG, frame.get_payload_as_bytes())
                if self._writable is not None:
                    # Only a ping stops reading: of a client that writes all its messages before it
                    # reads any, nothing would ever come to an end.
                    self._is_choked = True
                    self._pause()
        elif (kind is _CONTINUATION) is (self._fragments is None):
            self._fail(status.WS_1002_PROTOCOL_ERROR, "unexpected data frame")
        else:
            self._take_fragment(kind, frame)

    def _take_fragment(self, kind: WSMsgType, frame: WSFrame) -> None:
        if self._fragments is None:
            self._fragments, self._kind, self._size = [], kind, 0
        self._fragments.append(frame.get_payload_as_bytes())
        self._size += frame.payload_size
        if self._size > self._limit:
            self._fail(status.WS_1009_MESSAGE_TOO_BIG, too_large(self._limit))
        elif frame.fin:
            data, self._fragments = b"".join(self._fragments), None
            try:
                content = data if self._kind is _BINARY else data.decode()
            except UnicodeDecodeError:
                self._fail(status.WS_1007_INVALID_FRAME_PAYLOAD_DATA)
                return
            key = "bytes" if self._kind is _BINARY else "text"
            if self._is_open:
                self._put({"type": "websocket.receive", key: content}, self._size)
        elif len(self._fragments) >= (most := max_fragments(self._limit)):
            self._fail(status.WS_1009_MESSAGE_TOO_BIG, too_many_fragments(most))

    def _put(self, message: dict[str, Any], size: int) -> None:
        self._queue.append(message)
        if self._waiter is not None:
            self._wake()
        self._unhandled += size + OVERHEAD
        if self._unhandled > MANY and not self._is_paused:
            self._pause()

    def _put_disconnect(self, code: int, reason: str) -> None:
        self._is_open = False
        self._queue.append({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """ASGI's: the next message. Canceling is safe; several may wait."""
        queue = self._queue
        while not queue:
            self._unhandled = 0
            if not self._is_choked:
                self._resume()
            if self._is_lost:
                return {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            waiter = self._waiter
            if waiter is None or waiter.done():
                self._waiter = waiter = self._loop.create_future()
                await waiter
            else:  # another one's, which this one may not cancel
                await asyncio.wait({waiter})
        return queue.popleft()

    def _pause(self) -> None:
        self._is_paused = True
        self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    # What goes out

    async def send(self, message: Any) -> None:
        """ASGI's.

        Raises:
            ClientDisconnected: an ``OSError``; the connection has ended.
            RuntimeError: the message isn't legal now.
        """
        while self._writable is not None:
            await self._writable.wait()
        if self._is_open and message["type"] == "websocket.send":
            data = message.get("bytes")
            if data is None:
                if (data := message.get("text")) is None:
                    raise ValueError("a websocket.send message has either bytes or text")
                self._ws.send(_TEXT, data)  # type: ignore[union-attr]
            else:
                self._ws.send(_BINARY, data)  # type: ignore[union-attr]
        else:
            self._send_other(message["type"], message)

    def _send_other(self, kind: str, message: Any) -> None:
        if self._is_lost or self.transport.is_closing():
            raise ClientDisconnected
        if self._answer is None:
            if not self._is_open:
                raise RuntimeError(f"Unexpected ASGI message {kind!r}, after the end.")
            if kind != "websocket.close":
                raise ValueError("the socket is already accepted")
            self._close(*close_of(message))
        elif kind.startswith("websocket.http.response."):
            self._deny(kind, message)
        elif self._denial is not None:
            raise ValueError(f"a response was begun: its body must follow, not {kind}")
        elif kind == "websocket.accept":
            self._accept(self._answer, message)
        elif kind == "websocket.close":
            self._log("403")
            self._respond(Denial(403, [_PLAIN]))
        else:
            raise ValueError(f"Socket has not been accepted, so {kind} is not legal.")

    def _deny(self, kind: str, message: Any) -> None:
        if kind == "websocket.http.response.start":
            if self._denial is not None:
                raise ValueError("the response was begun already")
            self._denial = Denial(message.get("status"), message.get("headers") or ())
            self._log(str(self._denial.code))
        elif self._denial is None:
            raise ValueError("there is no response yet that this could be the body of")
        else:
            self._denial.body += message.get("body", b"")
            if not message.get("more_body", False):
                self._respond(self._denial)

    def _respond(self, denial: Denial, body: bytes = b"") -> None:
        """Refuse the handshake."""
        denial.headers.insert(0, (b"Date", formatdate(usegmt=True).encode()))
        denial.body += body
        self._answer = self._denial = None
        self._is_lost = True
        self._wake()
        self.transport.write(bytes(denial))
        self._close_transport()

    def pause_writing(self) -> None:
        """Called by the transport, which is full."""
        if self._writable is None:
            self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Called by the transport, which has room again."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None
            if self._is_choked:
                self._is_choked = False
                if not self._queue:
                    self._resume()

    # The end

    def _take_close(self, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        code = int.from_bytes(payload[:2]) if payload else status.WS_1005_NO_STATUS_RCVD
        if payload and not status.is_sendable(code):
            self._fail(status.WS_1002_PROTOCOL_ERROR, "invalid close code", is_last=True)
            return
        if self._is_open:
            self._is_lost = True
            self._put_disconnect(code, payload[2:].decode())  # picows has looked at it
            self._write_close(payload)
        self._close_transport()

    def _close_transport(self) -> None:
        """Who doesn't take what is still to be sent would keep it for ever."""
        self.transport.close()
        self.resume_writing()
        self._give_up_in(_CLOSING)

    def _close(self, code: int, reason: bytes) -> None:
        self._put_disconnect(code, reason.decode())
        self._write_close(struct.pack("!H", code) + reason)
        self._resume()
        self._give_up_in(_CLOSING)

    def _give_up_in(self, seconds: float) -> None:
        self._cancel_timers()
        self._taken = self.taken() if self.waiting() else 0
        self._close_timer = self._loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        """The client has neither answered nor gone; one that is slow gets what waits for it."""
        if self.waiting() and self.taken() > self._taken:
            self._give_up_in(_CLOSING)
        else:
            self.transport.abort()

    def _write_close(self, payload: bytes) -> None:
        # picows writes none after a failure, and never one without a code.
        self.transport.write(bytes((_CLOSE_FRAME, len(payload))) + payload)

    def _parser_failed(self, code: int, reason: str) -> None:
        """The parser, which looks one frame ahead: the message before it is handed over first."""
        is_too_large = code == status.WS_1009_MESSAGE_TOO_BIG
        is_last = reason.startswith("Received CLOSE")
        reason = too_large(self._limit) if is_too_large else reason
        self._loop.call_soon(lambda: self._fail(code, reason, is_last=is_last))

    def _fail(self, code: int, reason: str = "", *, is_last: bool = False) -> None:
        """A client that did wrong: it is told so, and what it still sends is read.

        What isn't read would reset the connection, and the close frame be lost.

        Args:
            code: of the close frame.
            reason: of that.
            is_last: whether nothing more comes, since it was the client's close frame.
        """
        if self._has_failed or self.transport.is_closing():
            return
        reason = shortened_detail(reason)
        if self._is_open:
            self._put_disconnect(code, reason)
            self._write_close(struct.pack("!H", code) + reason.encode())
        self._has_failed, self._is_lost, self._unread = True, True, b""
        transport = self.transport
        transport.set_protocol(self)
        self._resume()
        self.resume_writing()
        if transport.can_write_eof():  # all but TLS
            transport.write_eof()
        elif is_last:
            transport.close()
        self._give_up_in(_LINGERING)

    def _skip(self, data: bytes) -> None:
        """Throw away what comes, up to the client's close frame."""
        self._skipped = (self._skipped + data)[-LARGEST_CLOSE:]
        if ends_in_close(self._skipped):
            self.transport.close()

    def eof_received(self) -> None:
        """The client has ended: the transport is closed."""

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """Called by picows, as the transport's protocol."""
        self.connection_lost(None)

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the transport."""
        self._state.connections.discard(self)
        self._is_open, self._is_lost, self._answer = False, True, None
        self._wake()
        self._cancel_timers()
        self.resume_writing()
        # They know each other, and would be for the garbage collector.
        self._ws = self._parser = None

    def shutdown(self) -> None:
        """Called by uvicorn, which stops."""
        if self._answer is not None or self._is_open:
            self._end(RESTART.code, RESTART.reason)
        elif self._close_timer is None:
            self.transport.close()
        if self._close_timer is not None:
            self._give_up_in(_STOPPING)

    def _cancel_timers(self) -> None:
        for timer in (self._ping_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._ping_timer = self._close_timer = None

    # Pings

    def _schedule_ping(self) -> None:
        if self._config.ws_ping_interval:
            self._ping_timer = self._loop.call_later(self._config.ws_ping_interval, self._send_ping)

    def _send_ping(self) -> None:
        if self._is_open and self._ws is not None:
            if self._parser.is_used_up:  # by a message that was not so large, a while ago
                self._parse_anew()
            self._ping, self._taken = os.urandom(4), self.taken()
            self._ws.send(_PING, self._ping)
            self._wait_for_pong()

    def _wait_for_pong(self) -> None:
        if not self._config.ws_ping_timeout:
            self._schedule_ping()
        else:
            self._ping_timer = self._loop.call_later(self._config.ws_ping_timeout, self._miss_pong)

    def _take_pong(self, payload: bytes) -> None:
        if payload == self._ping:
            self._ping = None
            if self._config.ws_ping_timeout and self._ping_timer is not None:
                self._ping_timer.cancel()
                self._schedule_ping()

    def _miss_pong(self) -> None:
        # The ping of a slow client waits behind data, and while reading is paused its pong may
        # have come: who takes data is alive.
        taken = self.taken()
        if self._is_paused or taken > self._taken:
            self._taken = taken
            self._wait_for_pong()
        elif self._is_open:
            self._close(status.WS_1011_INTERNAL_ERROR, b"keepalive ping timeout")
            self.transport.close()

    # What ASGI does not tell, for panther_channels._socket.transport

    @property
    def asgi_transport(self) -> "PicowsProtocol":
        """Itself."""
        return self

    def waiting(self) -> int:
        """How many bytes wait in this process until the client takes them."""
        return int(self.transport.get_write_buffer_size())

    def taken(self) -> int:
        """A number that grows when the client takes bytes."""
        acked = acknowledged(self.transport.get_extra_info("socket"))
        return -self.waiting() if acked is None else acked

    def unblock(self) -> None:
        """Let whoever waits in ``send()`` go on."""
        self.resume_writing()

    def abort(self) -> None:
        """End the connection now, without what waits."""
        self.transport.abort()

    def _log(self, what: str) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        scope: Any = self.scope
        where = (get_client_addr(scope), get_path_with_query_string(scope))
        logger.info('%s - "WebSocket %s" %s', *where, what)


class _Parser(WSProtocol):  # type: ignore[misc] # has no types
    """The protocol of picows, which reads into its buffer.

    Attributes:
        is_used_up: whether the buffer has grown, and nothing has come since it was empty.
        pieces: how many it reads at once; more for each read that brings no end of a frame.
    """

    is_used_up = False
    pieces = 0

    def get_buffer(self, size: int) -> Any:
        """Where the transport reads to: a bounded piece, however large the buffer is."""
        buffer = super().get_buffer(size)
        if self.is_used_up:
            self.is_used_up = False
            if len(buffer) > _LARGE:
                return self.listener._parse_anew().get_buffer(size)  # noqa: SLF001 - of this file
        if len(buffer) > _SMALL:
            self.listener._has_grown = True  # noqa: SLF001
            self.pieces = min(self.pieces + 1, _MOST_PIECES)
            return buffer[: _PIECE * self.pieces]
        return buffer


class _StandIn:
    """What picows sees in place of a transport, its socket and a logger.

    picows sets options that no Unix socket has, closes the transport a moment after a failure, and
    tells of a failure in its log alone, before it writes a close frame of its own.

    Attributes:
        is_deaf: whether what picows writes goes nowhere: the answer to its handshake, and what it
            says after a failure.
    """

    __slots__ = ("_failed", "_gate", "get_write_buffer_size", "is_deaf", "transport")

    def __init__(self, transport: Any, failed: Callable[[int, str], None]) -> None:
        self.transport = transport
        self.is_deaf = True
        self._failed = failed
        # Where there is something in it, picows doesn't write to the socket itself. It asks for
        # every frame, and a list is faster asked than a transport, or than any function of ours.
        self._gate = [0]
        self.get_write_buffer_size = self._gate.__len__

    def write(self, data: bytes) -> None:
        """Called by picows where there is something in the gate, or the socket is full."""
        if not (self.is_deaf or self.transport.is_closing()):  # asyncio would warn
            self.transport.write(data)
            self._gate[:] = [0] if self.transport.get_write_buffer_size() else []

    def writelines(self, data: list[bytes]) -> None:
        """The same, for large messages in any case: a header, which is overwritten by the next.

        Not by the transport's own writelines(), after which asyncio pauses nobody in Python 3.12.0
        to 3.12.8, 3.13.0 and 3.13.1 (CVE-2024-12254).
        """
        self.write(b"".join(data))

    def get_extra_info(self, name: str) -> Any:
        return self.transport.get_extra_info(name) if name == "ssl_object" else self

    def fileno(self) -> Any:
        return self.transport.get_extra_info("socket").fileno()

    def setsockopt(self, *_option: int) -> None: ...

    def getsockopt(self, *_option: int) -> int:
        return 0

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802 - of a logger
        return False

    def info(self, *_message: Any) -> None: ...

    debug = warning = log = info

    def error(self, _text: str, arguments: Any) -> None:
        self._gate[:], self.is_deaf = [0], True
        self._failed(int(arguments[0]), str(arguments[1]))

    def exception(self, text: str) -> None:
        self._gate[:], self.is_deaf = [0], True
        logger.error("picows: %s", text, exc_info=sys.exception())
        self._failed(status.WS_1011_INTERNAL_ERROR, "")
