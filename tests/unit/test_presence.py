"""Who is told of whom, in whatever order changes of other event loops come, or don't."""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from hypothesis import given
from hypothesis import strategies as st

from panther_channels._hub import listing as _listing
from panther_channels._hub import presence as _presence
from panther_channels._hub.presence import View, Views, news_of, presence
from panther_channels._hub.subscription import Subscription
from panther_channels.exceptions import ChannelLayerError
from tests.unit.processes import Process, failing
from tests.waiting import until

GROUPS = ["hall", "lobby"]
USERS = ["ann", "bob"]


class Clock:
    """Timers that elapse when they are told to."""

    def __init__(self) -> None:
        self.timers: list[tuple[Callable[[], None], SimpleNamespace]] = []

    def later(self, _seconds: float, call: Any, *arguments: Any) -> Any:
        timer = SimpleNamespace(is_on=True)
        timer.cancel = partial(setattr, timer, "is_on", False)
        self.timers.append((partial(call, *arguments), timer))
        return timer

    def elapse(self) -> None:
        timers, self.timers = self.timers, []
        for call, timer in timers:
            if timer.is_on:
                call()


class Tab:
    """A connection of a user, or of nobody."""

    subscription: Subscription | None = None

    def __init__(self, name: str | None) -> None:
        self.user = None if name is None else SimpleNamespace(pk=name)


# "+a" is that node "a" has the user, "-a" that it has none, "?a" that it had one before, "!" that
# all nodes have told what they have, "." that time passes.
@pytest.mark.parametrize(
    ("events", "told"),
    [
        ("! +a", "+"),
        ("! +a +b", "+"),
        ("! +a +a", "+"),
        ("! -a", ""),
        ("! +a -a .", "+-"),
        ("! +a -a", "+"),
        ("! +a +b -a .", "+"),
        ("! +a +b -a -b . +b", "+-+"),
        ("! +a -a +a .", "+"),
        ("! +a -a +b . -b .", "+-"),
        ("! +a -a . .", "+-"),
        ("+a", ""),
        ("+a !", "+"),
        ("+a +b !", "+"),
        ("?a !", ""),
        ("?a +b !", ""),
        ("+b ?a !", ""),
        ("+a ?a !", "+"),
        ("?a -a ! .", "-"),
        ("?a -a +b ! .", ""),
        ("?a -a . +b !", "-+"),
        ("+a -a ! .", "+-"),
        ("+a -a . !", ""),
        ("+a -a +b !", "+"),
        ("+a -a . +b !", "+"),
        ("+a +b -a !", "+"),
        ("?a ! +b -a -b .", "-"),
        ("! ?a", "+"),  # whom nobody could tell before
    ],
)
def test_a_view(events: str, told: str):
    news: list[str] = []
    clock = Clock()
    view = View("room", lambda _view, is_there, _row: news.append("-+"[is_there]), clock.later)
    for event in events.split():
        if event == "!":
            view.settle()
        elif event == ".":
            clock.elapse()
        else:
            row = None if event[0] == "-" else ("id", "name")
            view.put(event[1], "key", row, is_new=event[0] != "?")
    assert "".join(news) == told
    assert view.has("key") == any(view.parts.values())


