"""Channels' routers, seen through the middlewares that they are wrapped in."""

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from django.urls.resolvers import RoutePattern

# Where middlewares keep what they wrap: Channels' own, and those of other ASGI libraries.
_INNER = ("inner", "application", "app")
_HOLDERS = (dict, list, tuple)
_MOST = 100  # objects that are looked at: some hold themselves, or have any attribute


def router_in(application: Any) -> Any:
    """The router that an application is, or has within its middlewares; else ``None``."""
    return _search(application, _wrapped_by)


def hides_router(application: Any) -> bool:
    """Whether there is one that :func:`router_in` can't see, for the system checks."""
    return router_in(application) is None and _search(application, _held_by) is not None


def open_routes(router: Any) -> None:
    """Let a router of Channels see through middlewares, which it takes for the end of a path."""
    for route in getattr(router, "routes", ()):
        if (below := router_in(route.callback)) is None:
            continue
        pattern = route.pattern
        if below is not route.callback and type(pattern) is RoutePattern:
            route.pattern = RoutePattern(str(pattern), pattern.name, is_endpoint=False)
        open_routes(below)


def _search(application: Any, inside: Callable[[Any], list[Any]]) -> Any:
    found = [application]
    for each in found:
        if getattr(each, "_path_routing", False) is True:
            return each
        if len(found) < _MOST:
            # Nothing else is asked for anything: a lazy object would come to life.
            found += [one for one in inside(each) if callable(one) or isinstance(one, _HOLDERS)]
    return None


def _wrapped_by(application: Any) -> list[Any]:
    return [getattr(application, name, None) for name in _INNER]


def _held_by(holder: Any) -> list[Any]:
    if isinstance(holder, dict):
        return [*holder.values()]
    if isinstance(holder, list | tuple):
        return [*holder]
    if isinstance(holder, partial):
        return [holder.func, holder.args, holder.keywords]
    if inspect.ismethod(holder):
        return [holder.__self__]
    if isinstance(holder, type | ModuleType) or hasattr(holder, "consumer_class"):
        return []
    if inspect.isfunction(holder):
        return [*inspect.getclosurevars(holder).nonlocals.values()]
    return [*getattr(holder, "__dict__", {}).values()]
