"""Tasks that somebody keeps: the loop itself has only weak references to them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

logger = logging.getLogger("panther_channels")

_PATIENCE = 1.0  # seconds for a task to end, after each of two cancellations


class Tasks:
    """The tasks of one connection, or of one event loop.

    Args:
        failed: called with the exception of a task that raised one.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[Any]] = set()

    def create(
        self,
        coroutine: Coroutine[Any, Any, Any],
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Any]":
        """Run a coroutine."""
        task = asyncio.create_task(coroutine, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def end(self) -> None:
        """Cancel those that are running, and wait for them, but not for long."""
        # Twice: Python 3.11's wait_for() may swallow a cancellation.
        for _ in range(2):
            if not self._tasks:
                return
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_PATIENCE)
            await asyncio.sleep(0)  # for what is called at their ends
        for task in self._tasks:
            logger.warning("%r goes on after the end of its connection.", task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
