"""A Panther-style dict of URLs, translated into entries for Channels' ``URLRouter``."""

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import iscoroutinefunction
from channels.consumer import AsyncConsumer
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern
from django.urls.converters import get_converters
from django.urls.resolvers import RegexPattern

from panther_channels._handshake import problem_with_names
from panther_channels._path_variables import parameters
from panther_channels.websocket import GenericWebsocket

_STATIC = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)
_VARIABLE = re.compile(r"<(?:([a-zA-Z_][a-zA-Z0-9_]*):)?([a-zA-Z0-9_]+)>", re.ASCII)
_HOOKS = ("connect", "receive", "disconnect", "accept", "send", "close")


@dataclass(slots=True)
class _Place:
    """One segment of a path: what it holds, and the segments below it."""

    endpoint: Any = None
    below: dict[str, "_Place"] = field(default_factory=dict)


class _PathPattern(RegexPattern):
    """A regular expression whose groups pass through Django's path converters."""

    def __init__(
        self,
        regex: str,
        name: str | None = None,
        is_endpoint: bool = False,
        converters: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(regex, name, is_endpoint)
        self.converters = converters or {}

    def match(self, path: str) -> Any:
        if (match := super().match(path)) is None:
            return None
        rest, args, kwargs = match
        try:
            cast = {name: c.to_python(kwargs[name]) for name, c in self.converters.items()}
        except ValueError:
            return None
        return rest, args, {**kwargs, **cast}


class _Below:
    """A router, hidden from the one above, which would replace our pattern by a plain one."""

    def __init__(self, router: Any) -> None:
        self._router = router
        self.routes = getattr(router, "routes", None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._router(scope, receive, send)


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
    return list(_patterns(root, "", {}, is_root=True))


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
        elif not _STATIC.fullmatch(segment):
            raise ImproperlyConfigured(
                f"has the segment {segment!r}: a segment is made of letters, digits, - and _, or "
                "is a variable such as <name> or <int:name>"
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
    for other in place.below:
        if other.startswith("<") and other != segment:
            raise ImproperlyConfigured(
                f"has the variable {segment} where another URL has {other}: give both one name"
            )


def _application(endpoint: Any, variables: list[str]) -> Any:
    consumer = getattr(endpoint, "consumer_class", endpoint)
    if isinstance(consumer, type) and issubclass(consumer, GenericWebsocket):
        for hook in _HOOKS:
            if not iscoroutinefunction(inspect.unwrap(getattr(consumer, hook))):
                raise ImproperlyConfigured(
                    f"points to {consumer.__qualname__}, whose {hook}() is not async: write "
                    f"`async def {hook}`"
                )
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
        is_consumer = issubclass(endpoint, AsyncConsumer)
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


def _patterns(
    place: _Place, regex: str, converters: dict[str, Any], *, is_root: bool = False
) -> Iterator[URLPattern]:
    is_router = getattr(place.endpoint, "_path_routing", False) is True
    if place.endpoint is not None and not is_router:
        yield _pattern(f"^{regex}/*$", converters, place.endpoint)
    statics = [segment for segment in place.below if not segment.startswith("<")]
    slash = "" if is_root else "/"
    for segment, below in sorted(place.below.items(), key=lambda item: item[0].startswith("<")):
        variable = _VARIABLE.fullmatch(segment)
        if variable is None:
            yield from _patterns(below, f"{regex}{slash}{segment}", converters)
            continue
        kind, name = variable.groups()
        here = {**converters, name: get_converters()[kind]} if kind else converters
        value = here[name].regex if kind else "[^/]+"
        taken = "".join(f"(?!{static}(?:/|$))" for static in statics)
        yield from _patterns(below, f"{regex}{slash}{taken}(?P<{name}>{value})", here)
    if is_router:  # last, for it matches the rest of the path itself, whatever that is
        end = "(?:/|$)" if regex else ""
        yield _pattern(f"^{regex}{end}", converters, _Below(place.endpoint))


def _pattern(regex: str, converters: dict[str, Any], application: Any) -> URLPattern:
    return URLPattern(_PathPattern(regex, converters=converters, is_endpoint=True), application)


def _name(endpoint: Any) -> str:
    endpoint = getattr(endpoint, "consumer_class", endpoint)
    return str(getattr(endpoint, "__qualname__", None) or repr(endpoint))
