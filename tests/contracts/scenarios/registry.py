"""Where the scenarios are collected, with the classes that they talk to."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.client import Client

# Whatever compares: messages, statuses, what the journal holds.
Play = Callable[[Client], Awaitable[object]]

_SAME = object()


@dataclass(frozen=True)
class Scenario:
    """What a client does, and what it sees of us where that isn't what it sees of Panther.

    Attributes:
        name: of the function.
        play: the function; a path without a slash in front is one of its class.
        url: where that class is.
        because: why we differ from Panther on purpose.
        ours: what the client sees of us; without a reason Panther isn't asked.
        refused: the status of our refusals, where all that differs is that it says why.
        ruins_panther: leaves Panther's process useless, which then gets one of its own.
    """

    name: str
    play: Play
    url: str = "/"
    because: str = ""
    ours: object = _SAME
    refused: int = 403
    ruins_panther: bool = False

    @property
    def is_ours_alone(self) -> bool:
        """Panther isn't asked."""
        return self.ours is not _SAME and not self.because

    def expected(self, theirs: object) -> object:
        """What our client has to see where Panther's saw ``theirs``."""
        return _with_status(theirs if self.ours is _SAME else self.ours, self.refused)


SCENARIOS: dict[str, Scenario] = {}
URLS: dict[str, Any] = {}


def scenario(handler: Any = None, url: str = "", **options: Any) -> Any:
    """Registers a function under its own name: `@scenario`, or `@scenario(Class, "<variable>")`.

    Args:
        handler: the class that it talks to, or a dict of URLs; it gets a URL of its own.
        url: the rest of that URL.
        **options: see Scenario.
    """
    if inspect.iscoroutinefunction(handler):
        return scenario()(handler)

    def register(play: Play) -> Play:
        name = play.__name__
        add(Scenario(name, play, f"/{name}/", **options), {url: handler} if url else handler)
        return play

    return register


def add(new: Scenario, handler: Any = None) -> None:
    """The same for what is no function with a name: a row of a table."""
    if handler is not None:
        URLS[new.url.strip("/")] = handler
    if new.name in SCENARIOS:
        raise ValueError(f"There are two scenarios {new.name!r}.")
    if new.refused != 403 and not new.because:
        new = Scenario(**{**vars(new), "because": "a refusal says why by its status"})
    SCENARIOS[new.name] = new


def _with_status(answer: object, status: int) -> object:
    if isinstance(answer, list | tuple):
        parts = [_with_status(part, status) for part in answer]
        return parts if isinstance(answer, list) else tuple(parts)
    return status if answer == 403 else answer
