"""The reference is complete, and every public name says what it does."""

import argparse
import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandParser, get_commands, load_command_class

import panther_channels
from tests.servers import ROOT

PACKAGE = ROOT / "panther_channels"
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
REFERENCE = "\n".join(page.read_text() for page in PAGES)

# Registered by Django or read by this package alone: no one imports from them.
NOT_FOR_USERS = {"apps", "checks", "conf"}


def mentions(name: str, text: str = REFERENCE) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


SERVERS = ("servers.daphne", "servers.uvicorn", "servers.picows", "servers.gunicorn")


def headings(pattern: str) -> set[str]:
    return set(re.findall(rf"^## ({pattern})$", REFERENCE, re.MULTILINE))


def public_modules() -> list[ModuleType]:
    prefix = f"{panther_channels.__name__}."
    names = [info.name for info in pkgutil.walk_packages(panther_channels.__path__, prefix)]
    modules = [importlib.import_module(name) for name in names if "._" not in name]
    # Of the layers and servers, these name what is for users.
    named = {f"{prefix}{name}" for name in ("layers", *SERVERS)}
    inside = (f"{prefix}layers.", f"{prefix}servers.")
    return [
        module
        for module in modules
        if module.__name__ in named
        or not (hasattr(module, "__path__") or module.__name__.startswith(inside))
    ]


def public_names(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    assert module.__file__ is not None
    defined = []
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.append(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            defined += [target.id for target in targets if isinstance(target, ast.Name)]
    # Aliases for annotations, loggers, and what other modules of the package share: no interface.
    no_interface = {"logger", "Scope", "Receive", "Send"}
    return [name for name in defined if not name.startswith("_") and name not in no_interface]


def documented_modules() -> list[tuple[str, ModuleType]]:
    named = [(item.__name__.removeprefix("panther_channels."), item) for item in public_modules()]
    return [
        (name, module)
        for name, module in named
        if name not in NOT_FOR_USERS and not name.startswith("management.")
    ]


def words_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Each subcommand, and each option and argument of it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield name
                yield from words_of(subparser)
        elif action.option_strings != ["-h", "--help"]:
            yield from action.option_strings or [action.dest.upper()]


def test_every_setting():
    settings = set(re.findall(r"\bWS_[A-Z_]+\b", (PACKAGE / "conf.py").read_text()))
    assert settings >= {"WS_URLS", "WS_CHANNEL_LAYER", "WS_ALLOWED_ORIGINS"}
    assert headings(r"WS_\w+") == settings
    # The table at the top has each of them, in the order and with the default of its section.
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = re.findall(r"^\| \[(WS_\w+)\]\(#(\w+)\) \| (`.*?`) \|", page, re.MULTILINE)
    sections = re.findall(r"^## (WS_\w+)\n\nDefault: (`.*?`)", page, re.MULTILINE)
    assert rows == [(name, name.lower(), default) for name, default in sections]
    assert len(rows) == len(settings)


def test_every_check():
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*checks.py"))
    ids = {f"panther_channels.{code}" for code in re.findall(r"\b[EWI]\d{3}\b", source)}
    assert ids >= {f"panther_channels.{code}" for code in ("E001", "E006", "W003")}
    assert headings(r"panther_channels\.[EWI]\d+") == ids


def test_every_word_of_every_command():
    words = []
    for name, app in get_commands().items():
        if app == "panther_channels":
            parser = CommandParser()
            load_command_class(app, name).add_arguments(parser)
            words += [name, *words_of(parser)]
    assert {"websocket", "--bytes-from"} <= set(words)
    page = (ROOT / "docs" / "reference" / "command.md").read_text()
    assert [word for word in words if not mentions(word, page)] == []


def test_every_room_is_drawn():
    drawing = (ROOT / "docs" / "_static" / "rooms.svg").read_text()
    drawn = set(re.findall(r">(\w+)/<", drawing)) | {"management"}  # by its command
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == drawn


@pytest.mark.parametrize(("name", "module"), documented_modules(), ids=str)
def test_every_public_name(name, module):
    assert mentions(f"panther_channels.{name}")
    assert public_names(module)
    # Constants are listed by their names, all else by a directive that names the module, too.
    missing = [
        item
        for item in public_names(module)
        if not mentions(item if item.isupper() else f"{module.__name__}.{item}")
    ]
    assert missing == []


def callables() -> Iterator[tuple[str, Any]]:
    for module in public_modules():
        yield module.__name__, module
        for name in public_names(module):
            item = getattr(module, name)
            if inspect.isclass(item) or inspect.isfunction(item):
                yield f"{module.__name__}.{name}", item
            for key, method in vars(item).items() if inspect.isclass(item) else ():
                function = getattr(method, "fget", None) or getattr(method, "func", None) or method
                is_ours = getattr(function, "__module__", "").startswith("panther_channels")
                is_public = not key.startswith("_") or key == "__call__"
                if inspect.isfunction(function) and is_ours and is_public:
                    yield f"{module.__name__}.{name}.{key}", function


CALLABLES = dict(callables())


def test_the_callables_are_found():
    for name in ("websocket.Websocket.connection_id", "websocket.Websocket.headers", "test"):
        assert f"panther_channels.{name}" in CALLABLES


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_has_a_docstring(name):
    item = CALLABLES[name]
    # Not inspect.getdoc(), which would take that of a base class.
    assert item.__doc__
    assert item.__doc__.splitlines()[0].endswith((".", "::"))
    _, found, section = inspect.cleandoc(item.__doc__).partition("\nArgs:\n")
    if found:
        section = re.split(r"^(?=\S)", section, maxsplit=1, flags=re.MULTILINE)[0]
        described = re.findall(r"^ {4}\*{0,2}(\w+): ", section, re.MULTILINE)
        assert described == [each for each in inspect.signature(item).parameters if each != "self"]
