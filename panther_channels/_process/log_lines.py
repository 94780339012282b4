"""Log lines on what strangers do: short ones, and one for many of a kind."""

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

_LONGEST = 70  # characters of a value
_MOST = 1000  # causes that are remembered


def shown(value: str | None) -> str:
    """What a stranger chose, for a log line: its ``repr``, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{shortened(text)}{text[0]}"


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text, cut off where it is long."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def named(question: Any) -> str:
    """The name of an authentication or a permission: its own, that of its class, or its repr."""
    question = getattr(question, "func", question)  # of functools.partial
    kind: Any = type(question)
    if kind.__repr__ is object.__repr__:
        question = kind
    return getattr(question, "__qualname__", None) or repr(question)


@dataclass(slots=True)
class _Said:
    line: str
    again_at: float
    unsaid: int = 0


class Repeats:
    """Logs one cause once in a while, and then how often it was met meanwhile.

    Causes that were not met for the longest time are forgotten, so that a new one is never kept
    from the log by many others.

    Args:
        logger: where the lines go.
        level: their level.
        interval: seconds between two lines on the same cause.
    """

    def __init__(self, logger: logging.Logger, level: int, interval: float) -> None:
        self._logger, self._level, self._interval = logger, level, interval
        self._known: OrderedDict[str, _Said] = OrderedDict()

    def add(self, cause: str, line: str) -> None:
        """Log a line, or count it where there was one on this cause a moment ago."""
        now = time.monotonic()
        known = self._known.pop(cause, None)
        if known is not None and now < known.again_at:
            known.unsaid += 1
            self._known[cause] = known
            return
        self._known[cause] = _Said(line, now + self._interval)
        unsaid = 0 if known is None else known.unsaid
        more = f" {unsaid} more like it since the last such line." if unsaid else ""
        self._logger.log(self._level, "%s%s", line, more)
        while self._is_full(now):
            _, forgotten = self._known.popitem(last=False)
            if forgotten.unsaid:
                text = "%d more like this one: %s"
                self._logger.log(self._level, text, forgotten.unsaid, forgotten.line)

    def _is_full(self, now: float) -> bool:
        return len(self._known) > _MOST or next(iter(self._known.values())).again_at <= now
