"""Waiting for what wakes nobody: another process, Redis, a list."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

SECONDS = 20.0


async def until(condition: Callable[[], Any | Awaitable[Any]], seconds: float = SECONDS) -> None:
    """Wait until a condition, which may be asynchronous, is true."""
    async with asyncio.timeout(seconds):
        while not (await found if asyncio.iscoroutine(found := condition()) else found):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
