"""Who is in a group, and telling its members of who comes and goes: each user once.

Nobody is elected to announce. Each event loop with members that announce has a view of their
groups: which node has which users. It tells the others of the first connection that a user has in
a group here, and of the end of the last one. Its own members are told when nobody becomes somebody
in *its* view, so that each hears it once, in whatever order the others' changes come.

What a node tells is numbered. Who misses a number, in a change or in the beat that comes every few
seconds, asks that node for all it has: so losses, an outage and a suspended process are healed.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgpack

from panther_channels._hub.addresses import user_group
from panther_channels._hub.listing import PresentUser, facts_of_user, page_of, rows_of
from panther_channels._hub.subscription import Ear, Subscription
from panther_channels._hub.survey import survey
from panther_channels._process.log_lines import Repeats
from panther_channels._process.loops import OnePerLayer
from panther_channels._process.outage import TO_JOIN, TO_SEND, limited, log_failed_task, log_failure
from panther_channels._socket.tasks import Tasks
from panther_channels.layers.backplane import backplane, group_of_node

logger = logging.getLogger("panther_channels")

#: The type of the event that tells a connection of who came and went.
EVENT_TYPE = "panther_channels.presence"
#: Seconds until somebody who has gone is taken to have left: a page that is reloaded hasn't.
GRACE = 2.0
#: Seconds between two beats.
BEAT = 3.0

_GROUP = _TYPE = "panther_channels.present"
_TOPIC = "presence"
# Own beats that come back without a word of a node, until it is looked for, and until it is taken
# for dead. What comes back shows that this event loop can hear; it may have slept, or Redis.
_MISSED, _DEAD = 3, 5
_WITHIN = 2.0  # seconds that others have to tell what they have
_RETRY = 1.0  # seconds until the layer is asked again
_ROOM = (0.05, 0.1, 0.2, 0.4)  # seconds until a connection may have room again
_FAREWELL = 1.0  # seconds to tell of the last who has gone
_RECENT = 256  # messages of a node that are known, should what it was asked for be older
_MANY = 200  # changes, or groups, in one message

_odd = Repeats(logger, logging.WARNING, interval=60.0)

Row = Sequence[Any]  # of a user: the primary key and the name
Change = Sequence[Any]  # a group on the layer, a user's address, and its row, or None if it went


class Member(Protocol):
    """A connection, as far as is needed here."""

    subscription: Subscription | None

    @property
    def user(self) -> Any: ...


# What is known, without any input or output


class View:
    """Who is in one group, as one event loop sees it.

    Args:
        name: what the project calls the group.
        announce: called with the view, whether somebody came, and whom.
        later: ``loop.call_later``.

    Attributes:
        members: the connections here, each with its user's address, or ``None``.
        more: by user's address, how many connections are here besides the first.
        parts: by node, the users that it has there.
    """

    __slots__ = ("_announce", "_fresh", "_later", "_leaving", "members", "more", "name", "parts")

    def __init__(
        self,
        name: str,
        announce: "Callable[[View, bool, Row], object]",
        later: Callable[..., asyncio.TimerHandle],
    ) -> None:
        self.name = name
        self.members: dict[Any, str | None] = {}
        self.more: dict[str, int] = {}
        self.parts: dict[str, dict[str, Row]] = {}
        self._announce = announce
        self._later = later
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        # Who came while the others are being asked for what they have, and where. It can't be said
        # yet whether they were there before.
        self._fresh: dict[tuple[str, str], Row] | None = {}

    @property
    def is_asking(self) -> bool:
        """Whether the others are being asked for what they have."""
        return self._fresh is not None

    def put(self, node: str, key: str, row: Row | None, *, is_new: bool = True) -> None:
        """A node has a user, or has none any more.

        Args:
            node: it.
            key: the user's address.
            row: whom it has.
            is_new: whether it is known that the user came just now.
        """
        part = self.parts.get(node, {})
        if row is None and key in part:
            gone = part.pop(key)
            if not part:
                del self.parts[node]
            if not self.has(key):
                self._leaving[key] = self._later(GRACE, self._left, key, gone)
            elif self._fresh is not None:
                self._fresh.pop((node, key), None)
        elif row is not None and key not in part:
            is_first = not self.has(key)
            self.parts.setdefault(node, part)[key] = row
            if (leaving := self._leaving.pop(key, None)) is not None:
                leaving.cancel()
            if self._fresh is not None:
                if is_new and (leaving is None or self._is_untold(key)):
                    self._fresh[node, key] = row
            elif leaving is None and is_first:
                self._announce(self, True, row)

    def has(self, key: str) -> bool:
        """Whether any node has a user."""
        return any(key in part for part in self.parts.values())

    def settle(self) -> None:
        """Others have told what they have: who else came meanwhile has come now."""
        fresh, self._fresh = self._fresh or {}, None
        told = set[str]()
        for (_node, key), row in fresh.items():
            is_known = any(
                key in part and (other, key) not in fresh for other, part in self.parts.items()
            )
            if key not in told and not is_known:
                told.add(key)
                self._announce(self, True, row)

    def close(self) -> None:
        """Nobody is here any more to be told anything."""
        for leaving in self._leaving.values():
            leaving.cancel()
        self._leaving.clear()

    def _is_untold(self, key: str) -> bool:
        return any(key == each for _node, each in self._fresh or ())

    def _left(self, key: str, row: Row) -> None:
        del self._leaving[key]
        if self._is_untold(key):  # and won't be told
            self._fresh = {each: row for each, row in (self._fresh or {}).items() if each[1] != key}
        else:
            self._announce(self, False, row)


class Peer:
    """Another node, as far as it was heard.

    Attributes:
        number: of its latest change.
        recent: its latest changes, with their numbers.
        missed: how many own beats came back since it was heard.
        is_doubtful: whether it has told of something that wasn't heard.
        is_asked: whether it is being asked.
    """

    __slots__ = ("is_asked", "is_doubtful", "missed", "number", "recent")

    def __init__(self, number: int, *, is_doubtful: bool) -> None:
        self.number = number
        self.recent: deque[tuple[int, Sequence[Change]]] = deque(maxlen=_RECENT)
        self.missed = 0
        self.is_doubtful = is_doubtful
        self.is_asked = False


class Views:
    """The groups that have members in one event loop, and what is known of the other nodes.

    Args:
        node: the name of this event loop.
        announce: as of :class:`View`.
        later: as of :class:`View`.

    Attributes:
        of: the views, by the name of the group on the layer.
        peers: the other nodes that were heard, by name.
        number: of the latest change that was told.
        changes: those that are to be told yet.
    """

    def __init__(
        self,
        node: str,
        announce: Callable[[View, bool, Row], object],
        later: Callable[..., asyncio.TimerHandle],
    ) -> None:
        self.node = node
        self.of: dict[str, View] = {}
        self.peers: dict[str, Peer] = {}
        self.number = 0
        self.changes: list[Change] = []
        self._announce, self._later = announce, later

    def enter(self, member: Member, group: str, name: str) -> View | None:
        """A connection is in a group; its view, if that is new.

        Args:
            member: the connection.
            group: what the project calls it.
            name: what the layer calls it.
        """
        view, is_new = self.of.get(name), False
        if view is None:
            view, is_new = View(group, self._announce, self._later), True
            self.of[name] = view
        if member not in view.members:
            key = view.members[member] = user_group(member.user)
            if key is not None and key in view.parts.get(self.node, ()):
                view.more[key] = view.more.get(key, 0) + 1
            elif key is not None:
                row = facts_of_user(member.user)
                view.put(self.node, key, row)
                self.changes.append((name, key, row))
        return view if is_new else None

    def leave(self, member: Member, name: str) -> None:
        """A connection is no longer in a group; does nothing if it isn't."""
        view = self.of.get(name)
        if view is None or member not in view.members:
            return
        key = view.members.pop(member)
        if key in view.more:
            view.more[key] -= 1
            if not view.more[key]:
                del view.more[key]
        elif key is not None:
            view.put(self.node, key, None)
            self.changes.append((name, key, None))
        if not view.members:
            view.close()
            del self.of[name]

    def next_changes(self) -> list[Change]:
        """What is to be told next, under the number that is in ``number`` then."""
        told, self.changes = self.changes[:_MANY], self.changes[_MANY:]
        self.number += 1
        return told

    def take(self, node: str, number: int, changes: Sequence[Change]) -> bool:
        """What another node tells; whether it has to be asked for all that it has."""
        peer = self.peers.get(node)
        if peer is None:
            began = 1 if changes else 0
            peer = self.peers[node] = Peer(number, is_doubtful=number > began)
        elif number <= peer.number:
            changes = ()  # which was known
        else:
            if number != peer.number + 1 or not changes:
                peer.is_doubtful = True
            peer.number = number
        peer.missed = 0
        if changes:
            peer.recent.append((number, changes))
        for name, key, row in changes:
            if (view := self.of.get(name)) is not None:
                view.put(node, key, row)
        return peer.is_doubtful and not peer.is_asked

    def page(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What this node has in some groups, a page at a time, to the number that it is of."""
        rows = {
            _place(name, key): (name, key, row)
            for name in question["groups"]
            if name in self.of
            for key, row in self.of[name].parts.get(self.node, {}).items()
        }
        page = page_of(rows, question["after"], lambda row: row)
        return {"rows": page["rows"], "more": page["more"], "number": self.number}

    def take_page(self, node: str, question: Mapping[str, Any], page: Mapping[str, Any]) -> None:
        """What another node says that it has."""
        number, after, end = page["number"], question["after"], page["more"]
        groups = [name for name in question["groups"] if name in self.of]
        peer = self.peers.get(node)
        if peer is None and len(groups) == len(self.of):
            peer = self.peers[node] = Peer(number, is_doubtful=False)

        def is_of_it(place: str) -> bool:
            return after < place and (not end or place <= end)

        there: dict[tuple[str, str], Row | None] = {
            (name, key): None for name in groups for key in self.of[name].parts.get(node, ())
        }
        there.update({(name, key): row for name, key, row in rows_of(page)})
        if peer is not None and number < peer.number:  # it is older than what was heard since
            if not peer.recent or peer.recent[0][0] > number + 1:
                peer.is_doubtful = True
            for since, changes in peer.recent:
                if since > number:
                    there.update({(name, key): row for name, key, row in changes})
        for (name, key), row in there.items():
            if name in groups and is_of_it(_place(name, key)):
                self.of[name].put(node, key, row, is_new=False)

    def count_silence(self) -> list[tuple[str, int]]:
        """An own beat came back: who wasn't heard since some of them, and since how many."""
        is_asking = any(view.is_asking for view in self.of.values())
        for peer in self.peers.values():
            peer.missed += 1
            if not (is_asking or peer.is_asked):
                peer.recent.clear()
        return [(node, each.missed) for node, each in self.peers.items() if each.missed >= _MISSED]

    def drop(self, node: str) -> None:
        """A node is gone, and all whom it had."""
        self.peers.pop(node, None)
        for view in self.of.values():
            for key in [*view.parts.get(node, ())]:
                view.put(node, key, None)


def _place(name: str, key: str) -> str:
    return f"{name} {key}"


# What is sent, and what comes


class Presence:
    """That of one channel layer in the running event loop.

    It listens at one channel, and only while there are members here.

    Args:
        layer: the channel layer.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = backplane(layer)
        self._is_alone = self._layer.is_in_memory
        self._survey = survey(layer)
        # The loop isn't kept: it would be kept for ever by what is kept for it.
        self._views = Views(
            self._layer.node(),
            self._announce,
            lambda *later: asyncio.get_running_loop().call_later(*later),
        )
        self._ear = Ear(layer, self._on_event)
        self._life: object = None  # while it listens: whose beats there are
        self._news: dict[View, list[tuple[bool, Row]]] = {}
        self._unknown: list[str] = []  # groups of which the others are yet to be asked
        self._telling: asyncio.Task[None] | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._tasks = Tasks(log_failed_task)

    # The connections of this event loop

    async def expect(self) -> None:
        """Hear of others from now on, for a connection that is about to :meth:`enter`.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        if not self._is_alone:
            await self._ear.listen([_GROUP], self._begin)

    def enter(self, member: Member, groups: Iterable[tuple[str, str]]) -> None:
        """A connection is open, and in groups; it is told of all who come from now on.

        Args:
            member: the connection.
            groups: what the project and the layer call each.
        """
        for group, name in groups:
            view = self._views.enter(member, group, name)
            if view is not None and self._is_alone:
                view.settle()
            elif view is not None:
                self._unknown.append(name)
                if _is_over(self._asking):
                    self._asking = self._tasks.create(self._ask_all())
        self._tell_soon()

    async def leave(self, member: Member, names: Iterable[str]) -> None:
        """A connection has left groups, which the layer calls so; raises nothing."""
        for name in names:
            self._views.leave(member, name)
        self._tell_soon()
        if not self._views.of and not self._is_alone:
            if (telling := self._telling) is not None:
                await asyncio.wait({telling}, timeout=_FAREWELL)
            await self._rest()

    def _announce(self, view: View, is_there: bool, row: Row) -> None:
        self._news.setdefault(view, []).append((is_there, row))
        if _is_over(self._delivering):  # in a moment, and then all that has happened by then
            self._delivering = self._tasks.create(self._deliver())

    async def _deliver(self) -> None:
        try:
            while self._news:
                view = next(iter(self._news))
                rows = self._news.pop(view)
                # By their own channels: a hook of theirs runs at a time, and a slow one waits.
                channels = [
                    each.subscription.name for each in view.members if each.subscription is not None
                ]
                event = {"type": EVENT_TYPE, "news": _packed([view.name, rows])}
                full = await self._layer.send_here(channels, event)
                for pause in _ROOM:  # who misses one would show somebody for ever
                    if full:
                        await asyncio.sleep(pause)
                        full = await self._layer.send_here(full, event)
                if full:
                    text = f"{len(full)} connections have no room for who came and went."
                    _odd.add("full", text)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next ones are told
            log_failure(error)
        finally:
            self._delivering = None

    # What this event loop tells others

    def _tell_soon(self) -> None:
        if self._is_alone:
            self._views.changes.clear()
        elif self._views.changes and _is_over(self._telling):
            self._telling = self._tasks.create(self._tell())

    async def _tell(self) -> None:
        try:
            while self._views.changes:
                await self._send(self._views.next_changes())
        finally:
            self._telling = None

    async def _send(self, changes: Sequence[Change]) -> None:
        event = {"type": _TYPE, "node": self._views.node, "number": self._views.number}
        event["changes"] = _packed(changes)
        try:
            sending = self._layer.group_send(_GROUP, event)
            await limited(sending, TO_SEND, self._layer.longest_wait)
        except Exception as error:  # noqa: BLE001 - who misses it finds that out by the next beat
            log_failed_task(error)

    def _beat(self, life: object) -> None:
        if self._life is life:
            if _is_over(self._telling):
                self._tasks.create(self._send([]))
            asyncio.get_running_loop().call_later(BEAT, self._beat, life)

    # What it hears

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        try:
            node, number, changes = event["node"], event["number"], _unpacked(event["changes"])
            if node != self._views.node:
                if self._views.take(node, number, changes):
                    self._tasks.create(self._ask(node))
            elif not changes:
                await self._bury()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next one is handled
            text = f"What another process tells of who is there was ignored: {error!r}"
            _odd.add(repr(error), text)

    async def _bury(self) -> None:
        for node, missed in self._views.count_silence():
            if missed >= _DEAD or await self._is_gone(node):
                self._views.drop(node)

    async def _is_gone(self, node: str) -> bool:
        nodes = await limited(self._layer.nodes(group_of_node(node, 0)), TO_JOIN)
        return nodes.number == 0 or (nodes.names is not None and node not in nodes.names)

    # What it asks others

    async def _ask_all(self) -> None:
        """Ask all nodes for the groups that are new here."""
        try:
            while self._unknown:
                names, self._unknown = self._unknown[:_MANY], self._unknown[_MANY:]
                heard, failure = set[str](), None
                try:
                    await self.expect()
                    heard = await self._fetch(names)
                except Exception as error:  # noqa: BLE001 - it is asked again
                    log_failed_task(failure := error)
                for node, peer in self._views.peers.items():
                    peer.is_doubtful = peer.is_doubtful or node not in heard
                here = [name for name in names if name in self._views.of]
                for name in here:
                    self._views.of[name].settle()
                if failure is not None and here:
                    self._unknown += here
                    await asyncio.sleep(_RETRY)
        finally:
            self._asking = None

    async def _ask(self, node: str) -> None:
        """Ask one node for all that it has in the groups that are here."""
        peer = self._views.peers[node]
        peer.is_asked, peer.is_doubtful = True, False
        try:
            names = [*self._views.of]
            for start in range(0, len(names), _MANY):
                if node not in await self._fetch(names[start : start + _MANY], node):
                    peer.is_doubtful = True
        except Exception as error:  # noqa: BLE001 - its next beat asks again
            log_failed_task(error)
            peer.is_doubtful = True
        finally:
            peer.is_asked = False

    async def _fetch(self, names: list[str], node: str | None = None) -> set[str]:
        """Ask for groups; those who have told all of theirs."""
        question: dict[str, Any] = {"groups": names, "after": ""}
        heard = set[str]()
        waiting = [(node, question)]
        while waiting:
            whom, question = waiting.pop()
            answers = await self._survey.ask(_TOPIC, question, within=_WITHIN, node=whom)
            for each, page in answers.given.items():
                self._views.take_page(each, question, page)
                if page["more"]:
                    waiting.append((each, {**question, "after": page["more"]}))
                else:
                    heard.add(each)
        return heard

    # To be there, or not

    async def _begin(self) -> None:
        await self._survey.answer(_TOPIC, self._views.page)
        first = BEAT * random.random()  # noqa: S311 - not all at a time
        self._life = object()
        asyncio.get_running_loop().call_later(first, self._beat, self._life)

    async def _rest(self) -> None:
        await self._ear.rest(lambda: self._views.of, self._end)

    async def _end(self) -> None:
        self._life = None
        self._views.peers.clear()  # who comes from now on isn't heard
        await self._survey.withdraw(_TOPIC)


def news_of(event: Mapping[str, Any]) -> tuple[str, list[tuple[bool, PresentUser]]]:
    """What a connection is told: the group, and who has come or gone."""
    group, rows = _unpacked(event["news"])
    return group, [(is_there, PresentUser(*row)) for is_there, row in rows]


def _is_over(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()  # an eager one may be before anybody knows it


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed


def _unpacked(content: bytes) -> Any:
    return msgpack.unpackb(content, unicode_errors="surrogatepass")


#: Of a channel layer in the running event loop; the first call may raise a ``ChannelLayerError``.
presence = OnePerLayer(Presence)
