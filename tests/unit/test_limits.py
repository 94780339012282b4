"""How connections are limited, within a process and over several."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels import _limits
from panther_channels._limits import take_seat
from panther_channels.exceptions import ChannelLayerError, ThrottlingAPIError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer
from tests.unit.processes import Process, failing
from tests.waiting import until

CLIENT = ("10.0.0.1", 50000)
TOO_MANY = {"type": "websocket.close", "code": 1008, "reason": "too many connections"}


class Visitor:
    """What a connection does with its seat."""

    def __init__(self) -> None:
        self.ends = 0
        self.seat: Any = None

    async def come(self, layer: Any) -> bool:
        """Whether it is let in."""
        try:
            self.seat = await take_seat(None, CLIENT, layer, self._end)
        except ThrottlingAPIError:
            return False
        return True

    async def leave(self) -> None:
        if self.seat is not None:
            await self.seat.leave()

    async def _end(self) -> None:
        self.ends += 1


class House:
    """Processes on one layer, and those who come."""

    def __init__(self, layer: InMemoryChannelLayer, stack: AsyncExitStack) -> None:
        there: set[str] = set()
        self.processes = [Process(layer, there) for _ in range(3)]
        self._stack = stack

    def visitor(self) -> Visitor:
        visitor = Visitor()
        self._stack.push_async_callback(visitor.leave)
        return visitor

    async def opened(self, *numbers: int) -> list[Visitor]:
        """Visitors that come and are let in, one after the other."""
        return [await self._opened(self.processes[number]) for number in numbers]

    async def _opened(self, process: Process) -> Visitor:
        visitor, asked = self.visitor(), process.count("ask")
        assert await visitor.come(process)
        visitor.seat.open()
        await until(lambda: process.count("ask") > asked)
        return visitor


@pytest.fixture
async def house(layer: InMemoryChannelLayer) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(layer, stack)
        for process in house.processes:
            stack.push_async_callback(process.survey.close)
        yield house


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """That of the hosts, which a test sets."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(_limits, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture(params=["refuse", "close_oldest"])
def action(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.WS_CONNECTION_LIMIT_ACTION = request.param
    return str(request.param)


async def test_of_many_at_once_as_many_are_let_in_as_there_are_seats(house: House, settings: Any):
    for seats, number in ((1, 2), (3, 9)):
        settings.WS_MAX_CONNECTIONS_PER_CLIENT = seats
        visitors = [house.visitor() for _ in range(number)]
        come = [item.come(house.processes[n % 3]) for n, item in enumerate(visitors)]
        assert sum(await asyncio.gather(*come)) == seats
        assert [item.ends for item in visitors] == [0] * number
        for visitor in visitors:
            await visitor.leave()


async def test_of_two_at_once_one_is_let_in_whatever_the_clocks_say(
    house: House, settings: Any, clock: SimpleNamespace
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    first_one, second = house.visitor(), house.visitor()
    house.processes[0].there.add(house.processes[2].name)  # which doesn't answer
    coming = asyncio.create_task(first_one.come(house.processes[0]))
    await until(lambda: house.processes[0].count("ask"))
    clock.now -= 60
    assert [await second.come(house.processes[1]), await coming] == [True, False]


async def test_who_was_let_in_counts_whatever_the_clocks_say(
    house: House, settings: Any, clock: SimpleNamespace
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    [visitor] = await house.opened(0)
    clock.now -= 60
    assert not await house.visitor().come(house.processes[1])
    assert visitor.ends == 0


@pytest.mark.parametrize("lost", ["ask", "answer"])
async def test_what_is_lost_lets_nobody_in_for_good(
    house: House, settings: Any, action: str, lost: str
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 2
    visitors = await house.opened(0, 1)
    house.processes[2 if lost == "ask" else 0].lose_next(lost)
    visitors += await house.opened(2)
    too_many = visitors[2 if action == "refuse" else 0]
    await until(lambda: too_many.ends)
    assert sum(item.ends > 0 for item in visitors) == 1


async def test_the_oldest_is_told_once_more_where_that_is_lost(house: House, settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    [oldest] = await house.opened(0)
    process = house.processes[1]
    process.loses = lambda event: "ask" in event and process.count("ask") == 2
    await house.opened(1)
    await until(lambda: oldest.ends)
    assert process.count("ask") == 3


async def test_the_oldest_is_told_once_whoever_answers(house: House, settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 2
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    visitors = await house.opened(0, 2, 1)  # which hears of one after the other
    await until(lambda: house.processes[0].count("answer") == 3)
    assert [item.ends for item in visitors] == [1, 0, 0]


async def test_a_late_answer_while_connect_is_busy(house: House, settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    await house.opened(0)
    house.processes[0].lose_next("answer")
    visitor = house.visitor()
    assert await visitor.come(house.processes[1])
    await until(lambda: visitor.ends)
    visitor.seat.open()  # what was told while it wasn't open has been of no effect
    await until(lambda: visitor.ends == 2)


async def test_a_late_answer_to_who_has_gone(house: House, settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    await house.opened(0)
    house.processes[0].lose_next("answer")
    visitor = house.visitor()
    assert await visitor.come(house.processes[1])
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 9
    await house.opened(1)  # and its process goes on listening
    await visitor.leave()
    await until(lambda: house.processes[0].count("answer") == 3)  # the first one is asked again
    await until(lambda: not house.processes[0].survey._tasks._tasks)
    assert visitor.ends == 0


async def test_a_layer_that_fails(
    house: House, settings: Any, action: str, caplog: pytest.LogCaptureFixture
):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    house.processes[0].loses = failing
    visitor = house.visitor()
    if action == "refuse":
        with pytest.raises(ChannelLayerError):
            await visitor.come(house.processes[0])
    else:
        assert await visitor.come(house.processes[0])
        visitor.seat.open()
        await until(lambda: "A limit of connections could not be kept" in caplog.text)
        await visitor.leave()
    assert _limits._seats()[house.processes[0]]._held == {}


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (None, None),
        (("", 0), None),
        ((None, None), None),
        (("10.0.0.1", 5), "client.10.0.0.1"),
        (["10.0.0.1", 5], "client.10.0.0.1"),
        (("::ffff:10.0.0.1", 5), "client.10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "client.2001:db8:1:2::/64"),
        (("2001:db8:1:2::1", 5), "client.2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "client.fe80::/64"),
        (("testclient", 5), "client.testclient"),
    ],
)
def test_what_counts_as_one_client(address: Any, key: str | None):
    assert _limits._client(address) == key


class Echo(GenericWebsocket):
    async def auth(self, connection):
        path = self.scope["path"]
        return SimpleNamespace(pk=7) if path.startswith("/user") else None

    async def connect(self):
        self.scope["journal"].append("connect")
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


@pytest.fixture
async def connected() -> AsyncIterator[Callable[..., Any]]:
    """Opens connections that end with the test, in the order of opening."""
    async with AsyncExitStack() as stack:

        async def connect(path: str = "/user", kind: Any = Echo, **scope: Any) -> Peer:
            peer = Peer(kind.as_asgi(), path, **{"client": CLIENT, **scope})
            await stack.enter_async_context(peer)
            stack.callback(peer.leave)
            return peer

        yield connect


async def is_open(peer: Peer) -> bool:
    peer.push("?")
    return (await peer.next()).get("text") == "?"


@pytest.mark.parametrize("has_layer", [True, False])
@pytest.mark.parametrize(("path", "what"), [("/user", "USER"), ("/nobody", "CLIENT")])
async def test_the_new_one_is_refused(
    path: str, what: str, has_layer: bool, settings: Any, connected: Any
):
    if not has_layer:
        settings.CHANNEL_LAYERS = {}
    setattr(settings, f"WS_MAX_CONNECTIONS_PER_{what}", 2)
    peers = [await (await connected(path)).accepted() for _ in range(2)]
    for _ in range(2):
        refused = await connected(path, extensions={"websocket.http.response": {}})
        assert (await refused.next())["status"] == 429
        assert (await refused.next())["body"] == b'{"detail": "Too many connections"}'
        await refused.ended()
        assert refused.journal == []
    assert [await is_open(peer) for peer in peers] == [True, True]
    peers[0].leave()
    await peers[0].ended()  # and its seat is free
    await (await connected(path)).accepted()
    others = {"/user": "/nobody", "/nobody": path}
    await (await connected(others[path], client=("10.0.0.2", 1))).accepted()


async def test_the_oldest_is_closed_but_for_nobody_who_is_refused(settings: Any, connected: Any):
    class Refusing(Echo):
        async def connect(self):
            pass

    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    oldest = await (await connected()).accepted()
    await (await connected(kind=Refusing)).ended()
    assert await is_open(oldest)
    newest = await (await connected()).accepted()
    assert await oldest.next() == TOO_MANY
    assert await is_open(newest)


async def test_a_middleware_that_accepts(settings: Any, connected: Any):
    class Accepting(WebsocketMiddleware):
        async def __call__(self, connection):
            await connection.accept()
            return await self.dispatch(connection=connection)

    class Accepted(Echo):
        async def connect(self):
            pass

    settings.WS_MIDDLEWARES = [Accepting]
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    oldest = await (await connected(kind=Accepted)).accepted()
    second = await (await connected(kind=Accepted)).accepted()
    assert await second.next() == {**TOO_MANY, "reason": "Too many connections"}
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    await (await connected(kind=Accepted)).accepted()
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
