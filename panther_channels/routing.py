"""A Panther-style dict of URLs, translated into entries for Channels' ``URLRouter``."""

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from asgiref.sync import iscoroutinefunction
from channels.consumer import AsyncConsumer
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.converters import DEFAULT_CONVERTERS, get_converters
from django.urls.resolvers import RoutePattern

from panther_channels._handshake.parameters import parameters, problem_with_hooks
from panther_channels._handshake.questions import problem_with_names
from panther_channels._handshake.routers import open_routes, router_in
from panther_channels._handshake.routes import LONGEST_PATH
from panther_channels.websocket import GenericWebsocket, Websocket

# What a segment may be made of as it is (RFC 3986 section 3.3); and what has a meaning elsewhere:
# patterns of other routers, and dots that clients take out of a path.
_STATIC = re.compile(r"[a-zA-Z0-9._~!$&'()*+,;=:@-]+", re.ASCII)
_MEANT_OTHERWISE = re.compile(r":.*|\*+|.*\.[*+].*|.*\$|\.\.?")
_VARIABLE = re.compile(r"<(?:([a-zA-Z_][a-zA-Z0-9_]*):)?([a-zA-Z0-9_]+)>", re.ASCII)
# Any other converter may take slashes, as far as can be told.
_ONE_SEGMENT = {DEFAULT_CONVERTERS[kind].regex for kind in ("int", "slug", "str", "uuid")}
# How many characters may be looked at, where several variables could take slashes, until a path
# is found in none of the ways to divide it; and as how many each try counts, whatever its length.
_MOST_EFFORT = 300_000
_TRY = 1_000


