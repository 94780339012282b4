"""Where the scenarios are collected."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.client import Client

# Whatever compares: frames, statuses, what the journal holds.
Play = Callable[[Client], Awaitable[object]]


@dataclass(frozen=True)
class Scenario:
    """What a client does, and a name for it.

    ``ruins_panther`` marks what leaves the real Panther's process useless, which then gets one
    of its own.
    """

    name: str
    play: Play
    ruins_panther: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Play) -> Play:
    """Registers a function under its own name."""
    return _register(play, ruins_panther=False)


def ruinous_scenario(play: Play) -> Play:
    """Registers a function after which the real Panther can't go on."""
    return _register(play, ruins_panther=True)


def _register(play: Play, *, ruins_panther: bool) -> Play:
    name = play.__name__
    if name in SCENARIOS:
        raise ValueError(f"There are two scenarios {name!r}.")
    SCENARIOS[name] = Scenario(name, play, ruins_panther)
    return play
