"""A client that speaks bytes: what no well-behaved library would send."""

import socket
import struct

REQUEST = {
    b"Host": b"127.0.0.1",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": b"MDEyMzQ1Njc4OWFiY2RlZg==",
    b"Sec-WebSocket-Version": b"13",
}


def request(
    target: bytes = b"/ws/echo",
    *lines: bytes,
    method: bytes = b"GET",
    host: bytes = REQUEST[b"Host"],
) -> bytes:
    """A handshake, with more header lines than it needs."""
    headers = (b"%s: %s" % pair for pair in {**REQUEST, b"Host": host}.items())
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, target), *headers, *lines, b"", b""])


def frame(
    opcode: int, payload: bytes = b"", *, head: int = 0x80, mask: bool = True, size: int = -1
) -> bytes:
    """A frame; `head` are the bits beside the opcode, `size` is a length that needn't be true."""
    size = len(payload) if size < 0 else size
    bit = 0x80 if mask else 0
    if size < 126:
        start = bytes([head | opcode, bit | size])
    elif size < 65536:
        start = bytes([head | opcode, bit | 126]) + struct.pack(">H", size)
    else:
        start = bytes([head | opcode, bit | 127]) + struct.pack(">Q", size)
    return start + (bytes(4) if mask else b"") + payload


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(8, struct.pack(">H", code) + reason)


def exchange(
    port: int,
    opening: bytes,
    frames: bytes = b"",
    *,
    hang_up: bool = False,
    timeout: float = 10.0,
) -> bytes:
    """Sends a request, and after its answer some frames; what came until the end or the answer.

    Raises:
        TimeoutError: nothing came, or no end where frames were sent.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        try:
            client.sendall(opening)
            while b"\r\n\r\n" not in answer:
                if not (data := client.recv(65536)):
                    return answer
                answer += data
            if frames:
                client.sendall(frames)
                if hang_up:
                    client.shutdown(socket.SHUT_WR)
                while data := client.recv(65536):
                    answer += data
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise  # anything else is an end, too
    return answer
