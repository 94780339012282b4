"""How much daphne lets wait for a slow reader, and how much of a fast writer, per connection.

Written for daphne 4.2.3 with autobahn 26.10.2, as `protocol.py`, which builds on this. daphne
itself has no limit on either side, and one for the size of a message that holds for both.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.tcp import Connection

from panther_channels import conf, status
from panther_channels._socket.closing import too_large, too_many_fragments
from panther_channels._socket.transport import acknowledged
from panther_channels.servers.daphne.quiet import QuietProtocol
from panther_channels.servers.incoming import (
    MANY,
    OVERHEAD,
    TOO_MANY_CONTROL_FRAMES,
    ControlFrames,
    max_fragments,
    skip_to_close,
)
from panther_channels.servers.short_messages import BINARY, short_frame, short_messages

# Bytes that go out in one turn of the event loop. Twisted's 128 KiB are less than asyncio reads in
# a turn: of a burst that comes over Redis, more and more would wait for a client that is fast.
SEND_LIMIT = 1024 * 1024

_PARTS = 1024  # of a frame, until they are joined


class FlowProtocol(QuietProtocol):
    """daphne's protocol, which waits for its client, and lets its client wait."""

    # Not what daphne's command line says. 0 is no limit; that of messages is set when it opens.
    maxMessagePayloadSize = maxFramePayloadSize = 0  # noqa: N815
    # A close frame says what was wrong; without it the client sees a lost connection.
    failByDrop = False  # noqa: N815
    # Seconds that a client has to answer a close frame. After autobahn's 1, one that is busy is
    # reset, and may never see the frame.
    closeHandshakeTimeout = 5  # noqa: N815

    application_queue: "IncomingQueue"
    data: bytes
    frame_data: list[bytes]
    _is_full: asyncio.Event | None = None  # set when it is no more
    _is_reading = True
    _unhandled = 0  # bytes for the application
    _is_choked = False  # by pongs that wait for the client
    _max_fragments = 0
    _rest: Iterator[None] | None = None  # skips what a client that did wrong still sends
    _taken_at_ping = 0
    _reset: asyncio.TimerHandle | None = None  # of TCP, where it doesn't end

    # What is sent

    def onOpen(self) -> None:  # noqa: N802
        """The producer: it is the HTTP protocol's, which made the connection, but sends no more."""
        limit = conf.max_message_size() if settings.configured else 1024 * 1024
        self.maxMessagePayloadSize = limit
        self._max_fragments = max_fragments(limit)
        self._control_frames = ControlFrames()
        self.transport.unregisterProducer()
        self.transport.registerProducer(_Producer(self), True)
        self._is_reading = False  # the HTTP protocol may have stopped it
        self.set_reading(True)
        super().onOpen()

    async def reply(self, message: dict[str, Any]) -> None:
        """In place of `Server.handle_reply`, ASGI's `send()`: on daphne it never waits.

        Raises:
            OSError: the connection has ended while this waited.
        """
        if self._is_full is not None and message.get("type") == "websocket.send":
            await self._drained()
        self.handle_reply(message)

    async def _drained(self) -> None:
        while self._is_full is not None:  # of several that wait, the first fills it again
            await self._is_full.wait()
        if self.state != self.STATE_OPEN:
            raise ConnectionError("the connection has ended")

    def set_full(self, is_full: bool) -> None:
        """Called by the transport, through its producer."""
        if is_full and self._is_full is None:
            self._is_full = asyncio.Event()
        elif not is_full and self._is_full is not None:
            self._is_full.set()
            self._is_full = None
            if self._is_choked:
                self._is_choked = False
                if self.application_queue.empty():
                    self.set_reading(True)

    def sendCloseFrame(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """The end: who waits to send has nothing to wait for, and the client's answer is read."""
        super().sendCloseFrame(*args, **kwargs)
        self.set_full(False)
        self.set_reading(True)

    def dropConnection(self, abort: bool = False) -> None:  # noqa: N802
        """The end of TCP after our close frame: autobahn resets the connection.

        By RFC 6455 section 7.1.1 it is closed, and a client that is told of a reset may take that
        for the end, instead of the close frame. Who doesn't end TLS is reset after all.
        """
        super().dropConnection(abort and not self.closedByMe)
        if self.transport.connected:
            self._reset_later()

    def _reset_later(self) -> None:
        later = asyncio.get_running_loop().call_later
        self._reset = later(self.closeHandshakeTimeout, self._reset_now)

    def _reset_now(self) -> None:
        if self.asgi_transport.waiting():  # for that there is WS_SEND_TIMEOUT
            self._reset_later()
        else:
            self.asgi_transport.abort()

    def onClose(self, *args: Any) -> None:  # noqa: N802
        """The end of TCP: a transport that is aborted doesn't tell its producer."""
        if self._reset is not None:
            self._reset.cancel()
        self.set_full(False)
        super().onClose(*args)

    @property
    def asgi_transport(self) -> "_DaphneTransport":
        """What :func:`panther_channels._socket.transport.find` finds."""
        return _DaphneTransport(self)

    def send_message(self, kind: int, data: bytes) -> None:
        """Write a message.

        Args:
            kind: TEXT or BINARY.
            data: what it says.
        """
        frame = None if self.send_queue else short_frame(kind, data)
        if frame is None:
            self.sendFrame(opcode=kind, payload=data)
        elif rest := self._write_at_once(frame):
            self.transport.write(rest)

    def _write_at_once(self, frame: bytes) -> bytes:
        """Write where nothing waits, and return the rest.

        Twisted writes when its reactor finds that there is room, which costs more than the message.
        """
        to = self.transport
        is_idle = isinstance(to, Connection) and to.connected and not to.disconnecting  # no TLS
        if not is_idle or _waiting_in(to):
            return frame
        written = to.writeSomeData(frame)
        return frame[written:] if isinstance(written, int) else frame  # what is lost, Twisted finds

    # What comes in

    def processData(self) -> bool:  # noqa: N802
        """Messages that have come whole, and are short, without autobahn."""
        if self.current_frame is None and not self.inside_message and self.state == self.STATE_OPEN:
            self._take_messages()
        more: bool = super().processData()
        return more

    def _take_messages(self) -> None:
        start, data = 0, self.data
        try:
            for kind, message, end in short_messages(data, self.maxMessagePayloadSize):
                self.onMessage(message, kind == BINARY)
                start = end
                if self.state != self.STATE_OPEN:
                    break
        except UnicodeDecodeError:
            pass  # autobahn says what is wrong with it
        finally:
            if start:
                self.data = data[start:]

    def _max_message_size_exceeded(self, *_sizes_and_reason: object) -> None:
        """Too large a message: the reason is the same on all servers."""
        reason = too_large(self.maxMessagePayloadSize)
        self._fail_connection(status.WS_1009_MESSAGE_TOO_BIG, reason)

    def onMessageFrameBegin(self, length: int) -> None:  # noqa: N802
        """A message that never ends, of fragments with nothing in them."""
        super().onMessageFrameBegin(length)
        if len(self.message_data) >= self._max_fragments and not self.failedByMe:
            reason = too_many_fragments(self._max_fragments)
            self._fail_connection(status.WS_1009_MESSAGE_TOO_BIG, reason)

    def onMessageFrameData(self, payload: bytes) -> None:  # noqa: N802
        """A frame that comes byte by byte: autobahn has an object for each."""
        if not self.failedByMe:
            self.frame_data.append(payload)
            if len(self.frame_data) >= _PARTS:
                self.frame_data = [b"".join(self.frame_data)]

    def onMessageFrame(self, payload: list[bytes]) -> None:  # noqa: N802
        """The same for its fragments."""
        self.message_data.append(b"".join(payload))

    def _fail_connection(self, code: int, reason: str) -> None:
        """A client that did wrong: at its second fault, autobahn closes TCP at once.

        What the client is still sending resets the connection then, and the close frame is lost.
        """
        if self.state == self.STATE_CLOSING:
            self.failedByMe = True
            return
        super()._fail_connection(code, reason)
        if not ISSLTransport.providedBy(self.transport):  # who reads the end needn't wait for ours
            self.transport.loseWriteConnection()

    def consumeData(self) -> None:  # noqa: N802
        """What comes after a fault: autobahn parses it, and keeps a control frame of any size."""
        if not self.failedByMe or self.state != self.STATE_CLOSING:
            super().consumeData()
            return
        if self._rest is None:
            frame = self.current_frame
            unread = frame.length - self.current_frame_masker.pointer() if frame else 0
            self._skipped = bytearray()
            self._rest = skip_to_close(self._skipped, unread)
        self._skipped += self.data
        self.data = b""
        if next(self._rest, self) is self:
            self.onCloseFrame(None, None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """A fast writer: daphne queues everything that it sends."""
        if self.muted or self.state != self.STATE_OPEN:
            return
        self.last_ping = time.time()
        queue = self.application_queue
        waiting = 0 if queue.empty() else self._unhandled
        if isBinary:
            queue.put_nowait({"type": "websocket.receive", "bytes": payload})
        else:
            queue.put_nowait({"type": "websocket.receive", "text": payload.decode()})
        self._unhandled = waiting = waiting + len(payload) + OVERHEAD
        if waiting > MANY:
            self.set_reading(False)

    def set_reading(self, is_reading: bool) -> None:
        """Let the client wait until the application has taken all messages, or not any more."""
        if is_reading != self._is_reading:
            self._is_reading = is_reading
            self.application_queue.is_held = not is_reading
            (self.transport.resumeProducing if is_reading else self.transport.pauseProducing)()

    def read_on(self) -> None:
        """The application has taken all messages."""
        if not self._is_choked and self.state != self.STATE_CONNECTING:
            self.set_reading(True)

    # Pings

    def onPing(self, payload: bytes) -> None:  # noqa: N802
        """A client that pings and doesn't read: autobahn keeps all the pongs.

        Only a ping stops reading, and no message: of a client that writes all its messages before
        it reads any, nothing would ever come to an end.
        """
        self._count_control_frame()
        super().onPing(payload)
        if self._is_full is not None and self.state == self.STATE_OPEN:
            self._is_choked = True
            self.set_reading(False)

    def onPong(self, payload: bytes) -> None:  # noqa: N802
        """One that nobody asked for counts, too."""
        self._count_control_frame()
        super().onPong(payload)

    def _count_control_frame(self) -> None:
        if self._control_frames.are_too_many():
            self._fail_connection(status.WS_1008_POLICY_VIOLATION, TOO_MANY_CONTROL_FRAMES)

    def _sendAutoPing(self) -> None:  # noqa: N802
        """A second ping: for autobahn, what answers the first is no answer then."""
        if self.autoPingTimeoutCall is None:
            self._taken_at_ping = self.asgi_transport.taken()
            super()._sendAutoPing()

    def onAutoPingTimeout(self) -> None:  # noqa: N802
        """A slow client: its ping waits behind data, or its pong where nothing is read.

        Who takes data in the meantime is alive.
        """
        taken = self.asgi_transport.taken()
        if self._is_reading and taken <= self._taken_at_ping:
            super().onAutoPingTimeout()
            return
        self._taken_at_ping = taken
        self.autoPingTimeoutCall = self.factory._batched_timer.call_later(
            self.autoPingTimeout, self.onAutoPingTimeout
        )


class IncomingQueue(asyncio.Queue[dict[str, Any]]):
    """The application's queue, which lets its protocol read again when it is empty.

    `_get` is one of the methods that asyncio has for subclasses to override.
    """

    is_held = False  # whether the protocol waits for that

    def __init__(self, protocol: FlowProtocol) -> None:
        super().__init__()
        self._protocol = protocol

    @property
    def asgi_transport(self) -> "_DaphneTransport":
        """Found by ``receive``, where a middleware has wrapped ``send``."""
        return self._protocol.asgi_transport

    def _get(self) -> dict[str, Any]:
        message: dict[str, Any] = super()._get()
        if self.is_held and self.empty():
            self._protocol.read_on()
        return message


class _Producer:
    """What Twisted's transport tells about its buffer."""

    def __init__(self, protocol: FlowProtocol) -> None:
        self._protocol = protocol

    def pauseProducing(self) -> None:  # noqa: N802
        self._protocol.set_full(True)

    def resumeProducing(self) -> None:  # noqa: N802
        self._protocol.set_full(False)

    def stopProducing(self) -> None:  # noqa: N802
        self._protocol.set_full(False)


def _waiting_in(transport: Any) -> int:
    return len(transport.dataBuffer) - int(transport.offset) + int(transport._tempDataLen)


class _DaphneTransport:
    """The transport of a connection; see :class:`panther_channels._socket.transport.Transport`."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: FlowProtocol) -> None:
        self._protocol = protocol

    def waiting(self) -> int:
        transport = self._protocol.transport  # over TLS, it looks through to that of TCP
        if not transport.connected:
            return 0
        return _waiting_in(transport)

    def taken(self) -> int:
        acked = acknowledged(getattr(self._protocol.transport, "socket", None))
        return -self.waiting() if acked is None else acked

    def unblock(self) -> None:
        """Nothing waits: a close frame goes out at once."""

    def abort(self) -> None:
        if self._protocol.transport.connected:  # else over TLS there is nothing that could end
            self._protocol.transport.abortConnection()
