"""How connections are limited, within a process and over several."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels._hub import connection_limits as _limits
from panther_channels._hub.connection_limits import Holder, limits_of, take_seat
from panther_channels.exceptions import ChannelLayerError, ThrottlingAPIError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer
from tests.unit.processes import Process, failing
from tests.waiting import until

CLIENT = ("10.0.0.1", 50000)
TOO_MANY = {"type": "websocket.close", "code": 1008, "reason": "too many connections"}


class Visitor:
    """What a connection in a process does with its seat."""

    ends = 0
    seat: Any = None

    def __init__(self, process: Process) -> None:
        self._process = process

    async def come(self) -> bool:
        """Whether it is let in."""
        try:
            self.seat = await take_seat(limits_of(None, CLIENT), self._process, self._end)
        except ThrottlingAPIError:
            return False
        return True

    async def open(self) -> "Visitor":
        """Come and be let in."""
        asked = self._process.count("ask")
        assert await self.come()
        self.seat.open()
        await until(lambda: self._process.count("ask") > asked)
        return self

    async def leave(self) -> None:
        if self.seat is not None:
            await self.seat.leave()

    async def _end(self) -> None:
        self.ends += 1


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def processes(layer: InMemoryChannelLayer, stack: AsyncExitStack) -> list[Process]:
    there: set[str] = set()
    made = [Process(layer, there) for _ in range(3)]
    for process in made:
        stack.push_async_callback(process.survey.close)
    return made


@pytest.fixture
def visitor(processes: list[Process], stack: AsyncExitStack) -> Callable[[int], Visitor]:
    def make(process: int) -> Visitor:
        visitor = Visitor(processes[process])
        stack.push_async_callback(visitor.leave)
        return visitor

    return make


@pytest.fixture(params=["refuse", "close_oldest"])
def action(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.WS_CONNECTION_LIMIT_ACTION = request.param
    return str(request.param)


@pytest.mark.parametrize(("seats", "number"), [(1, 2), (3, 9)])
async def test_of_many_at_once_as_many_are_let_in_as_there_are_seats(
    seats: int, number: int, visitor: Any, settings: Any
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = seats
    visitors = [visitor(count % 3) for count in range(number)]
    assert sum(await asyncio.gather(*(item.come() for item in visitors))) == seats
    assert [item.ends for item in visitors] == [0] * number


async def test_of_two_at_once_one_is_let_in_whatever_the_clocks_say(
    processes: list[Process], visitor: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    processes[0].there.add(processes[2].name)  # which doesn't answer, so that one waits for it
    coming = asyncio.create_task(visitor(0).come())
    await until(lambda: processes[0].count("ask"))
    monkeypatch.setattr(_limits, "time", SimpleNamespace(time=lambda: 1.0))  # the other's is behind
    assert [await visitor(1).come(), await coming] == [True, False]


async def test_who_was_let_in_counts_whatever_its_clock_says(visitor: Any, settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    first = await visitor(0).open()
    first.seat.time += 60
    assert not await visitor(1).come()
    # But not against one that has been let in, too, and before.
    first.seat.hear("client.10.0.0.1", Holder(first.seat.time + 1, "b", True, "node"))
    first.seat.look()
    await asyncio.sleep(0.01)
    assert first.ends == 0


@pytest.mark.parametrize("lost", ["ask", "answer"])
async def test_what_is_lost_lets_nobody_in_for_good(
    processes: list[Process], visitor: Any, settings: Any, action: str, lost: str
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 2
    visitors = [await visitor(0).open(), await visitor(1).open()]
    processes[2 if lost == "ask" else 0].lose_next(lost)
    visitors.append(await visitor(2).open())
    too_many = visitors[2 if action == "refuse" else 0]
    await until(lambda: too_many.ends)
    assert sum(item.ends > 0 for item in visitors) == 1


async def test_the_oldest_is_told_once_whoever_answers_and_again_where_that_is_lost(
    processes: list[Process], visitor: Any, settings: Any
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 2
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    oldest, younger = await visitor(0).open(), await visitor(2).open()
    processes[1].loses = lambda event: "ask" in event and processes[1].count("ask") == 2
    newest = await visitor(1).open()
    await until(lambda: oldest.ends)
    newest.seat.look()
    await asyncio.sleep(0.01)
    assert processes[1].count("ask") == 3
    assert [oldest.ends, younger.ends, newest.ends] == [1, 0, 0]


async def test_a_late_answer_while_connect_is_busy(
    processes: list[Process], visitor: Any, settings: Any
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    await visitor(0).open()
    processes[0].lose_next("answer")
    second = visitor(1)
    assert await second.come()
    await until(lambda: second.ends)
    second.seat.open()  # what was told before has been of no effect
    await until(lambda: second.ends == 2)


async def test_a_layer_that_fails(
    processes: list[Process],
    visitor: Any,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(_limits._unkept, "_known", OrderedDict())
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    processes[0].loses = failing
    with pytest.raises(ChannelLayerError):
        await visitor(0).come()
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    several = [visitor(0) for _ in range(5)]
    for each in several:
        assert await each.come()
        each.seat.open()
    await until(lambda: not several[0].seat._seats.tasks._tasks)
    assert caplog.text.count("A limit of connections could not be kept") == 1
    for each in several:
        await each.leave()
    processes[0].loses = lambda _event: False
    settings.WS_CONNECTION_LIMIT_ACTION = "refuse"
    await visitor(0).open()  # no seat is left


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (None, None),
        (("", 0), None),
        (("10.0.0.1", 5), "client.10.0.0.1"),
        (("::ffff:10.0.0.1", 5), "client.10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "client.2001:db8:1:2::/64"),
        (("2001:db8:1:2::1", 5), "client.2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "client.fe80::/64"),
        (["testclient", 5], "client.testclient"),
    ],
)
def test_what_counts_as_one_client(address: Any, key: str | None):
    assert _limits._client(address) == key


class Echo(GenericWebsocket):
    async def auth(self, connection):
        return SimpleNamespace(pk=7) if self.scope["path"] == "/user" else None

    async def connect(self):
        self.scope["journal"].append("connect")
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


class Silent(Echo):
    async def connect(self):
        pass


@pytest.fixture
def connected(stack: AsyncExitStack) -> Callable[..., Any]:
    """Opens connections that end with the test, in the order of opening."""

    async def connect(path: str = "/user", kind: Any = Echo, **scope: Any) -> Peer:
        peer = Peer(kind.as_asgi(), path, **{"client": CLIENT, **scope})
        await stack.enter_async_context(peer)
        stack.callback(peer.leave)
        return peer

    return connect


async def is_open(peer: Peer) -> bool:
    peer.push("?")
    return (await peer.next()).get("text") == "?"


@pytest.mark.parametrize(("path", "what"), [("/user", "USER"), ("/nobody", "CLIENT")])
async def test_without_a_layer_each_process_counts_for_itself(
    path: str, what: str, settings: Any, connected: Any
):
    settings.CHANNEL_LAYERS = {}
    setattr(settings, f"WS_MAX_CONNECTIONS_PER_{what}", 1)
    first = await (await connected(path)).accepted()
    refused = await connected(path, extensions={"websocket.http.response": {}})
    assert [item.get("status") for item in await refused.ended()] == [429, None]
    assert refused.journal == []
    assert await is_open(first)
    await (await connected("/other", client=("10.0.0.2", 1))).accepted()
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    await (await connected(path)).accepted()
    assert await first.next() == TOO_MANY


async def test_nobody_is_closed_for_one_that_is_refused(settings: Any, connected: Any):
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    first = await (await connected()).accepted()
    await (await connected(kind=Silent)).ended()
    assert await is_open(first)


async def test_a_middleware_that_accepts(settings: Any, connected: Any):
    class Accepting(WebsocketMiddleware):
        async def __call__(self, connection):
            await connection.accept()
            return await self.dispatch(connection=connection)

    settings.WS_MIDDLEWARES = [Accepting]
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    oldest = await (await connected(kind=Silent)).accepted()
    second = await (await connected(kind=Silent)).accepted()
    assert await second.next() == {**TOO_MANY, "reason": "Too many connections"}
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    await (await connected(kind=Silent)).accepted()
    assert await oldest.next() == TOO_MANY


async def test_nothing_is_asked_without_a_limit_nor_left_by_who_goes(
    settings: Any, connected: Any, layer: InMemoryChannelLayer
):
    await (await connected()).accepted()
    assert "panther_channels.survey" not in layer.groups
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    async with Peer(Echo.as_asgi(), "/user") as peer:
        await until(lambda: "panther_channels.survey" in layer.groups)
        peer.task.cancel()  # while others are asked
        await asyncio.wait({peer.task})
    assert "panther_channels.survey" not in layer.groups
