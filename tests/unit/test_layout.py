"""One test file for each module, and no other.

The name is the module's path below the package, joined by "_" and without the leading
underscores: `_consumer.py` has `test_consumer.py`, `servers/daphne.py` has
`test_servers_daphne.py`. A management command `websocket` has `test_command_websocket.py`.
An `__init__.py` needs none: it only names what its folder brings. What is in a room of ROOMS is
tested as one: `layers/redis` has `test_layers_redis.py`.
"""

from pathlib import Path

UNIT = Path(__file__).resolve().parent
PACKAGE = UNIT.parent.parent / "panther_channels"
ROOMS = ["layers/redis"]


def _test_name(module: Path) -> str:
    parts = [part.lstrip("_") for part in module.relative_to(PACKAGE).with_suffix("").parts]
    if parts[:2] == ["management", "commands"]:
        parts[:2] = ["command"]
    return f"test_{'_'.join(parts)}.py"


def _expected() -> set[str]:
    return {_test_name(module) for module in _modules()}


def _modules() -> list[Path]:
    rooms = [PACKAGE / room for room in ROOMS]
    return rooms + [
        path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" and path.parent not in rooms
    ]


def _present() -> set[str]:
    here = (path.relative_to(UNIT).as_posix() for path in UNIT.rglob("test_*.py"))
    return set(here) - {Path(__file__).name}


def test_every_module_has_a_unit_test_file():
    assert _expected() - _present() == set()


def test_every_unit_test_file_has_a_module():
    assert _present() - _expected() == set()


def test_two_modules_never_share_a_test_file():
    assert len(_expected()) == len(_modules())
