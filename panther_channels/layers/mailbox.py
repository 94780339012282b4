"""The messages that wait in one channel of an event loop, in the layers of ours."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from panther_channels.layers.backplane import Inbox


class Mailbox(Inbox):
    """A queue. Each connection has one, so that it is small: an ``asyncio.Queue`` takes over 2 kB.

    A layer derives its own, which knows how to join a group, and what a payload means.

    Attributes:
        connection: the group of the connection that is reached by it, if it is one's.
        size: bytes of all that waits.
    """

    __slots__ = ("_call", "_limit", "_messages", "_overflow", "_waiters", "connection", "size")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.connection = ""
        self.size = 0
        self._messages: deque[tuple[float, bytes]] | None = None  # until the first one comes
        self._waiters: list[asyncio.Future[None]] = []
        self._call: Callable[[], None] | None = None
        self._limit = math.inf
        self._overflow: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._messages or ())

    def __bool__(self) -> bool:
        return True

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a message."""
        return bool(self._waiters)

    @property
    def is_listened_to(self) -> bool:
        """Whether somebody is told of messages."""
        return self._call is not None

    @property
    def is_closed(self) -> bool:
        """Whether what comes is dropped."""
        return self._limit < 0

    def bound(self, limit: int, overflow: Callable[[], None]) -> None:
        """Give the queue up when too much waits in it, and call ``overflow()`` once."""
        self._limit, self._overflow = limit, overflow

    def put(self, payload: bytes, deadline: float = math.inf) -> None:
        """Add a message, or drop it after an overflow.

        Args:
            payload: what it says.
            deadline: when it expires, on the monotonic clock.
        """
        if self._limit < 0:
            return
        if self._messages is None:
            self._messages = deque()
        self._messages.append((deadline, payload))
        self.size += len(payload)
        if self.size > self._limit and len(self._messages) > 1:
            self.close()
            overflow, self._overflow = self._overflow, None
            if overflow is not None:
                overflow()
        else:
            self.wake()

    def listen(self, call: Callable[[], None]) -> bool:
        """Call ``call()`` now if a message waits, and whenever one comes."""
        self._call = call
        if self._messages:
            call()
        return True

    def next(self) -> bytes | None:
        """The next message that has not expired, if there is one."""
        while self._messages:
            deadline, payload = self._messages.popleft()
            self.size -= len(payload)
            if deadline == math.inf or deadline > time.monotonic():
                return payload
            self.expired(1)
        return None

    async def get(self) -> bytes:
        """The next message. A cancelled call takes none."""
        while (payload := self.next()) is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._messages:  # it was woken for what another one can have now
                    self.wake()
                raise
        return payload

    def expire(self, now: float) -> None:
        """Drop what has expired by now."""
        messages, before = self._messages or deque(), len(self)
        while messages and messages[0][0] <= now:
            self.size -= len(messages.popleft()[1])
        if lost := before - len(messages):
            self.expired(lost)

    def expired(self, count: int) -> None:
        """Told of messages that were dropped, since they have expired."""

    def clear(self) -> None:
        """Drop all that waits."""
        if self._messages is not None:
            self._messages.clear()
        self.size = 0

    def close(self) -> None:
        """Drop all that waits, and what comes."""
        self.clear()
        self._limit = -1

    def reopen(self) -> None:
        """Take what comes again."""
        self._limit = math.inf

    def wake(self) -> None:
        """Tell who listens, or one who waits, that there is something."""
        if self._call is not None:
            self._call()
        while self._waiters:
            waiter = self._waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
