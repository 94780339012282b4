"""Messages of one short frame, and what is left to the parser of a server."""

import random

import pytest
from websockets.frames import Frame, Opcode

from panther_channels.servers import short_messages
from panther_channels.servers.short_messages import BINARY, TEXT, short_frame
from tests.wire import CLOSE, CONTINUATION, PING, frame

LIMIT = 300


@pytest.fixture(params=["as installed", "in Python"], autouse=True)
def unmasking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what `websockets` has in C, and without that."""
    if request.param == "in Python":
        monkeypatch.setattr(short_messages, "_apply_mask", short_messages._unmask)


def taken(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The messages at the front, and the rest."""
    found = [*short_messages.short_messages(data, LIMIT)]
    rest = data[found[-1][-1] :] if found else data
    return [(kind, message) for kind, message, _end in found], rest


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 4, 5, 125, 126, 127, 255, LIMIT])
def test_a_message(size: int, kind: int):
    message = random.Random(size).randbytes(size)
    whole = Frame(Opcode(kind), message).serialize(mask=True)
    assert taken(whole) == ([(kind, message)], b"")
    for end in range(len(whole)):
        assert taken(frame(b"before") + whole[:end]) == ([(TEXT, b"before")], whole[:end])
    assert short_frame(kind, message) == frame(message, kind, is_masked=False)


@pytest.mark.parametrize(
    "other",
    [
        frame(b"", PING),
        frame(b"\x03\xe8", CLOSE),
        frame(b"a", fin=False),
        frame(b"a", CONTINUATION),
        frame(b"a", 3),
        b"\xc1" + frame(b"reserved")[1:],
        frame(b"no mask", is_masked=False),
        frame(b"x" * 200, is_masked=False),
        frame(b"x" * (LIMIT + 1)),
        # Lengths of more bytes than they need, and ones of eight.
        b"\x81\xfe\x00\x05" + bytes(4) + b"short",
        b"\x81\xff" + (5).to_bytes(8) + bytes(4) + b"short",
        b"\x81\xff" + (200).to_bytes(8) + bytes(4) + b"x" * 200,
    ],
)
def test_what_is_left_to_the_parser(other: bytes):
    behind = frame(b"behind")
    assert taken(frame(b"before") + other + behind) == ([(TEXT, b"before")], other + behind)


def test_a_frame_that_is_not_short():
    assert short_frame(TEXT, bytes(70_000)) is None
