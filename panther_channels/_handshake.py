"""The questions asked before ``connect()``: middlewares, authentication, permissions."""

import inspect
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from panther_channels import conf
from panther_channels.exceptions import AuthorizationAPIError

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket

Dispatch = Callable[..., Awaitable[Any]]


def middleware_chain(endpoint: Dispatch) -> Dispatch:
    """``endpoint`` within the middlewares of ``WS_MIDDLEWARES``, the first of them outermost."""
    return _chain(endpoint, conf.middlewares())


@lru_cache(maxsize=32)
def _chain(dispatch: Dispatch, classes: tuple[Callable[..., Any], ...]) -> Dispatch:
    for middleware in reversed(classes):
        dispatch = middleware(dispatch=dispatch)
    return dispatch


async def authenticate(connection: "Websocket") -> None:
    """Set ``connection.user`` from the class's ``auth``, else from ``WS_AUTHENTICATION``.

    Raises:
        ImproperlyConfigured: the authentication is not async.
        Exception: whatever the authentication raises, to refuse the connection.
    """
    authentication = _declared(connection, "auth") or conf.authentication()
    if authentication is not None:
        connection.user = await _ask(authentication, connection)


async def authorize(connection: "Websocket") -> None:
    """Ask the permissions one by one; the first refusal ends it.

    Raises:
        AuthorizationAPIError: a permission gave a falsy answer.
        ImproperlyConfigured: a permission is not async.
    """
    permissions = _declared(connection, "permissions")
    if permissions is None:
        return
    if not isinstance(permissions, list | tuple | set | frozenset):
        permissions = [permissions]
    for permission in permissions:
        if connection.is_rejected:
            return
        if not await _ask(permission, connection):
            raise AuthorizationAPIError


def _declared(connection: "Websocket", name: str) -> Any:
    """A class attribute as it was written: ``auth = function`` must not become a bound method."""
    # inspect.getattr_static() does this, too, at a quarter of what a handshake costs.
    places = (vars(connection), *map(vars, type(connection).__mro__))
    value = next(place[name] for place in places if name in place)
    if isinstance(value, staticmethod):
        return value.__func__
    if isinstance(value, classmethod | property):
        return getattr(connection, name)
    return value


async def _ask(question: Any, connection: "Websocket") -> Any:
    if inspect.isclass(question):
        question = question()
    arguments = (connection, connection) if _is_method(question) else (connection,)
    answer = question(*arguments)
    if not inspect.isawaitable(answer):
        raise ImproperlyConfigured(
            f"{question!r} of {type(connection).__qualname__} must be an async function, or a "
            "class with an async __call__()"
        )
    return await answer


@lru_cache(maxsize=256)
def _wants_two(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def _is_method(question: Any) -> bool:
    # `async def auth(self, connection)` in the body of the class is a plain function here too.
    return inspect.isfunction(question) and _wants_two(question)
