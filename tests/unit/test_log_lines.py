import logging

import pytest

from panther_channels._process.log_lines import Repeats, shortened, shown

LOGGER = logging.getLogger("test_lines")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("/ws", "'/ws'"),
        ("a\nb", r"'a\nb'"),
        (None, "None"),
        ("a" * 68, f"'{'a' * 68}'"),
        ("a" * 69, f"'{'a' * 69}…'"),
        ("a'" * 5000, f'"{("a" + chr(39)) * 34}a…"'),
    ],
)
def test_what_a_stranger_chose(value: str | None, text: str):
    assert shown(value) == text


def test_shortened():
    assert (shortened("abc", 3), shortened("abcd", 3)) == ("abc", "abc…")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("panther_channels._process.log_lines.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def repeats(clock: list[float]) -> Repeats:
    return Repeats(LOGGER, logging.WARNING, interval=60)


def test_one_line_a_minute_for_one_cause(
    repeats: Repeats, clock: list[float], caplog: pytest.LogCaptureFixture
):
    for number in range(4):
        repeats.add("one", f"one {number}.")
    repeats.add("two", "two.")
    clock[0] += 59
    repeats.add("one", "one, later.")
    assert caplog.messages == ["one 0.", "two."]
    clock[0] += 2
    repeats.add("one", "one, again.")
    clock[0] += 61
    repeats.add("one", "one, much later.")
    assert caplog.messages[2:] == [
        "one, again. 4 more like it since the last such line.",
        "one, much later.",
    ]


def test_what_is_forgotten_says_how_often_it_was(
    repeats: Repeats, clock: list[float], caplog: pytest.LogCaptureFixture
):
    for _ in range(3):
        repeats.add("one", "one.")
    repeats.add("two", "two.")
    clock[0] += 61
    repeats.add("three", "three.")
    assert caplog.messages == ["one.", "two.", "three.", "2 more like this one: one."]
    assert len(repeats._known) == 1


def test_a_flood_hides_nobody_and_is_not_remembered(
    repeats: Repeats, caplog: pytest.LogCaptureFixture
):
    for number in range(5000):
        repeats.add(f"stranger {number}", "stranger.")
        repeats.add("often", "often.")
    repeats.add("honest", "honest.")
    assert caplog.messages[-1] == "honest."
    assert caplog.messages.count("often.") == 1
    assert len(repeats._known) <= 1000
