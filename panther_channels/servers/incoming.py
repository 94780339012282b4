"""How much of what one client sends a server bears; the same on all servers."""

import time
from collections.abc import Iterator

from panther_channels import status
from panther_channels._socket.closing import too_many_control_frames

MANY = 64 * 1024  # bytes that wait for the application until no more are read
OVERHEAD = 512  # bytes that Python needs for a message

# Pings and pongs. Clients ping every few seconds; ten times a second is still a tenth of this.
_CONTROL_FRAMES = 1000
_CONTROL_SECONDS = 10.0
TOO_MANY_CONTROL_FRAMES = too_many_control_frames(_CONTROL_FRAMES, _CONTROL_SECONDS)

# A fragment costs up to a hundred bytes, however few it brings. Browsers have some of 128 KiB.
_FRAGMENTS, _FRAGMENT_SIZE = 1024, 256

_CLOSE = 0x88  # the first byte
# Bytes of a close frame of a client.
_SMALLEST_CLOSE, LARGEST_CLOSE = 6, 6 + 125


def max_fragments(max_size: int) -> int:
    """How many fragments a message may have whose bytes have a limit."""
    return _FRAGMENTS + max_size // _FRAGMENT_SIZE


class ControlFrames:
    """Counts the pings and pongs of a connection, which no ``receive()`` and no throttle sees."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since = time.monotonic()

    def are_too_many(self) -> bool:
        """Called for each; the clock is asked for one in a thousand."""
        self._count += 1
        if self._count <= _CONTROL_FRAMES:
            return False
        now = time.monotonic()
        if now - self._since < _CONTROL_SECONDS:
            return True
        self._count, self._since = 0, now
        return False


def ends_in_close(data: bytes | bytearray) -> bool:
    """Whether the last that has come of a client is a close frame, behind which nothing comes."""
    tail = data[-LARGEST_CLOSE:]
    for start in range(len(tail) - _SMALLEST_CLOSE + 1):
        size = len(tail) - start - _SMALLEST_CLOSE
        if tail[start] == _CLOSE and tail[start + 1] == 128 + size:
            mask, code = tail[start + 2 : start + 4], tail[start + 6 : start + 8]
            # Random bytes are seldom a code, too.
            if not size or status.is_sendable(int.from_bytes(mask) ^ int.from_bytes(code)):
                return True
    return False


def skip_to_close(buffer: bytearray, unread: int | None = 0) -> Iterator[None]:
    """Throw away what a client sends after the server has begun to close, until its close frame.

    What isn't read makes the kernel reset the connection, and the client may never see why it was
    closed. Yields when it needs more bytes, and ends at the close frame.

    Args:
        buffer: what has come, to which the caller adds what comes.
        unread: bytes until the next frame begins; ``None`` where nobody knows.
    """
    while unread is None:
        if ends_in_close(buffer):
            return
        del buffer[:-LARGEST_CLOSE]
        yield
    while True:
        while len(buffer) < unread:
            unread -= len(buffer)
            buffer.clear()
            yield
        del buffer[:unread]
        while len(buffer) < 2 or len(buffer) < (head := _head_size(buffer[1])):
            yield
        first, size = buffer[0], buffer[1] & 127
        # What follows a fault may be anything: a close frame is one that is whole and masked.
        if first == _CLOSE and 128 <= buffer[1] <= 128 + 125:
            return
        if size > 125:
            size = int.from_bytes(buffer[2 : 4 if size == 126 else 10])
        unread = head + size


def _head_size(second: int) -> int:
    """Bytes before the payload of a frame, by its second byte."""
    extended = {126: 2, 127: 8}.get(second & 127, 0)
    return 2 + extended + (4 if second & 128 else 0)
