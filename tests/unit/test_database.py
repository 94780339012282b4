"""Connections of the database, in this process; tests/faults/test_database.py has a PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from panther_channels._process import database as _database
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer

pytestmark = pytest.mark.django_db(transaction=True)


@sync_to_async
def close() -> None:
    connection.close()


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    """Or Channels would stumble over it in tests that have no database."""
    yield
    await close()


@sync_to_async
def is_open() -> bool:
    """Asked in the thread in which Django's asynchronous ORM works."""
    return connection.connection is not None


async def closes_within(seconds: float) -> float:
    started = time.monotonic()
    while await is_open():
        assert time.monotonic() - started < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - started


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with every hop to the thread of Django code."""
    counted: list[object] = []

    def counting(function):
        counted.append(function)
        return sync_to_async(function)

    monkeypatch.setattr(_database, "sync_to_async", counting)
    return counted


@sync_to_async
def keep(max_age: int | None) -> None:
    connection.close()
    connection.settings_dict["CONN_MAX_AGE"] = max_age


@pytest.fixture
async def persistent() -> AsyncIterator[None]:
    """Connections stay open for as long as they work."""
    await keep(None)
    yield
    await keep(0)


class Asking(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        if data == "ask":
            await User.objects.acount()
            await self.send(await User.objects.acount())
        elif data == "fail":
            await User.objects.acount()
            raise DatabaseError("lost")
        elif data == "event":
            await self.channel_layer.send(self.channel_name, {"type": "now.ask"})
        elif data == "failing event":
            await self.channel_layer.send(self.channel_name, {"type": "now.fail"})
        else:
            await self.send(data)

    async def now_ask(self, event):
        await self.send(await User.objects.acount())

    async def now_fail(self, event):
        await self.receive("fail")


class AskingAtItsEnd(Asking):
    async def disconnect(self, code: int):
        await User.objects.acount()


class Refusing(GenericWebsocket):
    async def connect(self):
        await User.objects.acount()


class AskingAfterwards(WebsocketMiddleware):
    async def __call__(self, connection):
        await self.dispatch(connection=connection)
        await User.objects.acount()
        return connection


async def opened(peer: Peer, *messages: str) -> list[dict[str, Any]]:
    await peer.accepted()
    found = []
    for message in messages:
        peer.push(message)
        found.append(await peer.next())
    return found


async def test_no_hop_while_nothing_is_open(hops: list[object]):
    async with Peer(Asking.as_asgi()) as peer:
        await opened(peer, *map(str, range(50)))
        await peer.left()
    assert hops == []


@pytest.mark.parametrize("message", ["ask", "event"])
async def test_closed_within_a_second_after_its_use(message: str, hops: list[object]):
    """No further message comes: an idle connection gives it back, too."""
    async with Peer(Asking.as_asgi()) as peer:
        assert (await opened(peer, message))[0]["text"] == "0"
        assert await is_open()
        assert await closes_within(2.0) > 0.5
        assert len(hops) == 1


@pytest.mark.parametrize(
    ("kind", "messages", "middlewares"),
    [
        (Asking, ["ask"], []),
        (Asking, ["fail"], []),
        (AskingAtItsEnd, ["x"], []),
        (Refusing, None, []),
        (Asking, ["x"], [AskingAfterwards]),
    ],
)
async def test_closed_at_the_end(
    kind: Any, messages: list[str] | None, middlewares: list[Any], settings: Any
):
    settings.WS_MIDDLEWARES = middlewares
    async with Peer(kind.as_asgi()) as peer:
        if messages:
            await opened(peer, *messages)
            await peer.left()
        # What a middleware has opened, after all is over, is closed a moment later.
        assert await closes_within(2.0) < 0.2 or middlewares


async def test_closed_after_a_database_error_in_an_event(caplog: pytest.LogCaptureFixture):
    async with Peer(Asking.as_asgi()) as peer:
        assert (await opened(peer, "failing event"))[0]["code"] == 1011
        await asyncio.sleep(0)
        await closes_within(0.5)
        await peer.left()
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("persistent")
async def test_at_most_one_look_a_second(hops: list[object]):
    async with Peer(Asking.as_asgi()) as peer:
        await opened(peer, *["ask"] * 50)
        assert hops == []
        await asyncio.sleep(1.1)  # so long does nobody look
        assert len(hops) == 1
        assert await is_open()
        peer.push("ask")
        await peer.next()
        await asyncio.sleep(1.1)
        assert len(hops) == 2, "it is looked at again, though nothing was opened since"


async def test_a_failing_clean_up_is_logged_and_refuses_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def failing():
        raise RuntimeError("no database today")

    async with Peer(Asking.as_asgi()) as peer:
        await opened(peer, "ask")
        monkeypatch.setattr(_database, "close_old_connections", failing)
        await peer.left()
    assert "could not be closed" in caplog.text


# Checks of its health


@contextmanager
def health_checks() -> Iterator[list[object]]:
    """Grows with every check."""
    counted: list[object] = []

    def counting(of):
        counted.append(of)
        return True

    with mock.patch.object(type(connections[DEFAULT_DB_ALIAS]), "is_usable", counting):
        yield counted


@pytest.mark.parametrize(
    ("max_age", "is_left_alone", "count"), [(0, False, 4), (None, False, 0), (0, True, 0)]
)
async def test_checked_once_for_each_message_that_uses_it(
    max_age: int | None, is_left_alone: bool, count: int
):
    """Where it is kept, the settings say whether it is checked; the first message opens it."""
    await keep(max_age)
    with health_checks() as checks, _database.left_alone() if is_left_alone else nullcontext():
        async with Peer(Asking.as_asgi()) as peer:
            await opened(peer, *["ask"] * 5)
            assert len(checks) == count
            await User.objects.acount()  # of no message
            assert len(checks) == count
    await keep(0)


@sync_to_async
def grow_old() -> Any:
    """The one that is open, which is beyond its CONN_MAX_AGE now."""
    connection.close_at = 0.0
    return connection.connection


async def test_one_beyond_its_age_is_replaced_first():
    await keep(60)
    async with Peer(Asking.as_asgi()) as peer:
        await opened(peer, "ask")
        old = await grow_old()
        peer.push("ask")
        await peer.next()
        assert await grow_old() not in {old, None}
    await keep(0)


@sync_to_async
def ask_amid(what: Any) -> int:
    """How many checks a new turn costs in the middle of something."""
    connection.ensure_connection()
    _database.use.begin()
    with health_checks() as checks, what():
        before = len(checks)
        _database.use.begin()
        if what is transaction.atomic:
            User.objects.count()
        else:
            connection.close_if_health_check_failed()
        return len(checks) - before


async def test_not_checked_in_a_transaction_or_while_it_is_opened():
    assert await ask_amid(nullcontext) == 1
    assert await ask_amid(transaction.atomic) == 0
    assert await ask_amid(lambda: mock.patch.object(connection, "connection", object())) == 0


# A connection that is lost


@sync_to_async
def lose(error: type[Exception], *, in_transaction: bool = False) -> bool:
    """Whether the connection of a query that fails is replaced for the next one."""

    def failing(execute, sql, params, many, context):
        connection.errors_occurred = True
        raise error

    connection.close()
    connection.ensure_connection()
    lost = connection.connection
    with (
        mock.patch.object(connection, "is_usable", return_value=False),
        transaction.atomic() if in_transaction else nullcontext(),
    ):
        with pytest.raises(error), connection.execute_wrapper(failing):
            User.objects.count()
        if in_transaction:
            connection.needs_rollback = False  # as after the rollback to a savepoint
        User.objects.count()
        return connection.connection is not lost


@pytest.mark.parametrize("is_serving", [True, False])
async def test_a_lost_connection_is_replaced_at_once(
    is_serving: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_database.use, "is_serving", False)
    if is_serving:
        async with Peer(Asking.as_asgi()) as peer:
            await opened(peer)
    assert await lose(OperationalError) is is_serving
    assert await lose(InterfaceError) is is_serving
    assert not await lose(ProgrammingError)
    assert not await lose(OperationalError, in_transaction=True)
    with _database.left_alone():
        assert not await lose(OperationalError)


async def test_wrappers_of_ones_own_and_many_connections():
    """Django takes a wrapper away from the end of its list."""
    noted: list[object] = []

    def noting(execute, *arguments):
        noted.append(arguments)
        return execute(*arguments)

    @sync_to_async
    def ask() -> None:
        connection.close()
        connection.execute_wrappers.clear()  # as of a new thread
        with connection.execute_wrapper(noting):
            User.objects.count()
        count = len(noted)
        User.objects.count()
        assert len(noted) == count > 0
        for _ in range(1500):  # more than Python would call one in the other
            connection.close()
            connection.ensure_connection()
        User.objects.count()
        assert len(connection.execute_wrappers) == 1

    await ask()
