"""Tests are found by the name of what they test, and no room is without.

A room is a folder or a public module of the package. A test file is called after a room or a module
in it, with as much of the path as tells it apart: `test_origin.py`, `test_servers_daphne.py`.
"""

from itertools import combinations
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parent
PACKAGE = UNIT.parent.parent / "panther_channels"

MODULES = {path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
FOLDERS = {folder for path in MODULES for folder in path.parents if PACKAGE in folder.parents}
ROOMS = FOLDERS | {path for path in MODULES if path.parent == PACKAGE and path.name[0] != "_"}


def names(path: Path) -> set[str]:
    """What the tests of a room or a module may be called: `local`, `layers_local`."""
    *above, last = (part.lstrip("_") for part in path.relative_to(PACKAGE).with_suffix("").parts)
    chosen = (parts for size in range(len(above) + 1) for parts in combinations(above, size))
    return {"_".join([*parts, last]).replace("commands_", "command_") for parts in chosen}


def files_below(folder: Path) -> set[str]:
    return {path.stem.removeprefix("test_") for path in folder.rglob("test_*.py")}


def test_every_unit_test_is_called_after_a_module_or_a_room():
    known = {name for path in MODULES | FOLDERS for name in names(path)}
    assert files_below(UNIT) - known == {"layout"}


@pytest.mark.parametrize("room", sorted(ROOMS), ids=lambda path: path.stem)
def test_every_room_has_tests(room: Path):
    inside = {path for path in MODULES if room in path.parents}
    assert files_below(UNIT.parent) & {name for path in {room, *inside} for name in names(path)}
