"""Rules of the project's own: about whom a token may let in."""

from typing import Any


def is_not_bob(user: Any) -> bool:
    return bool(user.is_active) and user.username != "bob"
