"""Threads in which authentications and permissions do what isn't async.

asgiref has one thread for all of that, also for Django's async ORM: while a handler's query takes
seconds there, nobody could come in.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, sync_to_async
from channels.db import database_sync_to_async
from django.core import mail

_COUNT = 4  # at most, of a process; each may have a connection to each database


class _Thread(ThreadPoolExecutor):
    """One thread, and what makes asgiref use it.

    Attributes:
        context: where it is set, asgiref's calls go to this thread.
        work: what waits for it, or is being done.
    """

    def __init__(self) -> None:
        super().__init__(1, "panther_channels.handshake")
        self.context = ThreadSensitiveContext()
        self.work: set[Future[Any]] = set()
        SyncToAsync.context_to_thread_executor[self.context] = self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do something in the thread."""
        future = super().submit(fn, *args, **kwargs)
        self.work.add(future)
        future.add_done_callback(self.work.discard)
        return future


#: Those that were needed so far.
handshake_threads: list[_Thread] = []


@contextmanager
def apart_from_handlers() -> Iterator[None]:
    """Whatever is awaited here, and isn't async, doesn't wait for that of handlers.

    All of it runs in the same thread, also what asgiref is asked for by Django or by a library. A
    task that is begun here stays with it.
    """
    chosen = SyncToAsync.thread_sensitive_context
    if chosen.get(None) is not None or is_test_run() or _is_of_a_thread():
        yield
        return
    token = chosen.set(_least_busy().context)
    try:
        yield
    finally:
        chosen.reset(token)


def asking_database(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """An async function for one that isn't, and asks the database."""
    # Who runs tests can't drop the database before all connections are closed.
    return (database_sync_to_async if is_test_run() else sync_to_async)(function)


def is_test_run() -> bool:
    """Whether a test runner of Django guards the database, each connection in its thread."""
    return hasattr(mail, "outbox")


def _is_of_a_thread() -> bool:
    """By ``async_to_sync()``, whose caller's thread does what isn't async."""
    return asyncio.get_running_loop() in AsyncToSync.loop_thread_executors


def _least_busy() -> _Thread:
    found = min(handshake_threads, key=lambda thread: len(thread.work), default=None)
    if found is None or (found.work and len(handshake_threads) < _COUNT):
        found = _Thread()
        handshake_threads.append(found)
    return found
