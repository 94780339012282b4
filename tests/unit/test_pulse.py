"""Loops of threads, for the one of the test must go on."""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from panther_channels import _pulse
from panther_channels._pulse import Pulse


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pulse, "_BEAT", 0.05)
    monkeypatch.setattr(_pulse, "_LIMIT", 0.2)


def name_of(task: Any) -> str | None:
    return "Chat" if task is not None and task.get_name() == "chat" else None


def run(work: Callable[[], None], name: str) -> None:
    """Call a function in a task of a loop of this thread."""

    async def main() -> None:
        pulse = Pulse(asyncio.get_running_loop(), name_of)
        pulse.start()
        pulse.start()
        await asyncio.sleep(0.1)
        await asyncio.create_task(hook(), name=name)
        await asyncio.sleep(0.1)

    async def hook() -> None:
        work()

    asyncio.run(main())


def block() -> None:
    time.sleep(0.6)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "panther_channels"]


@pytest.mark.parametrize(("name", "who"), [("chat", "Chat"), ("other", "other")])
def test_who_blocks_is_named_once_with_the_line(
    caplog: pytest.LogCaptureFixture, name: str, who: str
):
    with caplog.at_level(logging.WARNING, "panther_channels"):
        run(block, name)
    (text,) = warnings(caplog)
    assert text.startswith(f"{who} holds up the event loop")
    lines = text.splitlines()[1:]
    assert re.fullmatch(r'  File ".*test_pulse\.py", line \d+, in block', lines[-1])
    assert lines[0].endswith(".hook")
    assert not any("asyncio" in line for line in lines)


def test_a_deep_stack_is_shortened(caplog: pytest.LogCaptureFixture):
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            block()

    with caplog.at_level(logging.WARNING, "panther_channels"):
        run(lambda: deep(50), "chat")
    lines = warnings(caplog)[0].splitlines()[1:]
    assert len(lines) == 9
    assert lines[0].endswith(".hook")
    assert lines[-1].endswith("in block")
    assert "  ..." in lines


def test_a_callback_has_no_task(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        Pulse(loop, name_of).start()
        loop.call_soon(block)
        await asyncio.sleep(0.1)

    with caplog.at_level(logging.WARNING, "panther_channels"):
        asyncio.run(main())
    assert warnings(caplog)[0].startswith("Something holds up")


def test_code_that_lets_no_other_thread_run(caplog: pytest.LogCaptureFixture):
    def backtrack() -> None:
        pattern, started, length = re.compile("(a+)+b"), time.monotonic(), 18
        while time.monotonic() - started < 1:  # until one call alone is long enough
            started = time.monotonic()
            pattern.match("a" * length)
            length += 1

    with caplog.at_level(logging.WARNING, "panther_channels"):
        run(backtrack, "chat")
    assert warnings(caplog)


def test_what_is_short_or_waits_is_fine(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        Pulse(asyncio.get_running_loop(), name_of).start()
        await asyncio.sleep(0.6)
        time.sleep(0.05)  # noqa: ASYNC251
        await asyncio.sleep(0.1)

    with caplog.at_level(logging.WARNING, "panther_channels"):
        asyncio.run(main())
    assert warnings(caplog) == []


def test_a_loop_that_does_not_run_is_not_held_up(caplog: pytest.LogCaptureFixture):
    loop = asyncio.new_event_loop()

    async def main() -> None:
        Pulse(loop, name_of).start()
        await asyncio.sleep(0.1)

    with caplog.at_level(logging.WARNING, "panther_channels"):
        loop.run_until_complete(main())
        time.sleep(0.5)
    loop.close()
    assert warnings(caplog) == []


def test_a_process_that_did_not_run_is_forgiven(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        pulse = Pulse(asyncio.get_running_loop(), name_of)
        pulse.forgive(100)
        pulse.check(100)
        assert warnings(caplog) == []
        pulse.check(102)
        assert len(warnings(caplog)) == 1

    with caplog.at_level(logging.WARNING, "panther_channels"):
        asyncio.run(main())


def test_it_is_started_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_pulse, "_patrol", _pulse._Patrol())

    async def main() -> None:
        pulse = Pulse(asyncio.get_running_loop(), name_of)
        for _ in range(3):
            pulse.start()
        assert _pulse._patrol._pulses == [pulse]

    asyncio.run(main())


def walkers() -> list[threading.Thread]:
    return [item for item in threading.enumerate() if item.name == "panther_channels.pulse"]


def test_one_thread_looks_at_all_loops_and_ends_with_the_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_pulse, "_patrol", _pulse._Patrol())
    before = set(walkers())

    loops = [asyncio.new_event_loop() for _ in range(3)]

    async def main() -> None:
        for loop in loops:
            loop.call_soon(Pulse(loop, name_of).start)
            loop.call_soon(loop.stop)
            await asyncio.to_thread(loop.run_forever)
        assert len(set(walkers()) - before) == 1
        for loop in loops:
            loop.close()

    asyncio.run(main())
    for thread in set(walkers()) - before:
        thread.join(5)
        assert not thread.is_alive()


def test_a_call_goes_on_after_the_last_loop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_pulse, "_patrol", _pulse._Patrol())
    calls: list[str] = []
    enough = threading.Event()

    def call() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            enough.set()
            _pulse._patrol.due = None

    async def main() -> None:
        Pulse(asyncio.get_running_loop(), name_of).start()
        _pulse.call_from(time.monotonic() + 0.2, call)
        _pulse.call_from(time.monotonic(), lambda: calls.append("of the second"))

    asyncio.run(main())
    assert calls == []
    assert enough.wait(10)
    assert calls == ["panther_channels.pulse"] * 3


def test_a_forked_child_starts_anew():
    loop = asyncio.new_event_loop()
    loop.call_soon(Pulse(loop, name_of).start)
    loop.call_soon(loop.stop)
    loop.run_forever()
    child = os.fork()
    if child == 0:
        os._exit(0 if _pulse._patrol._pulses == [] and not walkers() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert walkers()
    loop.close()
