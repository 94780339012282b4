from datetime import timedelta

import pytest

from panther_channels.management.terminal import age, printable, table, width_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 房间 7", "Zoë 房间 7"),
        ("\x1b[2Jx\r\n\t", r"\x1b[2Jx\r\n\t"),
        ("\u202e\x9b\ud800", r"\u202e\x9b\ud800"),  # right to left, an 8-bit escape, a half
    ],
)
def test_no_text_moves_the_cursor(text: str, shown: str):
    assert printable(text) == shown


def test_a_table_is_as_wide_as_it_may_be():
    rows = [["ID", "USER", "PATH", "AGE"], ["7e82", "房间" * 8, "/ws/" + "x" * 30, "5s"]]
    assert table(rows, 200, (2, 1)) == [
        f"ID    USER{' ' * 28}  PATH{' ' * 30}  AGE",
        f"7e82  {'房间' * 8}  /ws/{'x' * 30}  5s",
    ]
    for width in (50, 40, 33):
        heading, line = table(rows, width, (2, 1))
        assert width_of(line) <= width
        assert line.startswith("7e82  房间")
        assert "…" in line
        assert width_of(heading.partition("AGE")[0]) == width_of(line.partition("5s")[0])
    assert table(rows, 10, (2, 1)) == table(rows, 33, (2, 1)), "no column vanishes"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (86400 * 400, "400d")],
)
def test_an_age(seconds: float, shown: str):
    assert age(timedelta(seconds=seconds)) == shown
