"""The code of the documentation's pages, taken from their fenced blocks.

A page is named by its path in docs/, without the suffix. Its Python is one module, whose blocks
run in their order, as a reader would paste them. A block that stands for a file is text.
"""

import functools
import sys
from types import ModuleType
from typing import Any
from unittest import mock

from django.dispatch import Signal
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

from tests.servers import ROOT

DOCS = ROOT / "docs"

_real_connect = Signal.connect
_connected: list[tuple[Signal, Any, Any]] = []


@functools.cache
def module(page: str) -> ModuleType:
    """What a page's Python defines; a dotted path in settings may lead to it: `code_of(page)`."""
    document = Document.parse(str(DOCS / f"{page}.md"), PythonCodeBlockParser())
    found = sys.modules[code_of(page)] = ModuleType(code_of(page))
    document.namespace = vars(found)
    with mock.patch.object(Signal, "connect", _connect):
        for example in document:
            example.evaluate()
    return found


def _connect(signal: Signal, receiver: Any, *arguments: Any, **options: Any) -> None:
    _connected.append((signal, receiver, options.get("sender")))
    _real_connect(signal, receiver, *arguments, **options)


def forget() -> None:
    """Take all pages' receivers from Django's signals, for tests of other things."""
    for signal, receiver, sender in _connected:
        signal.disconnect(receiver, sender)
    _connected.clear()
    module.cache_clear()


def code_of(page: str) -> str:
    """The name of a page's module."""
    return "pages." + page.replace("/", ".")


def blocks(page: str, language: str = ".+") -> list[str]:
    """All fenced blocks of a page, or those in a language."""
    document = Document.parse(str(DOCS / f"{page}.md"))
    return [region.lexemes["source"] for region in FencedCodeBlockLexer(language)(document)]


def block(page: str, having: str) -> str:
    """The one block of a page that has a text in it, such as the name of a file or of a class."""
    (found,) = (text for text in blocks(page) if having in text)
    return found
