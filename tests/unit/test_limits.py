"""How a connection is limited; processes are played by several censuses of one event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels import _census, _limits
from panther_channels._census import Census, Holder
from panther_channels._limits import take_seat
from panther_channels.exceptions import ChannelLayerError, ThrottlingAPIError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer, subclass
from tests.waiting import until

CLIENT = ("10.0.0.1", 50000)
TOO_MANY = {"type": "websocket.close", "code": 1008, "reason": "too many connections"}


class User:
    pk = 7


class Echo(GenericWebsocket):
    async def auth(self, connection):
        return User() if self.scope["path"].startswith("/user") else None

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)

    async def disconnect(self, code: int):
        self.scope["journal"].append(code)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_census, "_PATIENCE", 0.1)


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second connection is of another process."""
    places = [Census(), Census()]

    def next_one() -> Census:
        places.reverse()
        return places[0]

    monkeypatch.setattr(_limits, "census", next_one)


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


@pytest.mark.parametrize("processes", ["one", "two"])
@pytest.mark.parametrize("path", ["/user", "/nobody"])
async def test_the_new_one_is_refused(
    processes: str, path: str, settings: Any, connected: Any, request: pytest.FixtureRequest
):
    if processes == "two":
        request.getfixturevalue("two_processes")
    what = "USER" if path == "/user" else "CLIENT"
    setattr(settings, f"WS_MAX_CONNECTIONS_PER_{what}", 2)
    peers = [await (await connected(path)).accepted() for _ in range(2)]
    for _ in range(2):
        refused = await connected(path, extensions={"websocket.http.response": {}})
        assert (await refused.next())["status"] == 429
        assert (await refused.next())["body"] == b'{"detail": "Too many connections"}'
    assert [await is_open(peer) for peer in peers] == [True, True]
    # A seat that was given up is free.
    peers[0].leave()
    await peers[0].ended()
    await (await connected(path)).accepted()


async def test_others_have_seats_of_their_own(settings: Any, connected: Any):
    settings.WS_MAX_CONNECTIONS_PER_USER = settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    await (await connected("/user")).accepted()
    await (await connected("/nobody", client=("10.0.0.2", 1))).accepted()
    refused = await connected("/user", client=("10.0.0.3", 1))
    assert (await refused.next())["type"] == "websocket.close"
    refused = await connected("/nobody")
    assert (await refused.next())["type"] == "websocket.close"


async def test_refused_with_a_code_that_a_script_can_see(settings: Any, connected: Any):
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    await (await connected()).accepted()
    refused = await connected(kind=subclass("Told", Echo, reject_with_close_code=True))
    await refused.accepted()
    assert await refused.next() == {
        "type": "websocket.close",
        "code": 4429,
        "reason": "Too many connections",
    }
    assert refused.journal == []


@pytest.mark.usefixtures("two_processes")
async def test_of_many_that_come_at_once_as_many_are_let_in_as_there_are_seats(
    settings: Any, connected: Any
):
    settings.WS_MAX_CONNECTIONS_PER_USER = 3
    peers = [await connected() for _ in range(10)]
    answers = [(await peer.next())["type"] for peer in peers]
    assert sorted(answers) == ["websocket.accept"] * 3 + ["websocket.close"] * 7
    assert answers[:3] == ["websocket.accept"] * 3  # the first ones


@pytest.mark.usefixtures("two_processes")
async def test_the_oldest_is_closed(settings: Any, connected: Any):
    settings.WS_MAX_CONNECTIONS_PER_USER = 2
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    peers = [await (await connected()).accepted() for _ in range(5)]
    for peer in peers[:3]:
        assert await peer.next() == TOO_MANY
        peer.leave(1008)
        await peer.ended()
        assert peer.journal == [1008]
    assert [await is_open(peer) for peer in peers[3:]] == [True, True]


@pytest.mark.usefixtures("two_processes")
async def test_of_many_that_come_at_once_the_youngest_stay(settings: Any, connected: Any):
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    peers = [await connected() for _ in range(6)]
    for peer in peers:
        await peer.accepted()
    for peer in peers[:-1]:
        assert await peer.next() == TOO_MANY
    assert await is_open(peers[-1])


async def test_nobody_is_closed_for_one_that_is_refused(settings: Any, connected: Any):
    class Refusing(Echo):
        async def connect(self):
            pass

    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    first = await (await connected()).accepted()
    await (await connected(kind=Refusing)).ended()
    assert await is_open(first)


async def test_connect_does_not_run_for_one_too_many(settings: Any, connected: Any):
    class Noting(Echo):
        async def connect(self):
            self.scope["journal"].append("connect")
            await self.accept()

    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    await (await connected()).accepted()
    refused = await connected(kind=Noting)
    await refused.ended()
    assert refused.journal == []


async def answer_late(layer: InMemoryChannelLayer, asker: _limits.LimitedSeat) -> None:
    """As a process does whose event loop was busy for a while."""
    (key,) = asker.limits
    answer = [asker.id, [[key, 1.0, "old", True]]]
    event = {"type": "panther_channels.limits", "process": "busy", "answer": answer}
    await layer.group_send("panther_channels.limits", event)


@pytest.fixture
def seats(monkeypatch: pytest.MonkeyPatch) -> list[_limits.LimitedSeat]:
    """The seats that are taken from now on."""
    taken: list[_limits.LimitedSeat] = []
    take = _limits._Refused.take

    async def noting(seat: Any) -> None:
        await take(seat)
        taken.append(seat)

    monkeypatch.setattr(_limits._Refused, "take", noting)
    return taken


