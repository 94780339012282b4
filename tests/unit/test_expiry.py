import asyncio
import gc
import time
from typing import Any

import pytest

from panther_channels import _expiry
from panther_channels._expiry import Deadlines, expiry_of
from tests.waiting import until


class Ending:
    """What expires, and when it did."""

    def __init__(self) -> None:
        self.at = 0.0
        self.times = 0

    async def expire(self) -> None:
        self.at = time.time()
        self.times += 1


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(_expiry, "_SLACK", 0.02)
    return 0.02


async def test_at_the_deadline_and_once(slack: float):
    found, deadline = Deadlines(), time.time() + 0.1
    ending = Ending()
    found.set(ending.expire, deadline)
    await until(lambda: ending.times)
    assert deadline <= ending.at < deadline + 0.5
    await asyncio.sleep(0.05)
    assert ending.times == 1


async def test_a_deadline_that_has_passed(slack: float):
    ending = Ending()
    Deadlines().set(ending.expire, time.time() - 10)
    await until(lambda: ending.times)


async def test_a_discarded_one_does_not_come(slack: float):
    found, ending, other = Deadlines(), Ending(), Ending()
    found.set(ending.expire, time.time() + 0.03)
    found.set(other.expire, time.time() + 0.06)
    found.discard(ending.expire)
    found.discard(ending.expire)
    await until(lambda: other.times)
    assert ending.times == 0


async def test_a_later_deadline_is_instead_of_the_first(slack: float):
    found, ending = Deadlines(), Ending()
    later = time.time() + 0.2
    found.set(ending.expire, time.time() + 0.03)
    found.set(ending.expire, later)
    await until(lambda: ending.times)
    assert ending.at >= later


async def test_an_earlier_deadline_is_instead_of_the_first(slack: float):
    found, ending = Deadlines(), Ending()
    found.set(ending.expire, time.time() + 60)
    found.set(ending.expire, time.time() + 0.03)
    await until(lambda: ending.times)
    assert found._deadlines == {}


async def test_one_timer_for_many(monkeypatch: pytest.MonkeyPatch, slack: float):
    loop, timers = asyncio.get_running_loop(), []
    call_later = loop.call_later

    def counting(delay: float, *rest: Any, **options: Any) -> asyncio.TimerHandle:
        handle = call_later(delay, *rest, **options)
        if "_look" in repr(rest[0]):
            timers.append(handle)
        return handle

    monkeypatch.setattr(loop, "call_later", counting)
    found, endings = Deadlines(), [Ending() for _ in range(2000)]
    start = time.time() + 0.15
    for number, ending in enumerate(endings):
        found.set(ending.expire, start + number / 20_000)
    assert len(timers) == 1
    await until(lambda: all(ending.times for ending in endings))
    assert len(timers) < 20
    assert found._timer is None
    assert {ending.times for ending in endings} == {1}


async def test_one_that_fails_does_not_keep_the_others(
    slack: float, caplog: pytest.LogCaptureFixture
):
    async def failing() -> None:
        raise RuntimeError("raised")

    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failed.append(context))
    found, ending = Deadlines(), Ending()
    found.set(failing, time.time() + 0.01)
    found.set(ending.expire, time.time() + 0.05)
    await until(lambda: ending.times)
    gc.collect()
    assert len(failed) == 1


async def test_a_deadline_far_away_is_no_overflow():
    found, ending = Deadlines(), Ending()
    for deadline in (time.time() + 10**9, 1e300, float("inf")):
        found.set(ending.expire, deadline)
    found.discard(ending.expire)


async def test_a_token_without_a_number_does_not_break_the_others(slack: float):
    found, nan, ending = Deadlines(), Ending(), Ending()
    found.set(nan.expire, float("nan"))
    found.set(ending.expire, time.time() + 0.05)
    await until(lambda: ending.times)


@pytest.mark.parametrize(
    ("token", "expiry"),
    [
        ({"exp": 1700000000}, 1700000000.0),
        ({"exp": 1700000000.5}, 1700000000.5),
        ({"exp": "1700000000"}, 1700000000.0),
        ({"exp": None}, None),
        ({"exp": "x"}, None),
        ({"exp": []}, None),
        ({}, None),
        (None, None),
        ("token", None),
        (object(), None),
        ([], None),
    ],
)
def test_the_expiry_of_a_token(token: Any, expiry: float | None):
    assert expiry_of(token) == expiry
