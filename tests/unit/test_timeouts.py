"""Limits in time that share a timer, and are otherwise those of asyncio."""

import asyncio
from typing import Any

import pytest

from panther_channels._process.timeouts import Timeouts


@pytest.fixture
async def timeouts() -> Timeouts:
    return Timeouts()


def is_uncancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


async def waiting(limit: Any) -> None:
    with limit:
        await asyncio.sleep(60)


async def started(limit: Any) -> asyncio.Task[None]:
    task = asyncio.create_task(waiting(limit))
    await asyncio.sleep(0)
    return task


async def test_who_waits_too_long(timeouts: Timeouts):
    with pytest.raises(TimeoutError):
        await waiting(timeouts.after(0.01))
    assert is_uncancelled()


async def test_who_ends_in_time(timeouts: Timeouts):
    with timeouts.after(0.01):
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)  # what is tested is that nothing happens


@pytest.mark.parametrize("order", [(60, 0.01, 0.02), (0.02, 60, 0.01)])
async def test_each_has_its_own_time(timeouts: Timeouts, order: tuple[float, ...]):
    tasks = {seconds: await started(timeouts.after(seconds)) for seconds in order}
    for seconds in (0.01, 0.02):
        await asyncio.wait({tasks[seconds]}, timeout=10)
        assert isinstance(tasks[seconds].exception(), TimeoutError)
    assert not tasks[60].done()
    tasks[60].cancel()


async def test_many_have_one_timer(timeouts: Timeouts):
    loop: Any = asyncio.get_running_loop()
    before = len(loop._scheduled)
    for _ in range(100):
        with timeouts.after(60):
            await asyncio.sleep(0)
    assert len(loop._scheduled) == before + 1


@pytest.mark.parametrize("is_too_late", [False, True])
async def test_who_is_cancelled_by_somebody(timeouts: Timeouts, is_too_late: bool):
    timeout = timeouts.after(60)
    task = await started(timeout)
    if is_too_late:
        timeout.expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_cancelled_one_raises_instead(timeouts: Timeouts):
    async def failing() -> None:
        with timeouts.after(0.01):
            try:
                await asyncio.sleep(60)
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await failing()
    assert is_uncancelled()
