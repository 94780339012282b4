import asyncio
import gc
import logging

import pytest

from panther_channels import _tasks
from panther_channels._tasks import Tasks


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tasks, "_PATIENCE", 0.05)


async def test_a_task_is_kept_and_gives_its_result():
    errors: list[BaseException] = []
    tasks = Tasks(errors.append)

    async def answer() -> int:
        await asyncio.sleep(0.01)
        return 42

    task = tasks.create(answer(), "answer")
    gc.collect()
    assert task.get_name() == "answer"
    assert await task == 42
    await asyncio.wait_for(tasks.end(), 1)
    assert errors == []


async def test_an_exception_is_told_once():
    errors: list[BaseException] = []
    tasks = Tasks(errors.append)

    async def fail() -> None:
        raise ZeroDivisionError

    await asyncio.wait({tasks.create(fail())})
    await tasks.end()
    assert [type(error) for error in errors] == [ZeroDivisionError]


async def test_the_end_waits_for_what_is_cancelled():
    errors: list[BaseException] = []
    tasks = Tasks(errors.append)
    cleaned: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.001)
            cleaned.append(number)

    running = [tasks.create(work(number)) for number in range(3)]
    await asyncio.sleep(0)
    await tasks.end()
    assert sorted(cleaned) == [0, 1, 2]
    assert all(task.cancelled() for task in running)
    assert errors == []


@pytest.mark.parametrize("times", [1, 2])
async def test_a_task_that_swallows_cancellations(times: int, caplog: pytest.LogCaptureFixture):
    tasks = Tasks(lambda _error: None)
    go_on = asyncio.Event()

    async def stubborn() -> None:
        for _ in range(times):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue
        await go_on.wait()

    task = tasks.create(stubborn(), "stubborn")
    await asyncio.sleep(0)
    with caplog.at_level(logging.WARNING, "panther_channels"):
        await asyncio.wait_for(tasks.end(), 2)
    assert task.done() is (times == 1)
    assert ("stubborn" in caplog.text) is (times == 2)
    go_on.set()
    await asyncio.wait({task})
