"""What other event loops want of the connections of this one, and are told when it is done.

An event loop listens at one channel, be it for what is wanted of its connections, or for answers to
what it wants of others; one that does neither listens nowhere.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from panther_channels._hub.listing import Reachable, answer_to
from panther_channels._hub.subscription import Ear
from panther_channels._hub.survey import Answers, Survey, survey
from panther_channels._process.log_lines import Repeats
from panther_channels._process.loops import OnePerLayer
from panther_channels._process.outage import TO_SEND, limited, log_failed_task
from panther_channels._socket.state import OPEN
from panther_channels._socket.tasks import Tasks
from panther_channels.exceptions import DeliveryTimeoutError
from panther_channels.layers.backplane import (
    EVERYBODY,
    backplane,
    group_of_node,
    node_of,
)

_TYPE = "panther_channels.control"
_DELIVERING, _LISTING = "deliver", "list"  # topics of the survey
# Of the time that who asks will wait: how long others wait for their connections, so that they can
# tell of some before its end.
_HERE = 0.8
# Seconds after that time, when a layer that gives no answer isn't waited for any more.
_GUARD = 0.25
_NAMING = 0.2  # seconds to ask for the names of those who gave no answer

_odd = Repeats(logging.getLogger("panther_channels"), logging.WARNING, interval=60.0)


class _Due:
    """An event that was handed to connections, of which some are yet to take it."""

    def __init__(self, connections: Iterable[Reachable], done: Callable[[int], object]) -> None:
        self.waiting = set(connections)
        self.took = 0
        self.done = done


class Control:
    """That of one channel layer in the running event loop.

    Args:
        layer: the channel layer.

    Attributes:
        connections: those here that are reached by it, by id.
    """

    def __init__(self, layer: Any) -> None:
        self.connections: dict[str, Reachable] = {}
        self._layer = backplane(layer)
        self._is_alone = self._layer.is_in_memory
        self._survey: Survey = survey(layer)
        self._ear = Ear(layer, self._on_event)
        self._users = 0  # connections that are here, or are about to be
        self._coming: set[Reachable] = set()  # those that are about to
        self._is_answering = False
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._due: dict[int, _Due] = {}
        self._replies: dict[str, list[tuple[int, int]]] = {}  # by the channel of who asks
        self._replying: asyncio.Task[None] | None = None
        self._tasks = Tasks(log_failed_task)

    # The connections of this event loop

    async def expect(self, connection: Reachable) -> None:
        """Be there for what others want of a connection that is about to :meth:`enter`.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        self._users += 1
        self._coming.add(connection)
        if self._is_answering or self._is_alone:
            return
        await self._listen()
        await self._survey.answer(_DELIVERING, self._deliver)
        await self._survey.answer(_LISTING, partial(answer_to, self.connections))
        self._is_answering = True

    def enter(self, connection: Reachable) -> None:
        """Take in a connection, which has an id now."""
        self._coming.discard(connection)
        self.connections[connection.id] = connection

    def forget(self, connection_id: str) -> None:
        """Hand no more to a connection."""
        self.connections.pop(connection_id, None)

    async def leave(self, connection: Reachable) -> None:
        """End what :meth:`expect` began; what the connection has not taken, it won't."""
        for number, due in [*self._due.items()]:
            if connection in due.waiting:
                self.settle(number, connection, took=False)
        self._users -= 1
        self._coming.discard(connection)
        if not self._users:
            await self._rest()

    def members(self, group: str) -> list[Reachable]:
        """The connections here that are in a group of the layer, and open."""
        if node_of(group) is not None:
            found = self.connections.get(group.rpartition(".")[2])
            members = [] if found is None else [found]
        else:
            members = [*self.connections.values()]
        is_for_all = node_of(group) is not None or group == EVERYBODY
        return [
            each
            for each in members
            if each.subscription is not None and (is_for_all or group in each.subscription.groups)
        ]

    def settle(self, number: Any, connection: Reachable, *, took: bool) -> None:
        """A connection has taken an event, or never will."""
        due = self._due.get(number)
        if due is None or connection not in due.waiting:
            return
        due.waiting.discard(connection)
        due.took += took
        if not due.waiting:
            del self._due[number]
            due.done(due.took)

    async def _keep_for_coming(self, group: str, event: dict[str, Any]) -> None:
        """Hand an event to those who are in a group already, and don't count: they aren't open."""
        names = [
            each.subscription.name
            for each in self._coming
            if each.subscription is not None and group in each.subscription.groups
        ]
        if names:
            await self._layer.send_here(names, event)

    async def _hand(
        self, group: str, event: dict[str, Any] | None, done: Callable[[int], object]
    ) -> _Due:
        """Hand an event to members of a group; ``done`` is called with how many took it."""
        members = self.members(group)
        if self._coming and event is not None:
            await self._keep_for_coming(group, event)
        due = _Due(members, done)
        if not members:
            done(0)
        elif event is None:  # only who is there was asked
            due.waiting.clear()
            done(sum(each.state is OPEN for each in members))
        else:
            number = next(self._numbers)
            self._due[number] = due
            # By their own channels, so that it doesn't overtake what waits there.
            names = {each.subscription.name: each for each in members if each.subscription}
            try:
                full = await self._layer.send_here([*names], {**event, "due": number})
            except BaseException:
                self._due.pop(number, None)
                raise
            for name in full:
                self.settle(number, names[name], took=False)
        return due

    # What this one wants of others

    async def ask(self, group: str, event: dict[str, Any] | None, within: float) -> int:
        """Hand an event to the one event loop that a group belongs to.

        Args:
            group: that of a connection.
            event: what its connection is to get; ``None`` only asks whether it is there.
            within: seconds.

        Returns:
            How many connections took it: one or none.

        Raises:
            DeliveryTimeoutError: there was no answer in time.
            ChannelLayerError: the layer is in trouble.
        """
        node = node_of(group) or self._layer.node()
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            async with asyncio.timeout(within):
                if self._is_alone:
                    await self._hand(group, event, partial(_set, future))
                    return int(await future)
                await self._listen()
                message = {"type": _TYPE, "ask": number, "channel": self._ear.name}
                message.update(to=group, event=event)
                sending = self._layer.send_to_node(group_of_node(node, 1), message)
                if not await limited(sending, TO_SEND, self._layer.longest_wait):
                    return 0
                return int(await future)
        except TimeoutError:
            raise DeliveryTimeoutError(within, missing=[node]) from None
        finally:
            self._asked.pop(number, None)
            await self._rest()

    async def ask_all(self, group: str, event: dict[str, Any], within: float) -> int:
        """Hand an event to the members of a group in all event loops.

        Returns:
            How many connections took it.

        Raises:
            DeliveryTimeoutError: not all have answered in time.
            ChannelLayerError: the layer is in trouble.
        """
        question = {"to": group, "event": event, "within": within * _HERE}
        try:
            async with asyncio.timeout(within + _GUARD):
                here, there = await asyncio.gather(
                    self._deliver_here(question, within),
                    self._others(_DELIVERING, question, within),
                )
        except TimeoutError:
            raise DeliveryTimeoutError(within, missing=["?"]) from None
        answers: list[Any] = [here, *there.given.values()]
        took: int = sum(each[0] for each in answers)
        waiting: int = sum(each[1] for each in answers)
        missing = await self._missing(there)
        if missing or waiting:
            raise DeliveryTimeoutError(within, took, waiting, missing)
        return took

    async def _deliver_here(self, question: dict[str, Any], within: float) -> tuple[int, int]:
        if not self.connections and not self._coming:
            return 0, 0
        if not self._is_alone:  # else it would overtake what was sent by the layer before
            await self.ask(group_of_node(self._layer.node(), 1), None, within)
        return await self._deliver(question)

    async def _others(
        self, topic: str, question: dict[str, Any], within: float, node: str | None = None
    ) -> Answers:
        if self._is_alone:
            return Answers({}, {}, frozenset(), 0)
        return await self._survey.ask(topic, question, within=within, node=node, is_patient=True)

    async def _missing(self, there: Answers) -> list[str]:
        """The nodes that gave no answer; "?" for each of which nothing else is known."""
        silent, unnamed = {*there.missing, *there.errors}, there.unnamed or 0
        if unnamed:
            with suppress(Exception):  # whatever it was, they have no names then
                async with asyncio.timeout(_NAMING):
                    names = await self._layer.all_nodes()
                others = names - silent - {self._layer.node(), *there.given}
                if len(others) == unnamed:  # and nobody among them who wasn't asked
                    return sorted(silent | others)
        return sorted(silent) + ["?"] * unnamed

    async def find(
        self, question: dict[str, Any], within: float, node: str | None = None
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Ask all event loops, or one, for what they have.

        Args:
            question: as :func:`~panther_channels._hub.listing.question` has it.
            within: seconds.
            node: the one to ask.

        Returns:
            The answers, page by page, and the nodes that gave none in time.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        deadline = asyncio.get_running_loop().time() + within
        own = self._layer.node()
        given: dict[str, Any] = {}
        missing: list[str] = []
        pages: list[dict[str, Any]] = []
        if node != own and not self._is_alone:
            try:
                async with asyncio.timeout(within + _GUARD):
                    answers = await self._others(_LISTING, question, within, node)
            except TimeoutError:  # of the layer
                missing = ["?"]
            else:
                given, missing = dict(answers.given), await self._missing(answers)
        if node is None or node == own or self._is_alone:
            given[own] = answer_to(self.connections, question)

        async def go_on(node: str, page: dict[str, Any]) -> None:
            pages.append(page)
            while page.get("more"):
                following = {**question, "after": page["more"]}
                if node == own:
                    await asyncio.sleep(0)  # each page takes a while
                    page = answer_to(self.connections, following)
                else:
                    left = max(deadline - asyncio.get_running_loop().time(), 0.01)
                    answers = await self._others(_LISTING, following, left, node)
                    if node not in answers.given:
                        missing.append(node)
                        return
                    page = answers.given[node]
                pages.append(page)

        await asyncio.gather(*(go_on(*each) for each in given.items()))
        return pages, missing

    # What comes by the channel

    async def _listen(self) -> None:
        await self._ear.listen([group_of_node(self._layer.node(), 1)], self._survey.attend)

    async def _rest(self) -> None:
        """Listen no longer, where that needs a task, and nobody is here or asks."""
        if not self._layer.ends_with_its_loop:
            await self._ear.rest(lambda: self._users or self._asked, self._stop_answering)

    async def _stop_answering(self) -> None:
        self._is_answering = False
        for topic in (_DELIVERING, _LISTING):
            await self._survey.withdraw(topic)

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        try:
            if "answers" in event:
                for number, took in event["answers"]:
                    if (future := self._asked.get(number)) is not None:
                        _set(future, took)
            else:
                number, channel = event["ask"], event["channel"]
                await self._hand(
                    event["to"], event["event"], lambda took: self._reply(channel, number, took)
                )
        except Exception as error:  # noqa: BLE001 - whatever it was, the next one is handled
            text = f"What another process wants of a connection was ignored: {error!r}"
            _odd.add(repr(error), text)

    async def _deliver(self, question: dict[str, Any]) -> tuple[int, int]:
        """How many took an event in time, and how many may take it yet."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        due = await self._hand(question["to"], question["event"], partial(_set, answer))
        with suppress(TimeoutError):
            async with asyncio.timeout(question["within"]):
                await answer
        return due.took, len(due.waiting)

    def _reply(self, channel: str, number: int, took: int) -> None:
        self._replies.setdefault(channel, []).append((number, took))
        # In a moment, and then for all who are done by then. An eager task has ended already.
        if self._replying is None or self._replying.done():
            self._replying = self._tasks.create(self._send_replies())

    async def _send_replies(self) -> None:
        try:
            while self._replies:
                channel = next(iter(self._replies))
                answers = {"type": _TYPE, "answers": self._replies.pop(channel)}
                try:
                    sending = self._layer.send(channel, answers)
                    await limited(sending, TO_SEND, self._layer.longest_wait)
                except Exception as error:  # noqa: BLE001 - who asks gets no answer
                    log_failed_task(error)
        finally:
            self._replying = None


def _set(answer: "asyncio.Future[int]", took: int) -> None:
    if not answer.done():  # else nobody waits for it any more
        answer.set_result(took)


#: Of a channel layer in the running event loop; the first call may raise a ``ChannelLayerError``.
control = OnePerLayer(Control)
