"""The channels and groups of one event loop, with the messages that wait there."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from panther_channels.layers.backplane import EVERYBODY, group_of_connection
from panther_channels.layers.local.frames import unpack
from panther_channels.layers.local.losses import Losses
from panther_channels.layers.mailbox import Mailbox

# Waiting messages, and bytes, from which on a sender of the same event loop lets the receivers go
# first: nobody is slow only because it had no turn.
_MANY = 64
_MUCH = 64 * 1024
# Seconds between two looks for what nobody will ever receive.
_SWEEP = 60.0


class Channel(Mailbox):
    """One of this event loop, whose messages expire.

    Attributes:
        last_use: when somebody began to receive from it, on the monotonic clock.
        users: how many receive from it, or have it open.
    """

    __slots__ = ("_channels", "last_use", "users")

    def __init__(self, name: str, channels: "Channels") -> None:
        super().__init__(name)
        self._channels = channels
        self.last_use = time.monotonic()
        self.users = 0

    @property
    def is_crowded(self) -> bool:
        """Whether a sender should let the receiver go first."""
        return self.size >= _MUCH or len(self) >= _MANY

    @property
    def is_needed(self) -> bool:
        """Whether something waits, or somebody."""
        return bool(self.users or self.is_listened_to or len(self) or self.groups)

    async def join(self, group: str) -> None:
        """Become a member of a group."""
        self._channels.join(group, self)

    async def join_as(self, connection_id: str) -> None:
        """Be the one that a connection is reached by."""
        self._channels.connections.pop(self.connection, None)  # of an accept() that failed
        self.connection = group_of_connection(connection_id)
        self._channels.connections[self.connection] = self

    async def leave(self, group: str) -> None:
        """Leave a group."""
        self._channels.leave(group, self)

    async def leave_all(self) -> None:
        """Leave all groups."""
        for group in [*self.groups]:
            self._channels.leave(group, self)
        if self.connection:
            self._channels.connections.pop(self.connection, None)
            self.connection = ""

    def take(self) -> dict[str, Any] | None:
        """The next message, if there is one."""
        payload = self.next()
        return None if payload is None else unpack(payload)

    async def release(self) -> None:
        """Be forgotten."""
        await self.leave_all()
        self._channels.remove(self)

    def expired(self, count: int) -> None:
        """Tell of messages that have expired."""
        self._channels.note_expired(self.name, count)


class Channels:
    """Queues of payloads by channel, and channels by group. Belongs to one event loop.

    Args:
        capacity_of: how many messages may wait in a channel.
        expiry: seconds after which a message that waits is dropped.
        group_expiry: seconds after which a channel leaves its groups if nobody receives from it.
        losses: where it is told what was dropped.

    Attributes:
        connections: the channels by which connections are reached, by the groups of those.
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
        self.connections: dict[str, Channel] = {}
        self._channels: dict[str, Channel] = {}
        self._groups: dict[str, dict[Channel, None]] = {}  # ordered sets
        self._next_sweep = time.monotonic() + _SWEEP

    def channel(self, name: str) -> Channel:
        """One of this event loop, made where it isn't there."""
        found = self._channels.get(name)
        if found is None:
            found = self._channels[name] = Channel(name, self)
        return found

    def open(self, name: str) -> Channel:
        """One that is there until it is released, whether anything waits or not."""
        channel = self.channel(name)
        channel.users += 1
        return channel

    def join(self, group: str, channel: Channel) -> None:
        """Make a channel a member of a group."""
        self._groups.setdefault(group, {})[channel] = None
        channel.groups[group] = None

    def leave(self, group: str, channel: Channel) -> None:
        """Take a channel out of a group, if it is a member."""
        members = self._groups.get(group, {})
        if channel in members:
            del members[channel]
            if not members:
                del self._groups[group]
        channel.groups.pop(group, None)

    def discard(self, group: str, name: str) -> None:
        """The same by the name of a channel, which may not be there."""
        if (channel := self._channels.get(name)) is not None:
            self.leave(group, channel)
            self._forget(channel)

    def members(self, group: str) -> list[Channel]:
        """The channels in a group."""
        found: Iterable[Channel] = self._groups.get(group, ())
        if group == EVERYBODY:
            return [*found, *self.connections.values()]
        own = self.connections.get(group)
        return [*found] if own is None else [*found, own]

    def put(self, channel: Channel, payload: bytes) -> bool:
        """Queue a message; whether there was room for it."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)
            self._channels.setdefault(channel.name, channel)  # made for this message
        if len(channel) >= self._capacity_of(channel.name):
            channel.expire(now)
            if len(channel) >= self._capacity_of(channel.name):
                return False
        channel.put(payload, now + self._expiry)
        return True

    def put_or_drop(self, channel: Channel, payload: bytes) -> None:
        """Queue a message that came from elsewhere, or drop it where there is no room."""
        if not self.put(channel, payload):
            name = channel.name
            self._losses.add(f"{name!r} is over its capacity of {self._capacity_of(name)}.")

    async def receive(self, name: str) -> bytes:
        """The next message of a channel. A cancelled call takes none."""
        channel = self.channel(name)
        channel.last_use = time.monotonic()
        channel.users += 1  # also while it is woken, and another one takes the message
        try:
            return await channel.get()
        finally:
            channel.users -= 1
            self._forget(channel)

    def remove(self, channel: Channel) -> None:
        """Forget a channel, which has left its groups, with its messages."""
        self._channels.pop(channel.name, None)

    def flush(self) -> None:
        """Forget all messages and groups; who waits in ``receive()``, or listens, still does."""
        self.connections, self._groups = {}, {}
        for channel in [*self._channels.values()]:
            channel.clear()
            channel.groups.clear()
            channel.connection = ""
            self._forget(channel)

    def note_expired(self, name: str, count: int) -> None:
        """Told of messages that nobody has received in time."""
        self._losses.add(f"messages in {name!r} expired after {self._expiry} s.", count)

    def _forget(self, channel: Channel) -> None:
        if not channel.is_needed and self._channels.get(channel.name) is channel:
            del self._channels[channel.name]

    def _sweep(self, now: float) -> None:
        # What came too late for a channel that has gone, and channels that were left in groups.
        self._next_sweep = now + _SWEEP
        for channel in [*self._channels.values()]:
            if channel.users or channel.is_listened_to:
                continue
            channel.expire(now)
            if now - channel.last_use > self._group_expiry:
                for group in [*channel.groups]:
                    self.leave(group, channel)
            self._forget(channel)
