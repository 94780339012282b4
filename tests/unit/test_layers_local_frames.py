import datetime
import itertools
import struct
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panther_channels.layers.local import frames as _frames
from panther_channels.layers.local.frames import Decoder, FrameError, Kind, encode, pack, unpack

FRAMES = [(Kind.GROUP_SEND, "group", b"payload"), (Kind.SEND, "a!b", b""), (Kind.FLUSH, "", b"")]
STREAM = b"".join(encode(*frame) for frame in FRAMES)


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def test_the_bytes_of_a_frame():
    assert encode(Kind.SEND, "c", b"p") == bytes.fromhex("00000007 93 01 a163 c40170")


def test_half_a_message_is_none_yet():
    decoder = Decoder()
    assert list(decoder.feed(STREAM[:-1])) == FRAMES[:-1]
    assert list(decoder.feed(b"")) == []
    assert list(decoder.feed(STREAM[-1:])) == FRAMES[-1:]


BODIES: list[Any] = [5, [1, "c"], [1, "c", b"", b""], [99, "c", b""], [[], "c", b""]]
BODIES += [[1, b"c", b""], [1, "c", "text"]]
GARBAGE = [
    *(b"\xff\xff\xff\xff", struct.pack(">I", _frames.MAX_SIZE + 1)),
    *map(framed, (b"", b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x91" * 2000)),
    *(framed(msgpack.packb(body)) for body in BODIES),
    framed(msgpack.packb([1, "c", b""]) + b"more"),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage(garbage):
    decoder = Decoder()
    frames = decoder.feed(encode(*FRAMES[0]) + garbage)
    assert next(frames) == FRAMES[0]
    with pytest.raises(FrameError):
        next(frames)


FIELDS = [st.integers(-2, 300), st.text() | st.binary(max_size=9), st.binary() | st.text()]
NEARLY = st.tuples(*FIELDS).map(msgpack.packb).map(framed)
WHOLE = st.builds(encode, st.sampled_from(Kind), st.text(), st.binary())
TORN = st.tuples(WHOLE | NEARLY, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])


@given(st.lists(WHOLE | NEARLY | TORN | st.binary(max_size=64), max_size=8))
def test_any_bytes_are_frames_or_a_frame_error(pieces):
    decoder = Decoder()
    with suppress(FrameError):
        for piece in pieces:
            for kind, name, payload in decoder.feed(piece):
                assert (type(name), type(payload)) == (str, bytes)
                assert kind in set(Kind)
                with suppress(ValueError):
                    assert isinstance(unpack(payload), dict)


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.text(), st.binary()), max_size=5),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_any_cut_of_a_stream(frames, sizes):
    stream = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    found: list[tuple[int, str, bytes]] = []
    for size in itertools.cycle(sizes):
        found += decoder.feed(stream[:size])
        stream = stream[size:]
        if not stream:
            break
    assert found == frames


def test_the_largest_and_one_that_is_too_large(monkeypatch):
    monkeypatch.setattr(_frames, "MAX_SIZE", 100)
    overhead = len(encode(Kind.SEND, "c", b"")) - 4
    largest = b"x" * (100 - overhead)
    assert list(Decoder().feed(encode(Kind.SEND, "c", largest))) == [(1, "c", largest)]
    with pytest.raises(ValueError, match=f"{len(largest) + 1} bytes is too large"):
        encode(Kind.SEND, "c", largest + b"x")


def test_a_message_and_back():
    message: dict[Any, Any] = {
        "a": [None, True, 1, -1, 1.5, "é", b"\xff", {"b": {}}],
        "n": 2**64 - 1,
        1: 2,
    }
    assert unpack(pack(message)) == message


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ([], TypeError),
        ("text", TypeError),
        ({"a": datetime.date(2024, 1, 1)}, TypeError),
        ({"a": {1, 2}}, TypeError),
        ({"a": 2**64}, ValueError),
        ({"a": "\ud800"}, ValueError),
    ],
)
def test_what_is_no_message(message, error):
    with pytest.raises(error):
        pack(message)


@pytest.mark.parametrize("payload", [b"", b"\xc1", msgpack.packb([1]), b"\x81\x90\x01"])
def test_a_payload_that_is_no_message(payload):
    with pytest.raises(ValueError):  # noqa: PT011 - msgpack's own sentences
        unpack(payload)
