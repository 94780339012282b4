"""What a server bears of one client, without a socket."""

import time

import pytest

from panther_channels.servers.incoming import ControlFrames, max_fragments, skip_to_close
from tests.wire import BINARY, CLOSE, CONTINUATION, PING, close, frame


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    ("unread", "before"),
    [
        (0, b""),
        (300, b"\x88" * 300),
        (None, b"\x88\x7f" * 300),
        (0, frame(b"x" * 5) + frame(b"\x88" * 300, CONTINUATION) + frame(b"x" * 70_000, BINARY)),
        (0, frame(b"", PING) + frame(b"no mask", is_masked=False) + frame(b"", CLOSE, fin=False)),
        (0, frame(b"x" * 126, CLOSE)),
    ],
)
def test_what_comes_before_a_close_frame_is_thrown_away(
    unread: int | None, before: bytes, step: int
):
    buffer = bytearray()
    skipping = skip_to_close(buffer, unread)
    next(skipping)
    data = before + close(1000)
    for start in range(0, len(before) + 1, step):
        buffer += data[start : min(start + step, len(before) + 1)]
        next(skipping)
        assert len(buffer) < (20 if unread is not None else 132)
    buffer += data[len(before) + 1 :]
    assert next(skipping, "found") == "found"


def test_a_frame_that_never_ends():
    buffer = bytearray()
    skipping = skip_to_close(buffer)
    buffer += frame(size=2**63)
    for _ in range(10):
        next(skipping)
        assert not buffer
        buffer += close(1000)


@pytest.mark.parametrize(("pause", "expected"), [(0.0, 1001), (0.0099, 1001), (0.011, None)])
def test_control_frames(pause: float, expected: int | None, monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    frames, found = ControlFrames(), None
    for number in range(1, 5000):
        now += pause
        if frames.are_too_many():
            found = number
            break
    assert found == expected


def test_who_was_silent_has_a_burst_of_twice_as_many_at_most(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    frames = ControlFrames()
    now += 3600
    assert [frames.are_too_many() for _ in range(2002)].index(True) == 2001


def test_fragments_of_a_message():
    assert max_fragments(1024 * 1024) == 5120
    assert max_fragments(1) == 1024
