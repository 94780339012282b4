"""How many connections a user or a client may have, and what happens to one too many.

Nothing is counted anywhere. A new connection asks all event loops, and each answers for those that
it has at that moment. Who is let in because an answer is late, or lost, is closed once it comes.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

from panther_channels import conf
from panther_channels._hub.addresses import user_group
from panther_channels._hub.survey import LATE, survey
from panther_channels._process.log_lines import Repeats
from panther_channels._process.loops import OnePerLayer
from panther_channels._socket.tasks import Tasks
from panther_channels.exceptions import ThrottlingAPIError

_unkept = Repeats(logging.getLogger("panther_channels"), logging.ERROR, interval=10.0)

_TOPIC = "limits"
_PATIENCE = 0.2  # seconds that a connection waits for the answers of others
_NETWORK = 64  # bits of an IPv6 address; of the rest, a client has as many as it wants


class Holder(NamedTuple):
    """Who holds a seat, or wants to; in the order of coming."""

    time: float
    id: str
    is_settled: bool  # no candidate any more
    node: str  # empty for this event loop


class Seat:
    """What one connection holds, or wants to hold.

    Args:
        limits: how many may hold a seat, by the key of what they are limited by.
        end: ends the connection.
        seats: those of the running event loop.
    """

    is_settled = False

    def __init__(
        self, limits: dict[str, int], end: Callable[[], Coroutine[Any, Any, None]], seats: "Seats"
    ) -> None:
        self.id = secrets.token_hex(12)
        self.time = time.time()
        self.limits = limits
        self.end = end
        self.heard: dict[str, dict[str, Holder]] = {}  # in others, by key and id, for some seconds
        self._seats = seats

    async def take(self) -> None:
        """Called before ``connect()``.

        Raises:
            ThrottlingAPIError: there are too many.
        """

    def open(self) -> None:
        """Called when the connection was accepted."""

    async def leave(self) -> None:
        """Called at its end."""
        await self._seats.remove(self)

    def look(self) -> None:
        """Act on what is known by now."""
        raise NotImplementedError

    def hear(self, key: str, holder: Holder) -> None:
        """Learn of another who holds a seat, or wants to."""
        self.heard.setdefault(key, {})[holder.id] = holder


class _Refused(Seat):
    """The newcomer is refused."""

    is_over = False

    async def take(self) -> None:
        await self._seats.enter(self)
        self.look()
        if self.is_over:
            raise ThrottlingAPIError("Too many connections")
        self.is_settled = True

    def open(self) -> None:
        if self.is_over:
            self._seats.end(self.id)

    def look(self) -> None:
        self.is_over = any(
            sum(map(self._counts, self._seats.holders(self, key))) >= limit
            for key, limit in self.limits.items()
        )
        if self.is_over and self.is_settled:  # an answer came late
            self._seats.end(self.id)

    def _counts(self, holder: Holder) -> bool:
        # Of two that come at once, one must know that it is the second one. Who has been let in
        # counts anyway, but not against one that has been let in, too.
        is_before = (holder.time, holder.id) < (self.time, self.id)
        return is_before or (holder.is_settled and not self.is_settled)


class _ClosingOldest(Seat):
    """The oldest connections are closed for the newcomer, once that is open."""

    is_settled = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._entering: asyncio.Task[None] | None = None
        self._dismissed: set[str] = set()

    def open(self) -> None:
        self._entering = self._seats.tasks.create(self._seats.enter(self), None)

    async def leave(self) -> None:
        if self._entering is not None:
            self._entering.cancel()
            await asyncio.wait({self._entering})
        await super().leave()

    def look(self) -> None:
        for key, limit in self.limits.items():
            # This one may be among them, where younger ones came meanwhile.
            for holder in self._seats.holders(self, key)[:-limit]:
                if holder.id not in self._dismissed:
                    self._dismissed.add(holder.id)
                    self._seats.dismiss(holder)


class Seats:
    """Those of one event loop.

    Args:
        layer: the channel layer; ``None`` where others are not asked.
    """

    def __init__(self, layer: Any) -> None:
        self.tasks = Tasks(_failed)
        self._survey = None if layer is None else survey(layer)
        self._held: dict[str, dict[str, Seat]] = {}  # by key and id

    async def enter(self, seat: Seat) -> None:
        """Hold a seat, of which others are told when they ask, and ask them for theirs.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        for key in seat.limits:
            self._held.setdefault(key, {})[seat.id] = seat
        seat.look()
        if self._survey is None:
            return
        await self._survey.answer(_TOPIC, self._answer)

        def hear(node: str, answer: list[list[Any]]) -> None:
            if any(seat.id in self._held.get(key, ()) for key in seat.limits):  # it may have gone
                for key, when, holder, is_settled in answer:
                    seat.hear(key, Holder(when, holder, is_settled, node))
                seat.look()

        question = {"keys": [*seat.limits], "time": seat.time, "id": seat.id}
        await self._survey.ask(_TOPIC, question, within=_PATIENCE, hear=hear)
        asyncio.get_running_loop().call_later(LATE, seat.heard.clear)

    async def remove(self, seat: Seat) -> None:
        """Give a seat up; does nothing if it isn't held."""
        for key in seat.limits:
            holders = self._held.get(key, {})
            holders.pop(seat.id, None)
            if not holders:
                self._held.pop(key, None)
        if self._survey is not None and not self._held:
            await self._survey.withdraw(_TOPIC)

    def holders(self, seat: Seat, key: str) -> list[Holder]:
        """All who hold a seat, as far as is known to one of them, in the order of coming."""
        return sorted([*self._own(key), *seat.heard.get(key, {}).values()])

    def dismiss(self, holder: Holder) -> None:
        """End the connection of a holder."""
        if not holder.node:
            self.end(holder.id)
        elif self._survey is not None:
            telling = self._survey.ask(
                _TOPIC,
                {"end": holder.id},
                within=_PATIENCE,
                node=holder.node,
                hear=lambda *_: None,  # so that who doesn't answer is told again
            )
            self.tasks.create(telling, None)

    def end(self, seat_id: str) -> None:
        """End the connection of a seat of this event loop, if it is held."""
        for holders in self._held.values():
            if seat_id in holders:
                self.tasks.create(holders[seat_id].end(), None)
                return

    def _answer(self, question: dict[str, Any]) -> list[tuple[str, float, str, bool]] | None:
        if "end" in question:
            self.end(question["end"])
            return None
        keys, rival = question["keys"], Holder(question["time"], question["id"], False, "?")
        for key in keys:
            for seat in self._held.get(key, {}).values():
                if not seat.is_settled:  # its own question may have come too early for that one
                    seat.hear(key, rival)
        return [
            (key, holder.time, holder.id, holder.is_settled)
            for key in keys
            for holder in self._own(key)
        ]

    def _own(self, key: str) -> Iterator[Holder]:
        for seat in self._held.get(key, {}).values():
            yield Holder(seat.time, seat.id, seat.is_settled, "")


