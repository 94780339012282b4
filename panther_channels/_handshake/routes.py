"""Which of an application's URLs a path is, without a look at all of them."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from django.urls import URLPattern

#: uvicorn answers a longer handshake with 414; HTTP may have a path of any length there.
LONGEST_PATH = 8192


class Routes:
    """The URLs of an application, found by what their paths begin with: a thousand cost as one.

    Args:
        patterns: what ``build_url_patterns()`` gave, the first of which that matches counts.
    """

    def __init__(self, patterns: list[URLPattern]) -> None:
        self._fixed: dict[str, URLPattern] = {}
        self._by_head: dict[str, list[tuple[int, URLPattern]]] = {}
        for number, pattern in enumerate(patterns):
            url: Any = pattern.pattern
            if url.is_fixed:
                self._fixed[url.head] = pattern
            else:
                self._by_head.setdefault(url.head, []).append((number, pattern))
        self._depth = max((head.count("/") + 1 for head in self._by_head if head), default=0)

    def matches(self, path: str) -> Iterator[tuple[Any, str, dict[str, Any]]]:
        """The applications for a path, each with what is left of it, and its variables."""
        path = path.lstrip("/")
        # A fixed segment beats a variable, so that it comes before all others.
        if len(path) <= LONGEST_PATH and (found := self._fixed.get(path.rstrip("/"))) is not None:
            yield found.callback, "", {}
        if not self._by_head:
            return
        candidates, end = [*self._by_head.get("", ())], 0
        for _ in range(self._depth):
            end = path.find("/", end + 1)
            candidates += self._by_head.get(path if end < 0 else path[:end], ())
            if end < 0:
                break
        for _number, pattern in sorted(candidates, key=itemgetter(0)):
            if (match := pattern.pattern.match(path)) is not None:
                yield pattern.callback, match[0], match[2]
