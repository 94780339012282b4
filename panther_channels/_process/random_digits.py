"""Random digits for ids, many of which are asked of the system at once: a call costs it some µs."""

import os
from secrets import token_hex

_LENGTH = 24
_COUNT = 128  # that are asked for at once

_ready: list[str] = []


def random_digits() -> str:
    """24 hexadecimal digits that nobody can guess."""
    while True:
        try:
            return _ready.pop()  # no two threads get the same
        except IndexError:
            digits = token_hex(_COUNT * _LENGTH // 2)
            _ready.extend(digits[at : at + _LENGTH] for at in range(0, len(digits), _LENGTH))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ready.clear)  # parent and child would give out the same
