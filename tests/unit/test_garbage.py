"""Open connections are left out of garbage collections; what is left of closed ones is found."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from panther_channels._hub.hub import hub
from panther_channels._process import garbage
from panther_channels._process.garbage import Freezer

SOON, LATER = 9.9, 10.0  # seconds after the latest freeze


class Cycle:
    """What no counting of references frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    garbage._project_freezes.cache_clear()
    yield
    gc.unfreeze()
    gc.enable()
    garbage._project_freezes.cache_clear()


def is_looked_at(objects: list[Cycle]) -> bool:
    return any(each is objects for each in gc.get_objects())


@pytest.mark.parametrize(("there", "more"), [(500, 500), (8000, 1000)])
def test_many_connections_are_left_out(there: int, more: int):
    freezer, before = Freezer(), [Cycle()]
    freezer.check(0, 499, 0)
    assert gc.get_freeze_count() == 0
    freezer.check(0, there, 0)
    after = [Cycle()]
    freezer.check(0, there + more - 1, 0)
    assert not is_looked_at(before)
    assert is_looked_at(after)
    freezer.check(0, there + more, 0)
    assert not is_looked_at(after)


@pytest.mark.parametrize(("there", "least"), [(500, 500), (8000, 2000)])
def test_what_has_ended_is_found_once_a_quarter_has(there: int, least: int):
    freezer = Freezer()
    freezer.check(0, there, 0)
    freezer.check(LATER, there, 0)  # those who came
    cycle = Cycle()
    gc.freeze()
    is_kept = weakref.ref(cycle)
    del cycle
    freezer.check(2 * LATER, there, least - 1)
    gc.collect()
    assert is_kept()
    freezer.check(2 * LATER, there, least)
    assert not is_kept()
    assert gc.get_freeze_count() > 0
    freezer.check(3 * LATER, 0, there + least)
    assert gc.get_freeze_count() < garbage._OF_PYTHON  # 375 after each collection of Python 3.12.1


def test_what_a_storm_leaves_is_found_when_it_is_over():
    freezer, cycle = Freezer(), Cycle()
    is_kept = weakref.ref(cycle)
    del cycle
    for number in range(1, 5):
        freezer.check(number, 500 * number, 0)
    freezer.check(4 + SOON, 2000, 0)
    assert is_kept()
    freezer.check(4 + LATER, 2000, 0)
    assert not is_kept()
    assert gc.get_freeze_count() > 0


def test_a_project_that_freezes_by_itself():
    gc.freeze()
    freezer, mine = Freezer(), [Cycle()]
    freezer.check(0, 4000, 0)
    assert is_looked_at(mine)
    freezer.check(LATER, 0, 4000)
    assert gc.get_freeze_count() > 0


def test_what_python_itself_has_frozen_is_no_project(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 375)  # as Python 3.12.1 begins
    freezer, mine = Freezer(), [Cycle()]
    freezer.check(0, 500, 0)
    assert not is_looked_at(mine)


def test_a_project_without_collections():
    freezer = Freezer()
    gc.disable()
    freezer.check(0, 4000, 0)
    assert gc.get_freeze_count() == 0


async def test_when_it_is_asked(monkeypatch: pytest.MonkeyPatch):
    checks: list[tuple[Any, ...]] = []
    found = hub()
    monkeypatch.setattr(found._freezer, "check", lambda *args: checks.append(args))
    with override_settings(WS_GC_FREEZE=False):
        found._tick()
    assert not checks
    found._tick()
    assert checks == [(found.now, 0, 0)]
    found.is_stopping = True
    found._tick()
    assert len(checks) == 1
