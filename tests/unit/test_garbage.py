"""Open connections are left out of garbage collections; what is left of closed ones is found."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from panther_channels._process.garbage import Freezer


class Cycle:
    """What no counting of references frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


def test_few_connections_are_looked_at():
    Freezer().check(499, 0)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("there", [500, 5000])
def test_many_are_not(there: int):
    freezer, before = Freezer(), [Cycle()]
    freezer.check(there, 0)
    assert gc.get_freeze_count() > 0
    after = [Cycle()]
    freezer.check(there + 499, 0)
    assert is_looked_at(after)
    freezer.check(there + 500, 0)
    assert not is_looked_at(after)
    assert not is_looked_at(before)


def is_looked_at(objects: list[Cycle]) -> bool:
    return any(each is objects for each in gc.get_objects())


@pytest.mark.parametrize(("there", "least"), [(500, 500), (4000, 1000)])
def test_what_has_ended_is_found_once_a_part_has(there: int, least: int):
    freezer, cycle = Freezer(), Cycle()
    freezer.check(there, 7)
    is_kept = weakref.ref(cycle)
    del cycle
    freezer.check(there, 7 + least - 1)
    gc.collect()
    assert is_kept()
    freezer.check(there, 7 + least)
    assert gc.get_freeze_count() == 0
    freezer.check(there, 7 + least)
    assert gc.get_freeze_count() == 0, "before anybody has looked at it"
    gc.collect()
    assert not is_kept()
    freezer.check(there, 7 + least)
    freezer.check(there, 7 + 2 * least - 1)
    assert gc.get_freeze_count() > 0


def test_a_project_that_freezes_by_itself():
    gc.freeze()
    freezer, mine = Freezer(), [Cycle()]
    freezer.check(4000, 0)
    assert is_looked_at(mine)
    freezer.check(0, 4000)
    assert gc.get_freeze_count() > 0


def test_a_project_without_collections():
    gc.disable()
    Freezer().check(4000, 0)
    assert gc.get_freeze_count() == 0
