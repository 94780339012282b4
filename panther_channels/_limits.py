"""How many connections a user or a client may have, and what happens to one too many."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from panther_channels import conf
from panther_channels._census import Census, Holder, Seat, census
from panther_channels.connections import user_group
from panther_channels.exceptions import ThrottlingAPIError

_NETWORK = 64  # bits of an IPv6 address; of the rest, a client has as many as it wants


class LimitedSeat(Seat):
    """A seat, and what its connection does with it.

    Args:
        limits: how many may hold a seat, by the key of what they are limited by.
        end: ends the connection.
        layer: the channel layer; ``None`` looks at this process alone.
    """

    def __init__(
        self, limits: dict[str, int], end: Callable[[], Awaitable[None]], layer: Any
    ) -> None:
        super().__init__(limits, end)
        self._census: Census = census()
        self._layer = layer

    async def take(self) -> None:
        """Called before ``connect()``.

        Raises:
            ThrottlingAPIError: there are too many.
        """

    def open(self) -> None:
        """Called when the connection was accepted."""

    async def leave(self) -> None:
        """Called at its end."""
        await self._census.leave(self)


class _Refused(LimitedSeat):
    """The newcomer is refused."""

    is_over = False

    async def take(self) -> None:
        await self._census.enter(self, self._layer)
        await self._census.ask(self)
        await self._census.wait(self)
        if self.look():
            raise ThrottlingAPIError("Too many connections")
        self.is_settled = True

    def open(self) -> None:
        if self.is_over:
            self._census.spawn(self.end())

    def look(self) -> bool:
        self.is_over = any(
            sum(map(self._counts, self._census.holders(self, key))) >= limit
            for key, limit in self.limits.items()
        )
        if self.is_over and self.is_settled:  # an answer came late
            self._census.spawn(self.end())
        return self.is_over

    def _counts(self, holder: Holder) -> bool:
        # Of two that come at once, one must know that it is the second one. Who has been let in
        # counts anyway, but not against one that has been let in, too.
        is_before = (holder.time, holder.id) < (self.time, self.id)
        return is_before or (holder.is_settled and not self.is_settled)


class _ClosingOldest(LimitedSeat):
    """The oldest connections are closed for the newcomer, once that is open."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.is_settled = True
        self._asking: asyncio.Task[None] | None = None
        self._dismissed: set[str] = set()

    def open(self) -> None:
        self._asking = asyncio.ensure_future(self._ask())
        self._census.spawn(self._asking)

    async def _ask(self) -> None:
        await self._census.enter(self, self._layer)
        self.look()
        await self._census.ask(self)

    async def leave(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await super().leave()

    def look(self) -> bool:
        for key, limit in self.limits.items():
            # This one may be among them, where younger ones came meanwhile.
            for holder in self._census.holders(self, key)[:-limit]:
                if holder.id not in self._dismissed:
                    self._dismissed.add(holder.id)
                    self._census.dismiss(holder)
        return False


async def take_seat(
    user: Any, client: Sequence[Any] | None, layer: Any, end: Callable[[], Awaitable[None]]
) -> LimitedSeat | None:
    """A seat for a new connection; ``None`` where nothing limits it.

    Args:
        user: the user, or ``None``.
        client: the client's address and port, as the server tells them.
        layer: the channel layer, or ``None``.
        end: ends the connection.

    Raises:
        ThrottlingAPIError: there are too many.
        ImproperlyConfigured: a setting can't be read.
        ChannelLayerError: the layer is in trouble.
    """
    limits = {}
    if (limit := conf.max_connections_per_user()) and (key := user_group(user)) is not None:
        limits[key] = limit
    if (limit := conf.max_connections_per_client()) and (key := _client(client)) is not None:
        limits[key] = limit
    if not limits:
        return None
    kind = _Refused if conf.connection_limit_action() == "refuse" else _ClosingOldest
    seat = kind(limits, end, layer)
    try:
        await seat.take()
    except BaseException:
        await seat.leave()
        raise
    return seat


def _client(address: Sequence[Any] | None) -> str | None:
    if not address or not address[0]:
        return None  # over a Unix socket nobody knows
    host = str(address[0])
    try:
        parsed = ip_address(host)
    except ValueError:
        return f"client.{host}"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:  # a socket for both shows IPv4 so
            return f"client.{parsed.ipv4_mapped}"
        return f"client.{ip_network((parsed.packed, _NETWORK), strict=False)}"
    return f"client.{parsed}"
