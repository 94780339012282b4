"""Messages over Redis pub/sub that nobody got: they are sent once more, a moment later.

Redis tells how many processes got a message. None did where the connection has closed, which is
ordinary and must cost its senders no time. But so it is where the process that holds the connection
has lost Redis and is about to subscribe again, of which a sender may know nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

_DELAY = 0.5  # seconds, in which a process subscribes again
_EARLY = 0.05  # seconds that a message may be sent too early, together with others
_COUNT = 10_000  # messages that may wait
_SIZE = 4_000_000  # bytes that may wait
_INTERVAL = 10.0  # seconds between two ends of event loops that wait


class SecondTry:
    """The messages of one event loop that wait for it.

    Args:
        send: takes from here, and sends.
    """

    def __init__(self, send: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        # By channel, the oldest one first: when its messages are due, and these.
        self._waiting: dict[str, tuple[float, list[bytes]]] = {}
        self._count = self._size = 0
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, channel: str) -> bool:
        """Whether messages to a channel wait, which none may overtake."""
        return channel in self._waiting

    @property
    def is_full(self) -> bool:
        """Whether no more may wait."""
        return self._count >= _COUNT or self._size >= _SIZE

    def add(self, channel: str, message: bytes) -> None:
        """Let a message wait, until the first one to its channel is due."""
        _due, messages = self._waiting.setdefault(channel, (time.monotonic() + _DELAY, []))
        messages.append(message)
        self._count += 1
        self._size += len(message)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def wait(self) -> None:
        """Wait until a message is due; one must be there."""
        due, _messages = next(iter(self._waiting.values()))
        await asyncio.sleep(due - time.monotonic())

    def take(self) -> list[tuple[str, bytes]]:
        """The messages that are due, which wait no longer, each with its channel."""
        until = time.monotonic() + _EARLY
        channels = [channel for channel, (due, _) in self._waiting.items() if due <= until]
        taken = [(channel, each) for channel in channels for each in self._waiting.pop(channel)[1]]
        self._count -= len(taken)
        self._size -= sum(len(message) for _channel, message in taken)
        return taken

    async def finish(self) -> None:
        """Wait until none waits, also where the task was cancelled, as at the end of a loop."""
        if self._task is not None:
            await asyncio.wait({self._task})
        await self._run()

    async def end(self) -> None:
        """At the end of the event loop: finish, but not at the end of each.

        async_to_sync() has a loop for every message, and who calls it has no time to lose.
        """
        global _next_end
        if self._waiting and time.monotonic() >= _next_end:
            _next_end = time.monotonic() + _INTERVAL
            await self.finish()
        elif self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self.wait()
                await self._send()
        finally:
            self._task = None


_next_end = 0.0  # on the monotonic clock, before which no end waits
