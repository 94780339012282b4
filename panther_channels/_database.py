"""Old database connections, closed without a thread hop per message.

Channels asks Django to close them before every message, which costs a hop to the database thread
each time. Here they are closed where a WebSocket begins and ends, after a database error, and in
between at most once a second per process; and not at all while no database connection is open.
"""

import asyncio
import time

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.db.backends.signals import connection_created

_INTERVAL = 1.0  # seconds


class _Use:
    open = False  # some thread has opened a connection since the last look
    next_look = 0.0
    looks: set["asyncio.Task[None]"] = set()  # noqa: RUF012 - one set for the process, on purpose


def _opened(**_kwargs: object) -> None:
    _Use.open = True


connection_created.connect(_opened, dispatch_uid="panther_channels._database")


async def close_old() -> None:
    """Close what is unusable or older than ``CONN_MAX_AGE``, in the thread of Django code."""
    if _Use.open:
        _Use.open = False
        _Use.open = await sync_to_async(_close_and_look)() or _Use.open


def close_old_soon() -> None:
    """The same, within a second from now; for the hot path, where it costs one attribute."""
    if _Use.open and (now := time.monotonic()) >= _Use.next_look:
        _Use.next_look = now + _INTERVAL
        asyncio.get_running_loop().call_later(_INTERVAL, _look)


def _look() -> None:
    task = asyncio.ensure_future(close_old())
    _Use.looks.add(task)  # the loop itself keeps only weak references to tasks
    task.add_done_callback(_Use.looks.discard)


def _close_and_look() -> bool:
    close_old_connections()
    return any(item.connection is not None for item in connections.all(initialized_only=True))
