"""What there is one of for each event loop."""

import asyncio
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

    def __call__(self) -> T:
        """That of the running event loop.

        Raises:
            RuntimeError: none is running.
        """
        loop = asyncio.get_running_loop()
        found = self._found.get(loop)
        if found is None:
            found = self._found[loop] = self._make()
        return found