_seats = OnePerLayer(Seats)


def limits_of(user: Any, client: Sequence[Any] | None) -> dict[str, int]:
    """How many may be open, by the key of what they are limited by.

    Args:
        user: the user, or ``None``.
        client: the client's address and port, as the server tells them.

    Raises:
        ImproperlyConfigured: a setting can't be read.
    """
    limits: dict[str, int] = {}
    if (limit := conf.max_connections_per_user()) and (key := user_group(user)) is not None:
        limits[key] = limit
    if (limit := conf.max_connections_per_client()) and (key := _client(client)) is not None:
        limits[key] = limit
    return limits


async def take_seat(
    limits: dict[str, int], layer: Any, end: Callable[[], Coroutine[Any, Any, None]]
) -> Seat:
    """A seat for a new connection.

    Args:
        limits: what :func:`limits_of` gave.
        layer: the channel layer, or ``None``.
        end: ends the connection.

    Raises:
        ThrottlingAPIError: there are too many.
        ChannelLayerError: the layer is in trouble.
    """
    kind = _Refused if conf.connection_limit_action() == "refuse" else _ClosingOldest
    seat = kind(limits, end, _seats(layer))
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


def _failed(error: BaseException) -> None:
    # In an outage, all who come meet it, each in other words.
    _unkept.add(type(error).__name__, f"A limit of connections could not be kept: {error!r}")