class Node:
    """An event loop, whose changes come to each of the others in their order.

    Answers may overtake them, or be overtaken, unless it is orderly.
    """

    def __init__(self, name: str, nodes: "dict[str, Node]", *, is_orderly: bool) -> None:
        self._is_orderly = is_orderly
        self.clock = Clock()
        self.views = Views(name, self._announce, self.clock.later)
        self.news: dict[tuple[View, str], list[str]] = defaultdict(list)
        self.inbox: dict[tuple[str, bool], deque[Any]] = defaultdict(deque)
        self.tabs: list[tuple[Any, str]] = []
        self._pages: dict[str, list[Any]] = {}  # by group, what others have said of it
        self._nodes = nodes

    def _announce(self, view: View, is_there: bool, row: Any) -> None:
        self.news[view, row[0]].append("-+"[is_there])

    def _send(self, to: "Node", kind: str, *content: Any) -> None:
        is_apart = kind == "page" and not self._is_orderly
        to.inbox[self.views.node, is_apart].append((kind, self, *content))

    def others(self) -> "list[Node]":
        return [node for node in self._nodes.values() if node is not self]

    def enter(self, name: str, group: str) -> None:
        tab = Tab(name)
        self.tabs.append((tab, group))
        if self.views.enter(tab, group, group):
            self._pages[group] = []
            for node in self.others():
                self._send(node, "ask", {"groups": [group], "after": ""})
        self.tell()

    def leave(self, number: int) -> None:
        self.views.leave(*self.tabs.pop(number % len(self.tabs)))
        self.tell()

    def tell(self, *, beat: bool = False) -> None:
        if self.views.changes or beat:
            changes = [] if beat else self.views.next_changes()
            for node in self.others():
                self._send(node, "tell", self.views.number, changes)

    def receive(self, path: tuple[str, bool]) -> None:
        kind, sender, *content = self.inbox[path].popleft()
        if kind == "ask":
            self._send(sender, "page", content[0], self.views.page(content[0]))
        elif kind == "page":
            self._take_page(sender, *content)
        elif self.views.take(sender.views.node, *content):
            peer = self.views.peers[sender.views.node]
            peer.is_asked, peer.is_doubtful = True, False
            self._send(sender, "ask", {"groups": [*self.views.of], "after": "", "all": True})

    def _take_page(self, sender: "Node", question: Any, page: Any) -> None:
        node, group = sender.views.node, question["groups"][:1]
        if question.get("all"):
            self.views.take_page(node, question, page)
            self.views.peers[node].is_asked = False
            return
        pages = self._pages[group[0]]
        pages.append((node, question, page))
        if len(pages) >= len(self.others()) and group[0] in self.views.of:
            for each in pages:
                self.views.take_page(*each)
            self.views.of[group[0]].settle()


def played(moves: list[tuple[int, int, int]], *, is_lossy: bool, is_calm: bool) -> list[Node]:
    """Nodes after some moves, and after all messages have come.

    Args:
        moves: each with the number of a node, what happens there, and to what.
        is_lossy: whether changes may be lost.
        is_calm: whether nobody leaves, and all comes in order.
    """
    nodes: dict[str, Node] = {}
    for name in "abc":
        nodes[name] = Node(name, nodes, is_orderly=is_calm)
    for which, what, detail in moves:
        node = nodes["abc"[which]]
        full = [path for path, messages in node.inbox.items() if messages]
        if what < 3:
            node.enter(USERS[detail % 2], GROUPS[detail // 2 % 2])
        elif what < 5 and node.tabs and not is_calm:
            node.leave(detail)
        elif what == 5:
            node.clock.elapse()
        elif full:
            path = full[detail % len(full)]
            if what == 6 and is_lossy and node.inbox[path][0][0] == "tell":
                node.inbox[path].popleft()
            else:
                node.receive(path)
    for node in nodes.values():
        node.tell(beat=True)
    while full_boxes := [
        (node, path) for node in nodes.values() for path, messages in node.inbox.items() if messages
    ]:
        node, path = full_boxes[0]
        node.receive(path)
    for node in nodes.values():
        node.clock.elapse()
    return [*nodes.values()]


MOVES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 7)), max_size=60)


@given(MOVES, st.booleans())
def test_all_agree_in_the_end_and_each_hears_of_each_in_turn(moves: Any, is_lossy: bool):
    nodes = played(moves, is_lossy=is_lossy, is_calm=False)
    there = {(tab.user.pk, group) for node in nodes for tab, group in node.tabs}
    for node in nodes:
        for group, view in node.views.of.items():
            present = {row[0] for part in view.parts.values() for row in part.values()}
            assert present == {name for name, where in there if where == group}
        for (view, name), news in node.news.items():
            assert "++" not in "".join(news)
            assert "--" not in "".join(news)
            if view in node.views.of.values():
                assert (news[-1] == "+") == ((name, view.name) in there)


