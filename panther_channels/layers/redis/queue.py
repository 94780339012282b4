"""The messages that wait in one channel: in channels_redis everything may wait."""

import asyncio
from collections import deque
from collections.abc import Callable


class Queue:
    """Each connection has one, so that it is small: an ``asyncio.Queue`` takes over 2 kB."""

    __slots__ = ("_limit", "_messages", "_overflow", "_size", "_waiters")

    def __init__(self) -> None:
        self._messages: deque[bytes] | None = None  # until the first one comes
        self._waiters: list[asyncio.Future[None]] = []
        self._size = 0  # bytes of all messages
        self._limit = float("inf")
        self._overflow: Callable[[], None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a message."""
        return bool(self._waiters)

    def bound(self, limit: int, overflow: Callable[[], None]) -> None:
        """Give the queue up when too much waits in it.

        Args:
            limit: bytes, which one message alone may exceed.
            overflow: called once, when there is more; all that comes then is dropped.
        """
        self._limit, self._overflow = limit, overflow

    def put(self, message: bytes) -> None:
        """Add a message, or drop it after an overflow."""
        if self._limit < 0:
            return
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        self._size += len(message)
        if self._size > self._limit and len(self._messages) > 1:
            self._messages.clear()
            self._limit = -1
            overflow, self._overflow = self._overflow, None
            if overflow is not None:
                overflow()
        else:
            self._wake()

    async def get(self) -> bytes:
        """The next message. A cancelled call takes none."""
        while not self._messages:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._messages:  # it was woken for what another one can have now
                    self._wake()
                raise
        message = self._messages.popleft()
        self._size -= len(message)
        return message

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
