"""Old database connections, closed without a thread hop per message.

Channels asks Django to close them before every message, which costs a hop to the database thread
each time. Here they are closed after a database error, and otherwise at most once a second per
process; and not at all while no database connection is open. One that is used again before that
has its age and its health checked first, as Django does for a request. One that is lost amid a
message fails the query that notices it, and is replaced for the next one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import channels.db
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.db.backends.signals import connection_created

from panther_channels._process.threads import handshake_threads, is_test_run

logger = logging.getLogger("panther_channels")

_INTERVAL = 1.0  # seconds

_turn = ContextVar("turn", default=0)  # goes along into the thread that asks the database


class _Use:
    def __init__(self) -> None:
        self.is_open = False  # some thread has opened a connection since the last look
        self.is_serving = False  # WebSockets; else connections are none of our business
        self.is_left_alone = 0  # by tests, how many of them
        self.next_look = 0.0
        self.looks: set[asyncio.Task[None]] = set()
        self.turns = 0

    def begin(self) -> None:
        """A message or a handshake begins: no connection is used for it before it was checked."""
        self.is_serving = True
        self.turns += 1
        _turn.set(self.turns)


#: Of the database, by this process.
use = _Use()


def _opened(connection: Any, **_kwargs: object) -> None:
    use.is_open = True
    if connection.settings_dict["CONN_MAX_AGE"] == 0:  # with which Django has nothing to check
        connection.health_check_enabled = True
    if _check_if_lost not in connection.execute_wrappers:
        # Not at the end, from where Django's execute_wrapper() takes its own away.
        connection.execute_wrappers.insert(0, _check_if_lost)
    health: Any = connection.close_if_health_check_failed
    if not isinstance(health, _Health):
        health = connection.close_if_health_check_failed = _Health(connection)
    health.found(connection.connection)


class _Health:
    """Django's check of a connection, which it has once between two requests, for each message.

    Called by the thread that is about to use the connection. From another one, Django may be found
    amid opening it, which it would take for a query.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._check = connection.close_if_health_check_failed
        self._opened: Any = None
        self._turn = 0

    def found(self, opened: Any) -> None:
        """A connection was opened, which is healthy."""
        self._opened, self._turn = opened, _turn.get()

    def __call__(self) -> None:
        connection, turn = self._connection, _turn.get()
        is_open = connection.connection is self._opened and not connection.in_atomic_block
        if turn > self._turn and is_open and not use.is_left_alone:
            self._turn, connection.health_check_done = turn, False
            if connection.settings_dict["CONN_MAX_AGE"] != 0:  # else it is kept for a second
                connection.close_if_unusable_or_obsolete()
        self._check()


def _check_if_lost(execute: Callable[..., Any], *arguments: Any) -> Any:
    # All WebSockets share a thread and its connection. Many may have asked something before the
    # first of them fails; without this, all of them would.
    try:
        return execute(*arguments)
    except (InterfaceError, OperationalError):
        connection = arguments[-1]["connection"]
        if use.is_serving and not use.is_left_alone and not connection.in_atomic_block:
            # Not closed here, since the cursor is to be closed yet.
            connection.health_check_enabled, connection.health_check_done = True, False
        raise


connection_created.connect(_opened, dispatch_uid="panther_channels._process.database")


async def close_old() -> None:
    """Close what is unusable or older than ``CONN_MAX_AGE``, in the threads of Django code."""
    if use.is_open and not use.is_left_alone:
        use.is_open = False
        for thread in handshake_threads:
            thread.submit(_close_and_look)
        await sync_to_async(_close_and_look)()


async def close_old_at_end() -> None:
    """The same, at the end of a WebSocket: soon, since a handler may be busy in its thread."""
    if is_test_run():  # who would not wait, and drop the database
        await close_old()
    else:
        close_old_soon()


def close_old_soon() -> None:
    """The same, within a second from now; for the hot path, where it costs one attribute."""
    if use.is_open and (now := time.monotonic()) >= use.next_look:
        use.next_look = now + _INTERVAL
        asyncio.get_running_loop().call_later(_INTERVAL, _look)


@contextmanager
def left_alone() -> Iterator[None]:
    """For tests, whose database connections the test runner opens, guards and closes.

    Channels' ``database_sync_to_async()`` closes the connection of a ``TestCase`` amid its
    transaction: of a SQLite, Django takes it for one that was left in a wrong state.
    """
    if not use.is_left_alone:
        vars(channels.db)["close_old_connections"] = _close_outside_transactions
    use.is_left_alone += 1
    try:
        yield
    finally:
        use.is_left_alone -= 1
        if not use.is_left_alone:
            vars(channels.db)["close_old_connections"] = close_old_connections


def _close_outside_transactions() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _look() -> None:
    task = asyncio.ensure_future(close_old())
    use.looks.add(task)  # the loop itself keeps only weak references to tasks
    task.add_done_callback(use.looks.discard)


def _close_and_look() -> None:
    try:
        close_old_connections()
        if any(item.connection is not None for item in connections.all(initialized_only=True)):
            use.is_open = True
    except Exception:
        logger.exception("Old database connections could not be closed")