@given(MOVES)
def test_who_stays_is_told_once_to_all_who_were_there(moves: Any):
    nodes = played(moves, is_lossy=False, is_calm=True)
    since: dict[Any, int] = {}
    for number, (which, what, detail) in enumerate(moves):
        if what < 3:
            name, group = USERS[detail % 2], GROUPS[detail // 2 % 2]
            since.setdefault((name, group), number)
            since.setdefault(("abc"[which], group, "view"), number)
    for node in nodes:
        for group, view in node.views.of.items():
            for name in USERS:
                came = since.get((name, group), -1)
                must = came >= since[node.views.node, group, "view"]
                news = node.news.get((view, name), [])
                assert news == ["+"] or (not must and news == []), (node.views.node, group, name)


class Member(Tab):
    """A connection on a layer, and what it hears."""

    def __init__(self, name: str | None, process: Process) -> None:
        super().__init__(name)
        self.heard: list[str] = []
        self._process = process

    async def enter(self) -> "Member":
        self.subscription = await Subscription.open(self._process)
        self.subscription.start(self._hear, lambda: True)
        present = presence(self._process)
        await present.expect()
        present.enter(self, [("the room", "room")])
        return self

    async def leave(self) -> None:
        if self.subscription is not None:
            await presence(self._process).leave(self, ["room"])
            await self.subscription.leave()
            self.subscription = None

    async def _hear(self, event: Any) -> None:
        group, news = news_of(event)
        assert group == "the room"
        self.heard += [f"{'-+'[is_there]}{user.user_id}" for is_there, user in news]


Enter = Callable[..., Any]


@pytest.fixture(params=["names", "number", "nothing"])
async def site(
    request: pytest.FixtureRequest, layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Callable[[], Process], Enter]]:
    """Makes processes, and lets a user into one."""
    for name, seconds in {"BEAT": 0.05, "GRACE": 0.05, "_WITHIN": 0.5, "_RETRY": 0.02}.items():
        monkeypatch.setattr(_presence, name, seconds)
    members: list[Member] = []
    processes: list[Process] = []
    there: set[str] = set()

    def new() -> Process:
        processes.append(Process(layer, there, request.param))
        return processes[-1]

    async def enter(process: Process, name: str | None) -> Member:
        members.append(await Member(name, process).enter())
        return members[-1]

    yield new, enter
    for process in processes:
        process.loses = lambda _event: False
    for member in members:
        await member.leave()
    for process in processes:
        assert presence(process)._ear.subscription is None
        await process.survey.close()


async def test_all_members_hear_of_all_who_come_and_go(site: Any):
    new, enter = site
    a, b, c = new(), new(), new()
    ann = await enter(a, "ann")
    await until(lambda: ann.heard == ["+ann"])
    bobs = [await enter(process, "bob") for process in (b, b, a, c)]
    nobody = await enter(b, None)
    await until(lambda: ann.heard == ["+ann", "+bob"])
    for bob in bobs[:3]:
        await bob.leave()
    carl = await enter(c, "carl")
    await until(lambda: nobody.heard[-1:] == ["+carl"])
    await bobs[3].leave()
    await until(lambda: ann.heard[2:] == ["+carl", "-bob"] == carl.heard[-2:])
    await carl.leave()
    await until(lambda: ann.heard[-1] == nobody.heard[-1] == "-carl")


@pytest.mark.parametrize("what", ["join", "leave"])
async def test_what_is_lost_is_told_by_the_next_beat(site: Any, what: str):
    new, enter = site
    a, b = new(), new()
    ann, nobody = await enter(a, "ann"), await enter(b, None)
    bob = await enter(b, "bob") if what == "leave" else None
    await until(lambda: ann.heard == ["+ann", *(["+bob"] if bob else [])])
    before = len(b.sent)
    b.lose_next("changes")
    if bob is None:
        await enter(b, "bob")
    else:
        await bob.leave()
    await until(lambda: len(b.sent) > before)
    await until(lambda: ann.heard[-1] == ("-bob" if bob else "+bob"))
    assert len(ann.heard) == (3 if bob else 2)
    assert nobody.heard[-1] == ann.heard[-1]


