"""What there is one of for each event loop."""

import asyncio
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class OnePerLoop(Generic[T]):
    """Gives the one of the event loop that is running, made at the first call.

    Args:
        make: makes it. It must not keep the loop, which would then be kept for ever.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._found: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        self._latest: tuple[weakref.ref[asyncio.AbstractEventLoop], T] | None = None

    def __call__(self) -> T:
        """That of the running event loop.

        Raises:
            RuntimeError: none is running.
        """
        loop, latest = asyncio.get_running_loop(), self._latest
        if latest is not None and latest[0]() is loop:  # nearly always, and the dictionary is slow
            return latest[1]
        found = self._found.get(loop)
        if found is None:
            found = self._found[loop] = self._make()
        self._latest = weakref.ref(loop, self._forget), found
        return found

    def pop(self, loop: asyncio.AbstractEventLoop) -> T | None:
        """Forget that of an event loop, and return it if there is one."""
        self._latest = None
        return self._found.pop(loop, None)

    def pop_all(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Forget those of all event loops, and return them."""
        self._latest = None
        found, self._found = self._found, WeakKeyDictionary()
        return list(found.items())

    def _forget(self, _loop: object) -> None:
        self._latest = None
