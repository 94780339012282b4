"""A WebSocket client on a bare socket, which does what no client library does."""

import contextlib
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

from tests.servers import Server

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class RawClient:
    """A connection that is open.

    Args:
        server: the server.
        path: the path of the URL.
        receive_buffer: bytes that the system takes for it; 0 lets the system choose.
        tls: whom it trusts to be example.com; without it, it speaks plain TCP.
        deflate: whether it offers to compress; `deflates` tells whether the server agreed.
        is_waiting: whether it waits for the answer, or leaves that to `open()`.
    """

    def __init__(
        self,
        server: Server,
        path: str,
        *,
        receive_buffer: int = 0,
        tls: ssl.SSLContext | None = None,
        deflate: bool = False,
        is_waiting: bool = True,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect((server.host, server.port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="example.com")
        extra = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{extra}\r\n".encode()
        )
        self.buffer = b""
        if is_waiting:
            self.open()

    def open(self) -> None:
        """Read the answer to the handshake."""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self._read()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self.deflates = b"permessage-deflate" in head
        self._inflate = zlib.decompressobj(wbits=-15)

    def _read(self, size: int = 65536) -> bytes:
        data = self.socket.recv(size)
        if not data:
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
            if size == 126:
                size = struct.unpack("!H", self.take(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self.take(8))[0]
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
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

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


def frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, is_compressed: bool = False
) -> bytes:
    """A frame of a client, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([128 | size])
    elif size < 65536:
        length = bytes([128 | 126]) + struct.pack("!H", size)
    else:
        length = bytes([128 | 127]) + struct.pack("!Q", size)
    first = (128 if fin else 0) | (64 if is_compressed else 0) | opcode
    return bytes([first]) + length + bytes(4) + payload


def deflated(payload: bytes) -> bytes:
    """A message as RFC 7692 has it; each begins anew."""
    stream = zlib.compressobj(wbits=-12)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


@contextlib.contextmanager
def raw_client(server: Server, path: str, **options: Any) -> Iterator[RawClient]:
    client = RawClient(server, path, **options)
    try:
        yield client
    finally:
        client.socket.close()
