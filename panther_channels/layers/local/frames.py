"""The bytes between processes: frames, without the sockets that carry them.

A frame is four bytes of length, big-endian, and as many bytes of msgpack: an array of a kind, the
name of a channel or group, and a payload. The payload is msgpack, too, but stays packed until
somebody receives it: most processes have no member of the group and drop it unseen.
"""

import enum
import struct
from collections.abc import Iterator
from typing import Any

import msgpack

#: Bytes that the body of a frame may have.
MAX_SIZE = 16 * 1024 * 1024

_LENGTH = struct.Struct(">I")


class Kind(enum.IntEnum):
    """What a frame asks of the process that gets it."""

    SEND = 1  # to one channel
    GROUP_SEND = 2  # to the members of a group
    GROUP_ADD = 3  # the payload is the group, the name the channel
    GROUP_DISCARD = 4
    FLUSH = 5


_KINDS = frozenset(Kind)


class FrameError(ValueError):
    """What came is no frame; nothing that comes after it can be understood."""


def pack(message: dict[str, Any]) -> bytes:
    """A message as a payload.

    Raises:
        TypeError: it is no dict, or holds what msgpack has no bytes for, such as a date.
        ValueError: an integer has more than 64 bits, or it is nested too deeply.
    """
    if not isinstance(message, dict):
        raise TypeError(f"A message is a dict, not {type(message).__name__}.")
    try:
        packed: bytes = msgpack.packb(message)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return packed


def unpack(payload: bytes) -> dict[str, Any]:
    """The message of a payload: a new one each time.

    Raises:
        ValueError: it holds none.
    """
    try:
        message = msgpack.unpackb(payload, strict_map_key=False)
    except TypeError as error:  # a list as a key
        raise ValueError(str(error)) from error
    if not isinstance(message, dict):
        raise ValueError(f"A message is a dict, not {type(message).__name__}.")  # noqa: TRY004
    return message


def encode(kind: Kind, name: str, payload: bytes = b"") -> bytes:
    """A frame.

    Raises:
        ValueError: it is too large.
    """
    body: bytes = msgpack.packb((int(kind), name, payload))
    if len(body) > MAX_SIZE:
        raise ValueError(
            f"A message of {len(payload):,} bytes is too large for the channel layer, which takes "
            f"{MAX_SIZE:,}: send a reference to it."
        )
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Cuts a stream of bytes into frames, wherever it was torn apart."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, str, bytes]]:
        """Take bytes, and yield kind, name and payload of every frame that is whole now.

        Raises:
            FrameError: what came is no frame; the frames before it were yielded.
        """
        buffer = self._buffer
        buffer += data
        start, size = _LENGTH.size, len(buffer)
        while size >= start:
            end = start + _LENGTH.unpack_from(buffer, start - _LENGTH.size)[0]
            if end - start > MAX_SIZE:
                raise FrameError(f"A frame of {end - start:,} bytes.")
            if end > size:
                break
            yield _body(buffer[start:end])
            start = end + _LENGTH.size
        del buffer[: start - _LENGTH.size]


def _body(data: bytearray) -> tuple[int, str, bytes]:
    try:
        kind, name, payload = msgpack.unpackb(data)
    except Exception as error:  # msgpack has many for what it can't read
        raise FrameError(f"A frame that can't be read: {error!r}") from error
    if not (isinstance(kind, int) and isinstance(name, str) and isinstance(payload, bytes)):
        raise FrameError("A frame with other fields.")
    if kind not in _KINDS:
        raise FrameError(f"A frame of the unknown kind {kind}.")
    return kind, name, payload