async def test_who_was_in_a_process_that_is_silent_has_left_until_it_speaks(
    site: Any, layer: InMemoryChannelLayer
):
    new, enter = site
    a, b = new(), new()
    ann, bob = await enter(a, "ann"), await enter(b, "bob")
    await until(lambda: ann.heard == ["+ann", "+bob"])
    b.loses = lambda _event: True
    b.there.discard(b.name)
    await until(lambda: ann.heard[2:] == ["-bob"])
    carl = await enter(a, "carl")
    b.there.add(b.name)
    b.loses = lambda _event: False
    await until(lambda: ann.heard[3:] == ["+carl", "+bob"])
    await until(lambda: bob.heard[-1] == "+carl")
    assert "-ann" not in bob.heard
    await carl.leave()


async def test_who_cannot_hear_takes_nobody_for_dead(site: Any):
    new, enter = site
    a, b = new(), new()
    ann, bob = await enter(a, "ann"), await enter(b, "bob")
    await until(lambda: ann.heard == ["+ann", "+bob"])
    for process in (a, b):
        process.loses = failing
    before = len(a.sent)
    await until(lambda: len(a.sent) > before + 2 * _presence._DEAD)
    for process in (a, b):
        process.loses = lambda _event: False
    await enter(b, "carl")
    await until(lambda: ann.heard == ["+ann", "+bob", "+carl"])
    assert bob.heard[-1] == "+carl"


async def test_a_layer_that_fails_is_asked_again(site: Any):
    new, enter = site
    a, b = new(), new()
    await enter(b, "bob")
    a.loses = lambda event: "news" not in event and failing(event)
    ann = Member("ann", a)
    with pytest.raises(ChannelLayerError):
        await ann.enter()
    presence(a).enter(ann, [("the room", "room")])
    await until(lambda: ann.heard == ["+ann"])  # who is here is told meanwhile
    a.loses = lambda _event: False
    await until(lambda: "+bob" in ann.heard)
    await ann.leave()


@pytest.mark.parametrize("site", ["names"], indirect=True)
async def test_what_cannot_be_read_and_who_has_no_room_is_logged(
    site: Any, caplog: pytest.LogCaptureFixture
):
    new, enter = site
    a = new()
    ann = await enter(a, "ann")
    kind = "panther_channels.present"
    for event in ({}, {"node": "x", "number": 1, "changes": b"x"}, {"node": "x", "number": "1"}):
        await a.group_send(kind, {"type": kind, **event})
    has_room, send_here = iter((False, False, True)), a.send_here

    async def send_to_some(channels: list[str], event: Any) -> list[str]:
        return await send_here(channels, event) if next(has_room, False) else channels

    a.send_here = send_to_some
    await enter(a, "bob")
    await until(lambda: ann.heard == ["+ann", "+bob"])
    await enter(a, "carl")
    await until(lambda: "have no room" in caplog.text)
    assert caplog.text.count("was ignored") == 3
    assert ann.heard == ["+ann", "+bob"]


@pytest.mark.parametrize("site", ["names"], indirect=True)
async def test_many_groups_and_users_are_told_in_pages(site: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_presence, "_MANY", 3)
    monkeypatch.setattr(_listing, "_ROWS", 2)
    new, enter = site
    a, b = new(), new()
    names = [f"user {number}\ud800" for number in range(8)]
    for name in names:
        await enter(a, name)
    await until(lambda: presence(a)._telling is None)
    ann = await enter(b, "ann")
    presence(b).enter(ann, [(name, name) for name in "abcdefgh"])
    views = presence(b)._views
    await until(lambda: len(views.of["room"].parts.get(a.name, ())) == len(names))
    await until(lambda: not any(view.is_asking for view in views.of.values()))
    assert ann.heard == ["+ann"]
    await presence(b).leave(ann, "abcdefgh")
