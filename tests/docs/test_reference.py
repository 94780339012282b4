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

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "panther_channels"
REFERENCE = ROOT / "docs" / "reference"

# Registered by Django or read by this package alone: no one imports from them.
NOT_FOR_USERS = {"apps", "checks", "conf", "connections"}


def reference() -> str:
    return "\n".join(path.read_text() for path in sorted(REFERENCE.glob("*.md")))


def mentions(name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reference()) is not None


def public_modules() -> list[ModuleType]:
    prefix = f"{panther_channels.__name__}."
    names = [info.name for info in pkgutil.walk_packages(panther_channels.__path__, prefix)]
    # The rooms of `layers` are reached by its own names.
    names = [name for name in names if not re.search(r"\._|\.layers\.", name)]
    modules = [importlib.import_module(name) for name in names]
    return [
        module
        for module in modules
        if not hasattr(module, "__path__") or module.__name__ == f"{prefix}layers"
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
    start = len("panther_channels.")
    modules = [(module.__name__[start:], module) for module in public_modules()]
    return [
        (name, module)
        for name, module in modules
        if name not in NOT_FOR_USERS and not name.startswith("management.")
    ]


def settings() -> set[str]:
    return set(re.findall(r"\bWS_[A-Z_]+\b", (PACKAGE / "conf.py").read_text()))


def check_ids() -> set[str]:
    found = re.findall(
        r"\b[EWI]\d{3}\b", "\n".join(path.read_text() for path in PACKAGE.glob("*checks.py"))
    )
    return {f"panther_channels.{code}" for code in found}


def command_words() -> Iterator[tuple[str, str]]:
    """Commands of this app with each subcommand, and each option and argument of that."""
    for name, app in get_commands().items():
        if app != "panther_channels":
            continue
        yield name, name
        command = load_command_class(app, name)
        parser = CommandParser()
        command.add_arguments(parser)
        yield from ((name, word) for word in words_of(parser))


def words_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                yield name
                yield from words_of(subparser)
        elif action.option_strings != ["-h", "--help"]:
            yield from action.option_strings or [action.dest.upper()]


def test_every_setting():
    assert settings() >= {"WS_URLS", "WS_CHANNEL_LAYER", "WS_ALLOWED_ORIGINS"}
    headings = set(re.findall(r"^## (WS_\w+)$", reference(), re.MULTILINE))
    assert headings == settings()


def test_every_check():
    assert {f"panther_channels.{code}" for code in ("E001", "E006", "W003")} <= check_ids()
    headings = set(re.findall(r"^## (panther_channels\.[EWI]\d+)$", reference(), re.MULTILINE))
    assert headings == check_ids()


def test_every_word_of_every_command():
    words = list(command_words())
    assert ("websocket", "--bytes-from") in words
    page = (REFERENCE / "command.md").read_text()
    missing = [word for _, word in words if not re.search(rf"(?<![\w-]){word}(?![\w-])", page)]
    assert missing == []


@pytest.mark.parametrize(("name", "module"), documented_modules(), ids=lambda value: str(value))
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
            if inspect.isclass(item):
                yield from methods(f"{module.__name__}.{name}", item)


def methods(prefix: str, item: type) -> Iterator[tuple[str, Any]]:
    for name, method in vars(item).items():
        function = getattr(method, "fget", None) or getattr(method, "func", None) or method
        is_ours = inspect.isfunction(function) and function.__module__.startswith(
            "panther_channels"
        )
        if is_ours and (not name.startswith("_") or name == "__call__"):
            yield f"{prefix}.{name}", function


CALLABLES = dict(callables())


def test_the_callables_are_found():
    for name in ("websocket.Websocket.connection_id", "websocket.Websocket.headers", "test"):
        assert f"panther_channels.{name}" in CALLABLES


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_has_a_docstring(name):
    # Not inspect.getdoc(), which would take that of a base class.
    docstring = CALLABLES[name].__doc__
    assert docstring
    summary = docstring.splitlines()[0]
    assert summary.endswith((".", "::"))


@pytest.mark.parametrize("name", CALLABLES)
def test_arguments_are_described_as_they_are_called(name):
    item = CALLABLES[name]
    _, found, section = inspect.cleandoc(item.__doc__).partition("\nArgs:\n")
    if not found:
        return
    section = re.split(r"^(?=\S)", section, maxsplit=1, flags=re.MULTILINE)[0]
    described = re.findall(r"^ {4}\*{0,2}(\w+): ", section, re.MULTILINE)
    assert described == [each for each in inspect.signature(item).parameters if each != "self"]
