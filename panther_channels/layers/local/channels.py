"""The channels and groups of one event loop, with the messages that wait there."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from panther_channels.layers.local.losses import Losses

# Waiting messages, and bytes, from which on a sender of the same event loop lets the receivers go
# first: nobody is slow only because it had no turn.
_MANY = 64
_MUCH = 64 * 1024
# Seconds between two looks for what nobody will ever receive.
_SWEEP = 60.0

_NONE: deque[tuple[float, bytes]] = deque(maxlen=0)  # one for all: each takes 600 bytes


class _Mailbox:
    __slots__ = ("call", "groups", "last_use", "limit", "messages", "overflow", "size", "waiters")

    def __init__(self) -> None:
        self.messages = _NONE  # with the time of their expiry
        self.waiters: list[asyncio.Future[None]] = []
        self.call: Callable[[], None] | None = None  # instead of waking one
        self.groups: set[str] = set()
        self.last_use = time.monotonic()
        self.size = 0  # bytes of all messages
        self.limit = float("inf")
        self.overflow: Callable[[], None] | None = None

    def is_over_limit(self) -> bool:
        # A single message may have any size: another one would wait no less.
        return self.size > self.limit and len(self.messages) > 1

    def is_needed(self) -> bool:
        return bool(self.messages or self.waiters or self.groups or self.call)

    def overflow_once(self) -> None:
        self.messages.clear()
        self.size, self.limit = 0, 0
        overflow, self.overflow = self.overflow, None
        if overflow is not None:
            overflow()

    def wake(self) -> None:
        if self.call is not None:
            self.call()
        while self.waiters:
            waiter = self.waiters.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return


class Channels:
    """Queues of payloads by channel, and channels by group. Belongs to one event loop.

    Args:
        capacity_of: how many messages may wait in a channel.
        expiry: seconds after which a message that waits is dropped.
        group_expiry: seconds after which a channel leaves its groups if nobody receives from it.
        losses: where it is told what was dropped.
    """

    def __init__(
        self,
        capacity_of: Callable[[str], int],
        expiry: float,
        group_expiry: float,
        losses: Losses,
    ) -> None:
        self._capacity_of = capacity_of
        self._expiry = expiry
        self._group_expiry = group_expiry
        self._losses = losses
        self._mailboxes: dict[str, _Mailbox] = {}
        self._groups: dict[str, dict[str, None]] = {}  # ordered sets
        self._next_sweep = time.monotonic() + _SWEEP

    def group_add(self, group: str, channel: str) -> None:
        """Make a channel a member of a group."""
        self._groups.setdefault(group, {})[channel] = None
        self._mailbox(channel).groups.add(group)

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group, if it is a member."""
        members = self._groups.get(group, {})
        if channel in members:
            del members[channel]
            if not members:
                del self._groups[group]
            self._mailboxes[channel].groups.discard(group)
            self._forget(channel)

    def members(self, group: str) -> list[str]:
        """The channels in a group."""
        return list(self._groups.get(group, ()))

    def bound(self, channel: str, limit: float, overflow: Callable[[], None] | None) -> None:
        """Call ``overflow()`` once when more bytes wait in a channel, and drop all that comes."""
        mailbox = self._mailbox(channel)
        mailbox.limit, mailbox.overflow = limit, overflow

    def put(self, channel: str, payload: bytes) -> bool:
        """Queue a message; whether there was room for it."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)
        mailbox = self._mailbox(channel)
        messages = mailbox.messages
        if len(messages) >= self._capacity_of(channel):
            self._drop_expired(mailbox, channel, now)
            if len(messages) >= self._capacity_of(channel):
                return False
        if messages is _NONE:
            messages = mailbox.messages = deque()
        messages.append((now + self._expiry, payload))
        mailbox.size += len(payload)
        if mailbox.size > mailbox.limit and mailbox.is_over_limit():
            mailbox.overflow_once()
        mailbox.wake()
        return True

    def put_or_drop(self, channel: str, payload: bytes) -> None:
        """Queue a message that came from elsewhere, or drop it where there is no room."""
        if not self.put(channel, payload):
            self._losses.add(f"{channel!r} is over its capacity of {self._capacity_of(channel)}.")

    def is_crowded(self, channel: str) -> bool:
        """Whether a sender should let the receiver go first."""
        mailbox = self._mailboxes.get(channel)
        if mailbox is None:
            return False
        return mailbox.size >= _MUCH or len(mailbox.messages) >= _MANY

    def listen(self, channel: str, call: Callable[[], None]) -> None:
        """Call ``call()`` now if a message waits in a channel, and whenever one comes."""
        mailbox = self._mailbox(channel)
        mailbox.call = call
        if mailbox.messages:
            call()

    def take(self, channel: str) -> bytes | None:
        """The next message of a channel, if there is one."""
        mailbox = self._mailboxes.get(channel)
        now = time.monotonic()
        while mailbox is not None and mailbox.messages:
            deadline, payload = mailbox.messages.popleft()
            mailbox.size -= len(payload)
            if deadline > now:
                if not mailbox.messages:
                    self._forget(channel)
                return payload
            self._losses.add(f"a message in {channel!r} expired after {self._expiry} s.")
        return None

    async def receive(self, channel: str) -> bytes:
        """The next message of a channel. A cancelled call takes none."""
        mailbox = self._mailbox(channel)
        while True:
            mailbox.last_use = time.monotonic()
            if (payload := self.take(channel)) is not None:
                return payload
            waiter = asyncio.get_running_loop().create_future()
            mailbox.waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._gave_up(channel, mailbox, waiter)
                raise
            if self._mailboxes.get(channel) is not mailbox:  # flushed meanwhile
                mailbox = self._mailbox(channel)

    def remove(self, channel: str) -> None:
        """Forget a channel, with its groups and messages."""
        mailbox = self._mailboxes.get(channel)
        if mailbox is not None:
            for group in list(mailbox.groups):
                self.group_discard(group, channel)
            self._mailboxes.pop(channel, None)

    def flush(self) -> None:
        """Forget all messages and groups; who waits in ``receive()``, or listens, still does."""
        mailboxes, self._mailboxes, self._groups = self._mailboxes, {}, {}
        for channel, mailbox in mailboxes.items():
            if mailbox.call is not None:
                self.listen(channel, mailbox.call)
                self.bound(channel, mailbox.limit, mailbox.overflow)
            for waiter in mailbox.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _mailbox(self, channel: str) -> _Mailbox:
        mailbox = self._mailboxes.get(channel)
        if mailbox is None:
            mailbox = self._mailboxes[channel] = _Mailbox()
        return mailbox

    def _gave_up(self, channel: str, mailbox: _Mailbox, waiter: "asyncio.Future[None]") -> None:
        if waiter in mailbox.waiters:
            mailbox.waiters.remove(waiter)
        elif mailbox.messages:  # it was woken for a message that another one can have now
            mailbox.wake()
        if self._mailboxes.get(channel) is mailbox:
            self._forget(channel)

    def _forget(self, channel: str) -> None:
        if not self._mailboxes[channel].is_needed():
            del self._mailboxes[channel]

    def _drop_expired(self, mailbox: _Mailbox, channel: str, now: float) -> None:
        messages, before = mailbox.messages, len(mailbox.messages)
        while messages and messages[0][0] <= now:
            mailbox.size -= len(messages.popleft()[1])
        if lost := before - len(messages):
            self._losses.add(f"messages in {channel!r} expired after {self._expiry} s.", lost)

    def _sweep(self, now: float) -> None:
        # What came too late for a channel that has gone, and channels that were left in groups.
        self._next_sweep = now + _SWEEP
        for channel, mailbox in list(self._mailboxes.items()):
            if mailbox.waiters or mailbox.call is not None:
                continue
            self._drop_expired(mailbox, channel, now)
            if now - mailbox.last_use > self._group_expiry:
                for group in list(mailbox.groups):
                    self.group_discard(group, channel)
            elif not mailbox.is_needed():
                del self._mailboxes[channel]
