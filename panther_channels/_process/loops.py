"""What there is one of for each event loop."""

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar
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

    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """The event loops that have one."""
        return list(self._found)

    def _forget(self, _loop: object) -> None:
        self._latest = None


class OnePerLayer(Generic[T]):
    """Gives the one of a channel layer in the event loop that is running, made at the first call.

    Args:
        make: makes it, of the layer.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._found: OnePerLoop[dict[Any, T]] = OnePerLoop(dict)

    def __call__(self, layer: Any) -> T:
        """That of a layer, or of ``None``.

        Raises:
            RuntimeError: no event loop is running.
            Exception: whatever making it raises.
        """
        of_layers = self._found()
        found = of_layers.get(layer)
        if found is None:
            found = of_layers[layer] = self._make(layer)
        return found

    def all(self) -> list[T]:
        """Those of all layers in the event loop that is running."""
        return [*self._found().values()]


class Lock:
    """As that of asyncio, which keeps its event loop for ever once somebody has waited for it."""

    def __init__(self) -> None:
        self._lock: asyncio.Lock | None = None  # while it is in use
        self._users = 0

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock is not None and self._lock.locked()

    async def __aenter__(self) -> None:
        self._users += 1
        if self._lock is None:
            self._lock = asyncio.Lock()
        try:
            await self._lock.acquire()
        except BaseException:
            self._forget()
            raise

    async def __aexit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
        self._forget()

    def _forget(self) -> None:
        self._users -= 1
        if not self._users:
            self._lock = None
