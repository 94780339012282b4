"""How a command writes: tables and a bar for people on a terminal."""

import unicodedata
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

_GAP = "  "
_BAR = 30


def printable(value: object) -> str:
    """What a client or a program chose, without what a terminal would obey, or a line would end at.

    Letters of all alphabets stay.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each)
        for each in text
    )


def cut(text: str, width: int) -> str:
    """A text as wide as it is told: with spaces, or ended by an ellipsis."""
    if width_of(text) > width:
        while width_of(text) >= width:
            text = text[:-1]
        text += "…"
    return text + " " * (width - width_of(text))


def table(rows: Sequence[Sequence[str]], width: int, elastic: Sequence[int] = ()) -> list[str]:
    """Lines with columns.

    Args:
        rows: the cells, first those of the heading.
        width: how wide it may be.
        elastic: the columns that are cut where it is wider, the first one first; each keeps ten.
    """
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*texts, strict=True)]
    for column in elastic:
        over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        widths[column] -= max(0, min(over, widths[column] - 10))
    lines = []
    for row in texts:
        cells = [cut(*each) for each in zip(row, widths, strict=True)]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def age(time: timedelta) -> str:
    """How long something has been, in its largest unit."""
    seconds = max(0, int(time.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def counted(number: int, noun: str) -> str:
    """``1 connection``, ``1,200 connections``."""
    return f"{number:,} {noun}{'' if number == 1 else 's' if noun[-1] != 's' else 'es'}"


class Progress:
    """How much is done of something: a bar on a terminal, else a line for each step.

    Args:
        out: where it is written, Django's ``OutputWrapper``; ``None`` tells nobody.
        total: how much there is.
    """

    def __init__(self, out: Any, total: int) -> None:
        self._out = out
        self._total = total
        self._is_bar = out is not None and out.isatty()

    def show(self, done: int) -> None:
        """Tell how much is done by now."""
        if self._out is None:
            return
        text = f"{done:,}/{self._total:,}"
        if self._is_bar:
            filled = _BAR * done // self._total
            text = f"\r[{'#' * filled}{'.' * (_BAR - filled)}] {text}\x1b[K"
        self._out.write(text, ending="" if self._is_bar else "\n")
        self._out.flush()

    def end(self) -> None:
        """Go on in the next line."""
        if self._is_bar:
            self._out.write("")
