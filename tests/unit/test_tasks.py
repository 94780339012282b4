import asyncio
import gc

import pytest

from panther_channels._socket import tasks as _tasks
from panther_channels._socket.tasks import Tasks


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tasks, "_PATIENCE", 0.05)


async def test_a_task_is_kept_gives_its_result_or_tells_its_exception_once():
    failures: list[BaseException] = []
    tasks = Tasks(failures.append)

    async def answer(dividend: int) -> float:
        await asyncio.sleep(0.01)
        return 42 / dividend

    task, failing = tasks.create(answer(1), "answer"), tasks.create(answer(0))
    gc.collect()
    assert task.get_name() == "answer"
    assert await task == 42
    await asyncio.wait({failing})
    await asyncio.wait_for(tasks.end(), 1)
    assert [type(error) for error in failures] == [ZeroDivisionError]


@pytest.mark.parametrize("times", [0, 1, 2])
async def test_the_end_waits_for_those_that_end(times: int, caplog: pytest.LogCaptureFixture):
    failures: list[BaseException] = []
    tasks, go_on = Tasks(failures.append), asyncio.Event()

    async def stubborn() -> None:
        for _ in range(times):  # swallows so many cancellations
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue
        try:
            await go_on.wait()
        finally:
            await asyncio.sleep(0.001)  # cleans up

    running = [tasks.create(stubborn(), "stubborn") for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.end(), 2)
    assert {task.done() for task in running} == {times < 2}
    assert ("stubborn" in caplog.text) is (times == 2)
    go_on.set()
    await asyncio.wait(running)
    assert failures == []