@dataclass(slots=True)
class _Place:
    """One segment of a path: what it holds, and the segments below it."""

    endpoint: Any = None
    below: dict[str, "_Place"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment of a URL: a fixed one, or a variable, whose value may have slashes."""

    name: str
    regex: re.Pattern[str]
    is_one_segment: bool


@dataclass(slots=True)
class _Search:
    """One path on its way through the parts of one URL."""

    path: str
    values: dict[str, str] = field(default_factory=dict)
    effort: int = 0


class _UrlPattern(RoutePattern):
    """One URL, whose parts are matched one by one.

    A regular expression of it all tries every way to divide a path among the variables that take
    slashes: with two of them, the time is quadratic in the path, with three cubic.
    """

    def __init__(self, segments: list[str], parts: list[_Part], *, is_router: bool) -> None:
        super().__init__("/".join(segments))
        fixed = list(takewhile(lambda segment: not segment.startswith("<"), segments))
        self.head = "/".join(fixed)
        self.is_fixed = len(fixed) == len(segments) and not is_router
        self._parts = parts[len(fixed) :]
        self._is_router = is_router
        slashed = [n for n, part in enumerate(self._parts) if not part.is_one_segment]
        # From this part on, the end of the path says where each of them ends.
        self._settled = len(self._parts) if is_router else max(slashed, default=0)

    def match(self, path: str) -> Any:
        if not path.startswith(self.head) or len(path) > LONGEST_PATH:
            return None
        # A router below sees the slashes at the end, too: path("one/") wants its own.
        search = _Search(f"/{path}" if self._is_router else f"/{path}".rstrip("/"))
        end = self._end(search, len(self.head) + 1 if self.head else 0, 0)
        if end is None:
            return None
        try:
            kwargs = {name: self.converters[name].to_python(v) for name, v in search.values.items()}
        except ValueError:
            return None
        return search.path[end + 1 :], (), kwargs

    def _end(self, search: _Search, start: int, number: int) -> int | None:
        """Where the URL ends if the parts from ``number`` on begin at ``start``."""
        path = search.path
        if number == len(self._parts):
            is_end = start == len(path) or (self._is_router and path[start] == "/")
            return start if is_end else None
        if not path.startswith("/", start):
            return None
        part = self._parts[number]
        for end in self._possible_ends(path, start + 1, number):
            search.effort += _TRY + end - start
            if search.effort > _MOST_EFFORT:
                return None
            if part.regex.fullmatch(path, start + 1, end) is None:
                continue
            if part.name:
                search.values[part.name] = path[start + 1 : end]
            if (found := self._end(search, end, number + 1)) is not None:
                return found
        return None

    def _possible_ends(self, path: str, start: int, number: int) -> Iterator[int]:
        """Where a part that begins at ``start`` could end, the farthest first, as in Django."""
        if self._parts[number].is_one_segment:
            end = path.find("/", start)
            yield len(path) if end < 0 else end
            return
        end = len(path)
        for _ in self._parts[number + 1 :]:  # each takes a segment at least
            if (end := path.rfind("/", start, end)) < 0:
                return
        yield end
        while number < self._settled and (end := path.rfind("/", start, end)) >= 0:
            yield end


class _Below:
    """A router, hidden from the one above, which would replace our pattern by a plain one."""

    def __init__(self, application: Any) -> None:
        self.inner = application
        open_routes(router_in(application))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.inner(scope, receive, send)


def build_url_patterns(urls: Any) -> list[URLPattern]:
    """Translate a dict of URLs, ready for ``channels.routing.URLRouter``.

    Keys are paths or parts of them, values are :class:`GenericWebsocket` classes, ASGI
    applications, or dicts of the same. ``<name>`` is a variable, one whole segment; ``<int:name>``
    and Django's other converters are understood. Slashes at both ends are optional. A static
    segment beats a variable.

    Args:
        urls: the dict.

    Raises:
        ImproperlyConfigured: something is wrong with a URL or with what it points to; the text
            names the URL and what to change.
    """
    if not isinstance(urls, dict):
        raise ImproperlyConfigured(f"The WebSocket URLs must be a dict, not {urls!r}.")
    root = _Place()
    for url, endpoint in _flatten(urls, ""):
        try:
            _add(root, url, endpoint)
        except ImproperlyConfigured as error:
            raise ImproperlyConfigured(f"The WebSocket URL {url!r} {error}.") from error
    return list(_patterns(root, [], []))


def _flatten(urls: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in urls.items():
        if not isinstance(key, str):
            raise ImproperlyConfigured(
                f"The WebSocket URLs have the key {key!r} below {prefix!r}: keys must be strings."
            )
        url = f"{prefix.rstrip('/')}/{key.lstrip('/')}" if prefix else key
        if isinstance(value, dict) and value:
            yield from _flatten(value, url)
        else:
            yield url, value


def _add(root: _Place, url: str, endpoint: Any) -> None:
    place = root
    variables: list[str] = []
    for segment in url.strip("/").split("/") if url.strip("/") else []:
        if (variable := _VARIABLE.fullmatch(segment)) is not None:
            _check_variable(place, variable, variables)
            variables.append(variable[2])
        elif not _STATIC.fullmatch(segment) or _MEANT_OTHERWISE.fullmatch(segment):
            raise ImproperlyConfigured(
                f"has the segment {segment!r}: a segment is made of letters, digits and "
                "-._~!$&'()*+,;=:@, and no pattern, or is a variable such as <name> or <int:name>"
            )
        place = place.below.setdefault(segment, _Place())
    if endpoint == {}:
        return  # reserves its place: no variable matches it
    if place.endpoint is not None:
        raise ImproperlyConfigured(
            f"is there twice, for {_name(place.endpoint)} and {_name(endpoint)}: remove one "
            "(slashes at the ends make no difference)"
        )
    place.endpoint = _application(endpoint, variables)


def _check_variable(place: _Place, variable: re.Match[str], seen: list[str]) -> None:
    segment, converter, name = variable[0], variable[1], variable[2]
    if not name.isidentifier():
        raise ImproperlyConfigured(f"has the variable {segment}, whose name no parameter can have")
    if name in seen:
        raise ImproperlyConfigured(f"has the variable <{name}> twice: rename one")
    if converter is not None and converter not in get_converters():
        known = ", ".join(sorted(get_converters()))
        raise ImproperlyConfigured(
            f"has the unknown converter {converter!r} in {segment}: use one of {known}, or "
            "register it with django.urls.register_converter()"
        )
    try:
        _part(segment)
    except re.error as error:
        raise ImproperlyConfigured(
            f"has the variable {segment}, whose converter has a bad regular expression ({error})"
        ) from error
    for other in place.below:
        if other.startswith("<") and other != segment:
            raise ImproperlyConfigured(
                f"has the variable {segment} where another URL has {other}: give both one name"
            )


def _application(endpoint: Any, variables: list[str]) -> Any:
    consumer = getattr(endpoint, "consumer_class", endpoint)
    if isinstance(consumer, type) and issubclass(consumer, GenericWebsocket):
        if (problem := problem_with_hooks(consumer)) is not None:
            raise ImproperlyConfigured(f"points to {consumer.__qualname__}, whose {problem}")
        if (problem := problem_with_names(consumer)) is not None:
            raise ImproperlyConfigured(f"points to {consumer.__qualname__}, but {problem}")
        checked: Any = consumer  # to mypy a class with an untyped base is unhashable
        parameters(checked).check(variables)
        return endpoint.as_asgi() if endpoint is consumer else endpoint
    if (problem := _problem(endpoint)) is not None:
        raise ImproperlyConfigured(
            f"points to {_name(endpoint)}, {problem}: point it to a subclass of GenericWebsocket, "
            "or to an ASGI application"
        )
    return endpoint


def _problem(endpoint: Any) -> str | None:
    if endpoint is None or endpoint is ...:
        return "which is no endpoint"
    if isinstance(endpoint, types.ModuleType):
        return "which is a module"
    if isinstance(endpoint, AsyncConsumer):
        return "which is one connection, for all clients to share (take the class's `.as_asgi()`)"
    if isinstance(endpoint, type):
        is_consumer = issubclass(endpoint, AsyncConsumer) and not issubclass(endpoint, Websocket)
        hint = " (of a Channels consumer take `.as_asgi()`)" if is_consumer else ""
        return f"which is a class, but no GenericWebsocket{hint}"
    call = endpoint if inspect.isroutine(endpoint) else getattr(endpoint, "__call__", None)  # noqa: B004
    if not iscoroutinefunction(call):
        return "which is no async callable"
    try:
        inspect.signature(call).bind("scope", "receive", "send")
    except TypeError:
        return "which doesn't take (scope, receive, send); HTTP views belong in ROOT_URLCONF"
    return None


def _patterns(place: _Place, segments: list[str], parts: list[_Part]) -> Iterator[URLPattern]:
    is_router = router_in(place.endpoint) is not None
    if place.endpoint is not None and not is_router:
        yield URLPattern(_UrlPattern(segments, parts, is_router=False), place.endpoint)
    statics = [segment for segment in place.below if not segment.startswith("<")]
    taken = rf"(?!(?:{'|'.join(map(re.escape, statics))})(?:/|\Z))" if statics else ""
    for segment, below in sorted(place.below.items(), key=lambda item: item[0].startswith("<")):
        part = _part(segment, taken)
        yield from _patterns(below, [*segments, segment], [*parts, part])
    if is_router:  # last, for it matches the rest of the path itself, whatever that is
        yield URLPattern(_UrlPattern(segments, parts, is_router=True), _Below(place.endpoint))


def _part(segment: str, taken: str = "") -> _Part:
    variable = _VARIABLE.fullmatch(segment)
    if variable is None:
        return _Part("", re.compile(re.escape(segment)), is_one_segment=True)
    regex = get_converters()[variable[1] or "str"].regex
    return _Part(variable[2], re.compile(f"{taken}(?:{regex})"), regex in _ONE_SEGMENT)


def _name(endpoint: Any) -> str:
    endpoint = getattr(endpoint, "consumer_class", endpoint)
    return str(getattr(endpoint, "__qualname__", None) or repr(endpoint))
