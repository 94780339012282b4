"""A WebSocket client on a bare socket: requests, frames and ends that no library would send."""

import contextlib
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from tests.servers import Server

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    "Sec-WebSocket-Version": "13",
}


def request(
    target: bytes = b"/ws/echo",
    *lines: bytes,
    method: bytes = b"GET",
    host: bytes = b"127.0.0.1",
) -> bytes:
    """A handshake, with more header lines than it needs."""
    headers = (f"{name}: {value}".encode() for name, value in UPGRADE.items())
    start = (b"%s %s HTTP/1.1" % (method, target), b"Host: " + host)
    return b"\r\n".join([*start, *headers, *lines, b"", b""])


def frame(
    payload: bytes = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    extension_bits: int = 0,
    is_masked: bool = True,
    size: int = -1,
) -> bytes:
    """A frame of a client, masked with zeros; `size` is a length that needn't be true."""
    size = len(payload) if size < 0 else size
    first = (0x80 if fin else 0) | extension_bits << 4 | opcode
    bit = 0x80 if is_masked else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, bit | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) if is_masked else b"") + payload


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(struct.pack(">H", code) + reason, CLOSE)


def deflated(payload: bytes) -> bytes:
    """A message as RFC 7692 has it; each begins anew."""
    stream = zlib.compressobj(wbits=-12)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


class RawClient:
    """A connection, which is open unless it doesn't wait for the answer.

    Args:
        server: the server.
        target: of the request, or all of the request.
        lines: more lines of the request.
        behind: what is sent with the request.
        receive_buffer: bytes that the system takes for it; 0 lets the system choose.
        tls: whom it trusts to be example.com; without it, it speaks plain TCP.
        deflate: whether it offers to compress; `deflates` tells whether the server agreed.
        is_waiting: whether it waits for the answer, or leaves that to `open()`.
        timeout: seconds for everything that it waits for.

    Attributes:
        chunk: bytes that it reads at once.
        pause: seconds before each time.
    """

    chunk = 65536
    pause = 0.0

    def __init__(
        self,
        server: Server,
        target: str | bytes,
        *,
        lines: Sequence[bytes] = (),
        behind: bytes = b"",
        receive_buffer: int = 0,
        tls: ssl.SSLContext | None = None,
        deflate: bool = False,
        is_waiting: bool = True,
        timeout: float = 20.0,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((server.host, server.port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="example.com")
        if deflate:
            lines = [*lines, b"Sec-WebSocket-Extensions: permessage-deflate"]
        opening = request(target.encode(), *lines) if isinstance(target, str) else target
        self.socket.sendall(opening + behind)
        self.buffer = b""
        self._inflate = zlib.decompressobj(wbits=-15)
        if is_waiting:
            self.open()

    def open(self) -> None:
        """Read the answer to the handshake."""
        head = self.head()
        assert head.startswith("HTTP/1.1 101"), head
        self.deflates = "permessage-deflate" in head

    def head(self) -> str:
        """The answer to the handshake, whatever it is, without its body."""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self._read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def rest(self) -> bytes:
        """All that comes until the end."""
        with contextlib.suppress(EOFError):
            while True:
                self.buffer += self._read()
        return self.buffer

    def reset(self) -> None:
        """Leave as one whose machine has lost the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _read(self) -> bytes:
        time.sleep(self.pause)
        if not (data := self.socket.recv(self.chunk)):
            raise EOFError
        return data

    def send(self, payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> None:
        self.socket.sendall(frame(payload, opcode, fin=fin))

    def take(self, size: int) -> bytes:
        """The next bytes."""
        while len(self.buffer) < size:
            self.buffer += self._read()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def receive(self) -> tuple[int, bytes]:
        """The next frame: its opcode and payload. Pings are answered when they are reached."""
        while True:
            first, size = self.take(2)
            if size >= 126:
                size = int.from_bytes(self.take(2 if size == 126 else 8))
            payload = self.take(size)
            if first & 64:
                payload = self._inflate.decompress(payload + b"\0\0\xff\xff")
            if first & 15 != PING:
                return first & 15, payload
            self.send(payload, PONG)

    def closed(self) -> tuple[int, str]:
        """The close frame; what comes before it is thrown away."""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2]), payload[2:].decode()

    def end(self) -> tuple[int, str]:
        """The close frame, or (1006, "") where the connection ends without one."""
        try:
            return self.closed()
        except (ConnectionError, EOFError):
            return 1006, ""

    def flood(self, data: bytes, seconds: float, limit: int) -> int:
        """Write for as long as somebody takes it; how many bytes went out.

        Args:
            data: written again and again.
            seconds: ends when nothing was taken for so long.
            limit: bytes after which it ends.
        """
        self.socket.settimeout(seconds)
        sent, view, last = 0, memoryview(data), time.monotonic()
        with contextlib.suppress(TimeoutError):
            while sent < limit:
                sent += self.socket.send(view[sent % len(data) :])
                last = time.monotonic()
        assert time.monotonic() - last < seconds + 20
        self.socket.settimeout(20)
        return sent


@contextlib.contextmanager
def raw_client(server: Server, target: str | bytes, **options: Any) -> Iterator[RawClient]:
    client = RawClient(server, target, **options)
    try:
        yield client
    finally:
        client.socket.close()


def exchange(
    server: Server, opening: bytes, frames: bytes = b"", *, hang_up: bool = False
) -> bytes:
    """Sends a request, and after its answer some frames; what came until the end or the answer.

    Raises:
        TimeoutError: nothing came, or no end where frames were sent.
    """
    with raw_client(server, opening, is_waiting=False, timeout=10.0) as client:
        answer = b""
        try:
            answer = client.head().encode("latin-1")
            if frames:
                client.socket.sendall(frames)
                if hang_up:
                    client.socket.shutdown(socket.SHUT_WR)
                client.rest()
        except TimeoutError:
            raise
        except (EOFError, OSError):
            pass  # it is an end, too
        return answer + client.buffer
