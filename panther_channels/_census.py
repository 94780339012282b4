"""Who holds a seat among the connections of one user or client, in all processes.

Nothing is counted anywhere. Whoever wants to know asks all processes over the channel layer, and
each answers for the connections that it has at that moment; so nothing is left behind by a process
that is killed, or forgotten by Redis. An answer that comes late is heard, too.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

from panther_channels._inbox import Inbox
from panther_channels._loops import OnePerLoop
from panther_channels._outage import TO_JOIN, limited

logger = logging.getLogger("panther_channels")

_GROUP = "panther_channels.limits"
_TYPE = "panther_channels.limits"
_PATIENCE = 0.2  # seconds that a connection waits for the answers of processes
_LATE = 5.0  # seconds in which an answer is heard at all


class Holder(NamedTuple):
    """Who holds a seat, as its process tells; in the order of coming."""

    time: float
    id: str
    is_settled: bool  # no candidate any more
    process: str


class Seat:
    """What one connection holds, or wants to hold.

    Args:
        limits: how many may hold a seat, by the key of what they are limited by.
        end: ends the connection.

    Attributes:
        is_settled: whether it is no candidate any more.
        heard: the holders in other processes, by key and id; for some seconds only.
        missing: the processes that are yet to answer.
        is_known: set where there is nothing more to wait for.
    """

    def __init__(self, limits: Mapping[str, int], end: Callable[[], Awaitable[None]]) -> None:
        self.id = uuid4().hex
        self.time = time.time()
        self.limits = limits
        self.end = end
        self.is_settled = False
        self.heard: dict[str, dict[str, Holder]] = {key: {} for key in limits}
        self.missing: set[str] = set()
        self.is_known = asyncio.Event()

    def look(self) -> bool:
        """Act on what is known by now; whether that settles it."""
        raise NotImplementedError


class Census:
    """The seats of an event loop, and its questions to the others."""

    def __init__(self) -> None:
        self._layer: Any = None
        self._name = ""
        self._inbox: Inbox | None = None
        self._lock = asyncio.Lock()
        self._seats: dict[str, dict[str, Seat]] = {}
        self._asking: dict[str, Seat] = {}
        self._peers: set[str] = set()  # the processes of which was heard
        self._are_all_known = False
        self._tasks: set[asyncio.Future[None]] = set()

    async def enter(self, seat: Seat, layer: Any) -> None:
        """Hold a seat, of which others are told when they ask.

        Args:
            seat: the seat.
            layer: the channel layer; ``None`` asks nobody.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        for key in seat.limits:
            self._seats.setdefault(key, {})[seat.id] = seat
        if layer is not None:
            await limited(self._join(layer), TO_JOIN)

    async def _join(self, layer: Any) -> None:
        async with self._lock:
            if self._inbox is None:
                self._layer, self._name = layer, await layer.new_channel()
                inbox = Inbox(layer, self._name)
                try:
                    await inbox.join([_GROUP])
                except BaseException:
                    await inbox.leave()
                    raise
                self._inbox = inbox
                inbox.start(self._on_event, lambda: self._inbox is inbox)

    async def leave(self, seat: Seat) -> None:
        """Give a seat up; does nothing if it isn't held."""
        self._asking.pop(seat.id, None)
        for key in seat.limits:
            holders = self._seats.get(key, {})
            holders.pop(seat.id, None)
            if not holders:
                self._seats.pop(key, None)
        async with self._lock:
            if self._seats or self._inbox is None:
                return
            inbox, self._inbox = self._inbox, None
            self._peers.clear()  # who comes from now on isn't heard
            self._are_all_known = False
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._layer.group_send(_GROUP, self._event("bye", True))
            except Exception as error:  # noqa: BLE001 - then they wait for us in vain once
                logger.debug("The other processes don't learn that there are no seats: %r", error)
            await inbox.leave()

    async def ask(self, seat: Seat) -> None:
        """Ask all processes; their answers come to the seat's ``look()``.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        if self._inbox is None:
            return
        seat.missing = set(self._peers)
        self._asking[seat.id] = seat
        asyncio.get_running_loop().call_later(_LATE, self._stop_hearing, seat)
        question = [list(seat.limits), seat.time, seat.id]
        await limited(self._layer.group_send(_GROUP, self._event("ask", question)), TO_JOIN)

    async def wait(self, seat: Seat) -> None:
        """Wait for the answers to a question, as far as they are known to be missing."""
        if self._inbox is None:
            return
        self._look(seat)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await seat.is_known.wait()
        if not seat.is_known.is_set():
            # Who has died isn't waited for again. But it may be that nobody could be heard, so
            # that the next one waits the whole time, whoever is known then.
            self._peers -= seat.missing
            self._are_all_known = not seat.missing

    def holders(self, seat: Seat, key: str) -> list[Holder]:
        """All who hold a seat, as far as is known to one of them, in the order of coming."""
        return sorted([*self._holders(key), *seat.heard.get(key, {}).values()])

    def dismiss(self, holder: Holder) -> None:
        """End the connection of a holder."""
        if holder.process == self._name:
            self._end(holder.id)
        else:
            self.spawn(self._layer.send(holder.process, self._event("end", holder.id)))

    def spawn(self, call: Awaitable[None]) -> None:
        """Do something that nobody waits for; what it raises is logged."""
        task = asyncio.ensure_future(call)
        self._tasks.add(task)  # the loop itself keeps only weak references to tasks
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Future[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A limit of connections could not be kept: %r", error)

    def _event(self, kind: str, content: Any) -> dict[str, Any]:
        return {"type": _TYPE, "process": self._name, kind: content}

    def _holders(self, key: str) -> Iterable[Holder]:
        for seat in self._seats.get(key, {}).values():
            yield Holder(seat.time, seat.id, seat.is_settled, self._name)

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        try:
            process = event["process"]
            if process == self._name:
                return
            if "bye" in event:
                self._peers.discard(process)
                self._answered(process, self._asking)
                return
            self._peers.add(process)
            if "ask" in event:
                await self._answer(process, *event["ask"])
            elif "answer" in event:
                self._hear(process, *event["answer"])
            else:
                self._end(event["end"])
        except Exception as error:  # noqa: BLE001 - whatever it was, the next one is handled
            logger.warning("A message about limits of connections was ignored: %r", error)

    async def _answer(self, process: str, keys: list[str], when: float, asker: str) -> None:
        for key in keys:
            for seat in self._seats.get(key, {}).values():
                if not seat.is_settled:  # its own question may have come too early for that one
                    seat.heard[key][asker] = Holder(when, asker, False, process)
                    self._look(seat)
        seats = [
            (key, holder.time, holder.id, holder.is_settled)
            for key in keys
            for holder in self._holders(key)
        ]
        await self._layer.send(process, self._event("answer", [asker, seats]))

    def _hear(self, process: str, asker: str, seats: list[tuple[str, float, str, bool]]) -> None:
        seat = self._asking.get(asker)
        if seat is None:
            return
        for key, when, holder, is_settled in seats:
            seat.heard[key][holder] = Holder(when, holder, is_settled, process)
        self._answered(process, [asker])

    def _answered(self, process: str, askers: Iterable[str]) -> None:
        for asker in list(askers):
            seat = self._asking[asker]
            seat.missing.discard(process)
            self._look(seat)

    def _look(self, seat: Seat) -> None:
        if seat.look() or (self._are_all_known and not seat.missing):
            seat.is_known.set()

    def _stop_hearing(self, seat: Seat) -> None:
        self._asking.pop(seat.id, None)
        seat.heard = {}

    def _end(self, holder: str) -> None:
        for holders in self._seats.values():
            if holder in holders:
                self.spawn(holders[holder].end())
                return


#: Of the running event loop.
census = OnePerLoop(Census)
