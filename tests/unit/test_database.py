import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
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

from panther_channels import _database
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


class Asking(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        if data == "ask":
            await self.send(await User.objects.acount())
        elif data == "sync":
            await self.send(await database_sync_to_async(User.objects.count)())
        elif data == "fail":
            await User.objects.acount()
            raise DatabaseError("lost")
        else:
            await self.send(data)


class CountingAfterwards(WebsocketMiddleware):
    async def __call__(self, connection):
        await self.dispatch(connection=connection)
        await User.objects.acount()
        return connection


async def test_no_hop_while_nothing_is_open(hops: list[object]):
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        for number in range(50):
            peer.push(str(number))
            await peer.next()
        peer.leave()
        await peer.ended()
    assert hops == []


async def test_closed_within_a_second_after_its_use(hops: list[object]):
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        peer.push("ask")
        assert (await peer.next())["text"] == "0"
        assert await is_open()
        # No further message comes: an idle connection gives it back, too.
        assert await closes_within(2.0) > 0.5
        assert len(hops) == 1


async def test_closed_at_the_end_of_the_connection():
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        peer.push("ask")
        await peer.next()
        peer.leave()
        await peer.ended()
        assert not await is_open()


async def test_what_disconnect_opened_is_closed():
    class Counting(Asking):
        async def disconnect(self, code: int):
            await User.objects.acount()

    async with Peer(Counting.as_asgi()) as peer:
        await peer.accepted()
        peer.leave()
        await peer.ended()
        assert not await is_open()


async def test_what_a_refused_handshake_opened_is_closed():
    class Refusing(GenericWebsocket):
        async def connect(self):
            await User.objects.acount()

    async with Peer(Refusing.as_asgi()) as peer:
        await peer.ended()
        assert not await is_open()


async def test_what_an_event_opened_is_closed():
    class Counting(Asking):
        async def connect(self):
            await super().connect()
            await self.channel_layer.send(self.channel_name, {"type": "count.users"})

        async def count_users(self, event):
            await self.send(await User.objects.acount())

    async with Peer(Counting.as_asgi()) as peer:
        await peer.accepted()
        assert (await peer.next())["text"] == "0"
        await closes_within(2.0)


async def test_closed_after_a_database_error():
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        peer.push("fail")
        assert (await peer.next())["code"] == 1011
        await peer.ended()
        assert not await is_open()


async def test_closed_after_a_database_error_in_an_event(caplog: pytest.LogCaptureFixture):
    class Failing(Asking):
        async def connect(self):
            await super().connect()
            await self.channel_layer.send(self.channel_name, {"type": "now.fail"})

        async def now_fail(self, event):
            await User.objects.acount()
            raise DatabaseError("lost")

    async with Peer(Failing.as_asgi()) as peer:
        await peer.accepted()
        assert (await peer.next())["code"] == 1011
        await asyncio.sleep(0)
        await closes_within(0.5)
        peer.leave()
        await peer.ended()
    assert len(caplog.records) == 1


@sync_to_async
def be_persistent(max_age: int | None) -> None:
    connection.settings_dict["CONN_MAX_AGE"] = max_age
    if max_age == 0:
        connection.close()


async def test_a_persistent_connection_stays_open_and_is_looked_at_again():
    await be_persistent(None)
    try:
        await User.objects.acount()
        await _database.close_old()
        assert await is_open()
        assert _database.use.is_open
    finally:
        await be_persistent(0)


async def test_at_most_one_look_a_second(hops: list[object]):
    await be_persistent(None)
    try:
        async with Peer(Asking.as_asgi()) as peer:
            await peer.accepted()
            for _ in range(50):
                peer.push("ask")
                await peer.next()
            assert hops == []
            await asyncio.sleep(1.1)  # so long does nobody look
            assert len(hops) == 1
    finally:
        await be_persistent(0)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with every check of a connection's health."""
    counted: list[object] = []

    def counting(of):
        counted.append(of)
        return True

    monkeypatch.setattr(type(connections[DEFAULT_DB_ALIAS]), "is_usable", counting)
    return counted


class AskingTwice(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await User.objects.acount()
        await self.send(await User.objects.acount())


@pytest.mark.usefixtures("serving")
async def test_checked_once_for_each_message_that_uses_it(checks: list[object]):
    async with Peer(AskingTwice.as_asgi()) as peer:
        await peer.accepted()
        for number in range(5):
            assert len(checks) == max(number - 1, 0)  # the first opens it
            peer.push("twice")
            assert (await peer.next())["text"] == "0"
        await User.objects.acount()  # of no message
        assert len(checks) == 4


@pytest.mark.usefixtures("serving")
async def test_not_checked_where_it_is_not_ours(
    checks: list[object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_database.use, "is_left_alone", 1)
    async with Peer(AskingTwice.as_asgi()) as peer:
        await peer.accepted()
        for _ in range(3):
            peer.push("twice")
            await peer.next()
        assert checks == []


@pytest.mark.usefixtures("serving")
async def test_one_that_is_kept_is_checked_where_the_settings_say_so(checks: list[object]):
    await close()
    await be_persistent(None)
    try:
        async with Peer(AskingTwice.as_asgi()) as peer:
            await peer.accepted()
            for _ in range(3):
                peer.push("twice")
                await peer.next()
            assert checks == []
    finally:
        await be_persistent(0)


@pytest.mark.usefixtures("serving")
async def test_not_checked_in_a_transaction(checks: list[object]):
    @sync_to_async
    def ask() -> None:
        connection.ensure_connection()
        _database.use.begin()
        with transaction.atomic():
            assert len(checks) == 1  # before it
            _database.use.begin()
            User.objects.count()
            assert len(checks) == 1

    await ask()


async def test_what_a_middleware_opened_after_the_end_is_closed(settings: Any):
    settings.WS_MIDDLEWARES = [CountingAfterwards]
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        peer.leave()
        await peer.ended()
        await closes_within(2.0)


async def test_a_failing_clean_up_is_logged_and_refuses_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def failing():
        raise RuntimeError("no database today")

    monkeypatch.setattr(_database, "close_old_connections", failing)
    monkeypatch.setattr(_database.use, "is_open", True)
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        peer.leave()
        await peer.ended()
    assert caplog.records


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


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_database.use, "is_serving", True)
    monkeypatch.setattr(_database.use, "is_left_alone", 0)


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
async def test_a_lost_connection_is_replaced_at_once(error: type[Exception]):
    assert await lose(error)
    await User.objects.acount()


@pytest.mark.usefixtures("serving")
async def test_not_for_other_errors_and_not_in_a_transaction():
    assert not await lose(ProgrammingError)
    assert not await lose(OperationalError, in_transaction=True)


@pytest.mark.parametrize("name", ["is_serving", "is_left_alone"])
async def test_not_where_it_is_not_ours(name: str, serving: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_database.use, name, name == "is_left_alone")
    assert not await lose(OperationalError)


async def test_a_wrapper_around_the_first_query_is_taken_away_again():
    @sync_to_async
    def wrappers() -> list[Any]:
        connection.close()
        connection.execute_wrappers.clear()
        with connection.execute_wrapper(lambda execute, *arguments: execute(*arguments)):
            User.objects.count()
        return list(connection.execute_wrappers)

    assert await wrappers() == [_database._check_if_lost]
    assert await wrappers() == [_database._check_if_lost]


async def test_however_often_it_is_opened():
    @sync_to_async
    def reopen() -> None:
        for _ in range(3):
            connection.close()
            User.objects.count()
        assert connection.execute_wrappers == [_database._check_if_lost]
        health: Any = connection.close_if_health_check_failed
        assert isinstance(health, _database._Health)
        assert not isinstance(health._check, _database._Health)

    await reopen()


@pytest.mark.usefixtures("serving")
async def test_not_checked_while_it_is_being_opened(checks: list[object]):
    @sync_to_async
    def amid() -> None:
        opening: Any = connection
        opening.ensure_connection()
        with mock.patch.object(opening, "connection", object()):
            _database.use.begin()
            opening.close_if_health_check_failed()

    await amid()
    assert checks == []


async def test_serving_begins_with_the_first_websocket(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_database.use, "is_serving", False)
    async with Peer(Asking.as_asgi()) as peer:
        await peer.accepted()
        assert _database.use.is_serving
        peer.leave()
        await peer.ended()
