"""Loops of threads, for the one of the test must go on."""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from panther_channels._process import blocked_loop as _blocked_loop
from panther_channels._process.blocked_loop import BlockedLoop

NAME = "panther_channels.blocked_loop"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setattr(_blocked_loop, "TICK", 0.05)
    monkeypatch.setattr(_blocked_loop, "_LIMIT", 0.2)
    monkeypatch.setattr(_blocked_loop, "_monitor", _blocked_loop._Monitor())
    with caplog.at_level(logging.WARNING, "panther_channels"):
        yield


def guarded() -> BlockedLoop:
    """Guard the running loop, as the hub does."""
    loop = asyncio.get_running_loop()
    found = BlockedLoop(loop, name_of)

    def tick() -> None:
        found.tick()
        loop.call_later(0.05, tick)

    found.start()
    tick()
    return found


def name_of(task: Any) -> str | None:
    return "Chat" if task is not None and task.get_name() == "chat" else None


def run(work: Callable[[], None], name: str = "chat") -> None:
    """Call a function in a task of a loop of this thread."""

    async def main() -> None:
        guarded()
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


def threads() -> list[threading.Thread]:
    return [item for item in threading.enumerate() if item.name == NAME]


def deep(depth: int = 50) -> None:
    if depth:
        deep(depth - 1)
    else:
        block()


def backtrack() -> None:
    """Code that lets no other thread run."""
    pattern, started, length = re.compile("(a+)+b"), time.monotonic(), 18
    while time.monotonic() - started < 1:  # until one call alone is long enough
        started = time.monotonic()
        pattern.match("a" * length)
        length += 1


@pytest.mark.parametrize(
    ("work", "name", "who"),
    [(block, "chat", "Chat"), (block, "other", "other"), (deep, "chat", "Chat")],
)
def test_who_blocks_is_named_once_with_the_line(
    caplog: pytest.LogCaptureFixture, work: Callable[[], None], name: str, who: str
):
    run(work, name)
    (text,) = warnings(caplog)
    assert text.startswith(f"{who} holds up the event loop")
    lines = text.splitlines()[1:]
    assert re.fullmatch(r'  File ".*test_blocked_loop\.py", line \d+, in block', lines[-1])
    assert lines[0].endswith(".hook")
    assert not any("asyncio" in line for line in lines)
    assert ("  ..." in lines, len(lines) == 9) == (work is deep, work is deep)


def test_code_that_lets_no_other_thread_run(caplog: pytest.LogCaptureFixture):
    run(backtrack)
    assert warnings(caplog)


def test_a_callback_has_no_task(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        guarded()
        asyncio.get_running_loop().call_soon(block)
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert warnings(caplog)[0].startswith("Something holds up")


def test_a_loop_that_does_not_run_is_not_held_up(caplog: pytest.LogCaptureFixture):
    loop = asyncio.new_event_loop()

    async def main() -> None:
        guarded()
        await asyncio.sleep(0.1)

    loop.run_until_complete(main())
    time.sleep(0.5)
    loop.close()
    assert warnings(caplog) == []


def test_one_thread_looks_at_all_loops_and_ends_with_the_last():
    before = set(threads())
    loops = [asyncio.new_event_loop() for _ in range(3)]

    async def main() -> None:
        for loop in loops:
            loop.call_soon(guarded)
            loop.call_soon(loop.stop)
            await asyncio.to_thread(loop.run_forever)
        assert len(set(threads()) - before) == 1
        for loop in loops:
            loop.close()

    asyncio.run(main())
    for thread in set(threads()) - before:
        thread.join(5)
        assert not thread.is_alive()


def test_a_call_goes_on_after_the_last_loop():
    calls: list[str] = []
    enough = threading.Event()

    def call() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            enough.set()
            _blocked_loop._monitor.due = None

    async def main() -> None:
        guarded()
        _blocked_loop.call_from(time.monotonic() + 0.2, call)
        _blocked_loop.call_from(time.monotonic(), lambda: calls.append("of the second"))

    asyncio.run(main())
    assert calls == []
    assert enough.wait(10)
    assert calls == [NAME] * 3


def test_a_forked_child_starts_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()  # the one of the process
    loop = asyncio.new_event_loop()
    loop.call_soon(guarded)
    loop.call_soon(loop.stop)
    loop.run_forever()
    child = os.fork()
    if child == 0:
        monitor = _blocked_loop._monitor
        is_new = (monitor._loops, monitor._is_running, monitor.due) == ([], False, None)
        os._exit(0 if is_new and not threads() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert threads()
    loop.close()
