"""Messages of one short frame, read and written without the parser of a server in Python.

autobahn and `websockets` make some objects, or ask some generators, for every frame: for a message
of a hundred bytes that is most of what it costs. This takes what has come whole, and is right. All
else is theirs, with what follows it: control frames, fragments, long messages, and mistakes.
"""

from collections.abc import Callable, Iterator

# Of the first byte of a frame (RFC 6455 section 5.2): it is the last one, and without extensions.
WHOLE = 0x80
TEXT, BINARY = 1, 2
_IS_MASKED = 0x80  # a bit of the second byte; the rest of that is the size, or one of these
_IN_TWO_BYTES, _IN_EIGHT = 126, 127
_MASK = 4


def _unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    repeated = (mask * (size // _MASK + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(repeated)).to_bytes(size)


_apply_mask: Callable[[bytes, bytes], bytes]
try:
    from websockets.speedups import apply_mask as _apply_mask
except ImportError:
    # As bytes of a message grow, this takes longer than autobahn.
    _apply_mask, _LONGEST = _unmask, 512
else:
    _LONGEST = 4096


def short_messages(data: bytes, longest: int) -> Iterator[tuple[int, bytes, int]]:
    """What is at the front of that which a client has sent.

    Args:
        data: it, from the beginning of a frame on.
        longest: bytes that a message may have.

    Yields:
        For each message its kind, TEXT or BINARY; what it says; and where it ends in ``data``.
    """
    start, available, longest = 0, len(data), min(longest, _LONGEST)
    while available - start > 1 and data[start] in (WHOLE | TEXT, WHOLE | BINARY):
        size, mask = data[start + 1] - _IS_MASKED, start + 2
        if size == _IN_TWO_BYTES:
            size, mask = int.from_bytes(data[mask : start + 4]), start + 4
            if size < _IN_TWO_BYTES:  # it has as few bytes as can be
                return
        elif size == _IN_EIGHT:
            return
        payload = mask + _MASK
        end = payload + size
        if not 0 <= size <= longest or end > available:
            return
        yield data[start] & ~WHOLE, _apply_mask(data[payload:end], data[mask:payload]), end
        start = end


def short_frame(kind: int, data: bytes) -> bytes | None:
    """The frame of a message from a server; ``None`` where it is none of the short ones.

    Args:
        kind: TEXT or BINARY.
        data: what it says.
    """
    if len(data) < _IN_TWO_BYTES:
        return bytes((WHOLE | kind, len(data))) + data
    if len(data) <= _LONGEST:
        return bytes((WHOLE | kind, _IN_TWO_BYTES)) + len(data).to_bytes(2) + data
    return None