async def test_a_late_answer_closes_what_was_let_in(
    settings: Any, connected: Any, layer: InMemoryChannelLayer, seats: Any
):
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    peer = await (await connected()).accepted()
    await answer_late(layer, seats[0])
    assert await peer.next() == TOO_MANY


async def test_a_late_answer_while_connect_is_busy(
    settings: Any, connected: Any, layer: InMemoryChannelLayer, seats: Any
):
    class Slow(Echo):
        async def connect(self):
            await until(lambda: seats[0].is_over)
            await self.accept()

    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    peer = await connected(kind=Slow)
    await until(lambda: seats)
    await answer_late(layer, seats[0])
    await peer.accepted()
    assert await peer.next() == TOO_MANY


async def test_who_came_later_does_not_close_who_was_let_in(
    settings: Any, connected: Any, seats: Any
):
    settings.WS_MAX_CONNECTIONS_PER_USER = 2
    peers = [await (await connected()).accepted() for _ in range(2)]
    for seat in seats:
        assert not seat.look()
    assert [await is_open(peer) for peer in peers] == [True, True]


async def test_who_was_let_in_counts_whatever_its_clock_says(
    settings: Any, connected: Any, seats: Any
):
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    peer = await (await connected()).accepted()
    seats[0].time += 60
    refused = await connected(extensions={"websocket.http.response": {}})
    assert (await refused.next())["status"] == 429
    assert await is_open(peer)


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
    first = await (await connected(kind=Accepted)).accepted()
    second = await (await connected(kind=Accepted)).accepted()
    assert await second.next() == {**TOO_MANY, "reason": "Too many connections"}
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    await (await connected(kind=Accepted)).accepted()
    assert await first.next() == TOO_MANY


async def test_without_a_layer_this_process_counts(settings: Any, connected: Any):
    settings.CHANNEL_LAYERS = {}
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    await (await connected()).accepted()
    assert (await (await connected()).next())["type"] == "websocket.close"
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"
    await (await connected()).accepted()


async def test_without_a_limit_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, connected: Any, layer: InMemoryChannelLayer
):
    monkeypatch.setattr(_limits, "census", None)
    await (await connected()).accepted()
    assert "panther_channels.limits" not in layer.groups


async def test_a_client_that_goes_while_it_is_counted_leaves_nothing(settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_USER = 1
    async with Peer(Echo.as_asgi(), "/user") as peer:
        await until(lambda: _census.census()._seats)
        peer.task.cancel()
        await asyncio.wait({peer.task})
    assert _census.census()._seats == {}


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


class Broken(InMemoryChannelLayer):
    async def group_send(self, group, message):
        raise ConnectionError("away")


async def test_what_the_layer_raises_refuses_and_leaves_no_seat(settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    for _ in range(2):
        with pytest.raises(ChannelLayerError):
            await take_seat(None, CLIENT, Broken(), end)
    assert _census.census()._seats == {}


async def end() -> None:
    pass


async def oldest_closes(layer: Any = None) -> Any:
    seat = await take_seat(None, CLIENT, layer, end)
    assert isinstance(seat, _limits._ClosingOldest)
    return seat


@pytest.fixture
def closing_oldest(settings: Any) -> None:
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    settings.WS_CONNECTION_LIMIT_ACTION = "close_oldest"


@pytest.mark.usefixtures("closing_oldest")
async def test_one_that_goes_at_once_leaves_no_seat():
    seat = await oldest_closes()
    seat.open()
    await seat.leave()
    await asyncio.wait({seat._asking})
    assert _census.census()._seats == {}


@pytest.mark.usefixtures("closing_oldest")
async def test_the_oldest_is_told_once(monkeypatch: pytest.MonkeyPatch):
    told: list[Holder] = []
    monkeypatch.setattr(Census, "dismiss", lambda _place, holder: told.append(holder))
    seats = [await oldest_closes() for _ in range(2)]
    for seat in seats:
        seat.open()
        await seat._asking
    seats[1].look()
    assert [holder.id for holder in told] == [seats[0].id]
    for seat in seats:
        await seat.leave()


@pytest.mark.usefixtures("closing_oldest", "two_processes")
async def test_who_is_let_in_does_not_keep_who_comes_later(layer: InMemoryChannelLayer):
    seats = [await oldest_closes(layer) for _ in range(2)]
    for seat in seats:
        seat.open()
        await seat._asking
    await until(lambda: any(seats[1].heard.values()))
    assert not any(seats[0].heard.values())
    for seat in seats:
        await seat.leave()


@pytest.mark.usefixtures("closing_oldest")
async def test_what_the_layer_raises_for_one_that_is_open_is_logged(
    caplog: pytest.LogCaptureFixture,
):
    seat = await oldest_closes(Broken())
    seat.open()
    await asyncio.wait({seat._asking})
    await until(lambda: caplog.records)
    assert "A limit of connections could not be kept" in caplog.text
    await seat.leave()


async def test_one_too_many_is_told_so(settings: Any):
    settings.WS_MAX_CONNECTIONS_PER_CLIENT = 1
    seat = await take_seat(None, CLIENT, None, end)
    assert seat is not None
    with pytest.raises(ThrottlingAPIError):
        await take_seat(None, CLIENT, None, end)
    await seat.leave()
    assert Holder(1.0, "b", False, "p") < Holder(2.0, "a", False, "p")
