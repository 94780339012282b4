"""The questions asked before ``connect()``: middlewares, authentication, permissions."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.db import router
from django.db.models import Model
from django.urls import URLPattern

from panther_channels import conf
from panther_channels._handshake.credentials import ForeignCredentialError
from panther_channels._process import caches
from panther_channels._process.threads import apart_from_handlers
from panther_channels._socket.closing import USER_DEACTIVATED, USER_DELETED
from panther_channels._socket.websocket import CONNECTION, Websocket
from panther_channels.exceptions import AuthenticationAPIError, AuthorizationAPIError

_ENDED = {"Closed", "Rejected"}  # states
_NAMES = {"auth", "permissions", "throttle"}
# Those of Django REST framework and others, by our own.
_FOREIGN_NAMES = {
    **dict.fromkeys(("permission", "permission_classes", "permission_required"), "permissions"),
    **dict.fromkeys(("authentication", "authentication_classes", "authenticators"), "auth"),
    **dict.fromkeys(("authentications", "auth_classes"), "auth"),
    **dict.fromkeys(("throttles", "throttle_classes"), "throttle"),
}

Dispatch = Callable[..., Awaitable[Any]]


def middleware_chain(endpoint: Dispatch) -> Dispatch:
    """``endpoint`` within the middlewares of ``WS_MIDDLEWARES``, the first of them outermost."""
    return _chain(endpoint, conf.middlewares())


@lru_cache(maxsize=32)
def _chain(dispatch: Dispatch, classes: tuple[Callable[..., Any], ...]) -> Dispatch:
    for middleware in reversed(classes):
        dispatch = middleware(dispatch=dispatch)
    return dispatch


def authentications_of(connection: Websocket) -> list[Any]:
    """The class's ``auth``, else ``WS_AUTHENTICATION``."""
    return questions(_declared(connection, "auth") or conf.authentication())


def offered_subprotocol(authentications: list[Any], scope: Mapping[str, Any]) -> str | None:
    """The one of an authentication, whoever lets in, that the client has offered.

    A browser fails the connection if none that it offered is selected.
    """
    offered = scope.get("subprotocols") or ()
    found = (getattr(each, "subprotocol", None) for each in reversed(authentications))
    return next((each for each in found if each in offered), None)


async def authenticate(connection: Websocket, authentications: list[Any]) -> Any:
    """Set ``connection.user``; returns the authentication that found the user, if one did.

    Of several, the first that finds a user counts. One that doesn't understand the credential
    leaves it to the others; where none does, it refuses.

    Raises:
        ImproperlyConfigured: an authentication is not async.
        Exception: whatever the authentication raises, to refuse the connection.
    """
    foreign: tuple[Any, ForeignCredentialError] | None = None
    for authentication in authentications:
        asked = authentication() if inspect.isclass(authentication) else authentication
        try:
            connection.user = await _ask(asked, connection)
        except ForeignCredentialError as error:
            foreign = foreign or (asked, error)
            continue
        if connection.state in _ENDED:  # by this one, whatever it says
            return None
        if connection.user is not None:
            return asked
    if foreign is not None:
        getattr(connection, CONNECTION).asked = foreign[0]
        raise foreign[1]
    return None


def permissions_of(connection: Websocket) -> list[Any]:
    """The class's ``permissions``."""
    return questions(_declared(connection, "permissions"))


async def authorize(connection: Websocket, permissions: list[Any]) -> None:
    """Ask the permissions one by one; the first refusal ends it.

    Raises:
        AuthenticationAPIError: a permission gave a falsy answer, and nobody is logged in who could.
        AuthorizationAPIError: it gave it for a user, or for all.
        ImproperlyConfigured: a permission is not async.
    """
    for permission in permissions:
        asked = permission() if inspect.isclass(permission) else permission
        is_granted = await _ask(asked, connection)
        if connection.state in _ENDED:  # by this one, whatever it says
            return
        if not is_granted:
            getattr(connection, CONNECTION).asked = asked
            if _may_log_in(connection):
                raise AuthenticationAPIError("Authentication Required")
            raise AuthorizationAPIError


def _may_log_in(connection: Websocket) -> bool:
    """Whether nobody is logged in, but could be: by an authentication, or where Django asked."""
    if user := connection.user:
        return not getattr(user, "is_authenticated", True)
    return bool(authentications_of(connection))


async def confirm(user: Any) -> None:
    """Look at a user once more, who has been authenticated some time ago.

    Raises:
        AuthenticationAPIError: the user was deactivated or deleted meanwhile.
    """
    # Whoever does not come from the database, or is let in though inactive, is asked nothing.
    is_row = isinstance(user, Model) and not user._state.adding
    if is_row and getattr(user, "is_active", False):
        with apart_from_handlers():  # of which connect() is one, where this is called
            found = await sync_to_async(_found_again)(user)
        if not getattr(found, "is_active", False):
            raise AuthenticationAPIError("User deactivated or deleted")


async def refresh(user: Any) -> None:
    """Read a user of an open connection from the database once more.

    Raises:
        AuthenticationAPIError: the user was deactivated or deleted meanwhile.
    """
    if isinstance(user, Model) and not user._state.adding:
        with apart_from_handlers():
            await sync_to_async(_refresh)(user)


async def reauthenticate(connection: Websocket, authentication: Any) -> None:
    """Ask an authentication once more whether it lets in the user that it has found.

    Args:
        connection: it.
        authentication: ``None`` where it was a middleware or a hook that has set the user.

    Raises:
        AuthenticationAPIError: it doesn't.
        Exception: whatever else the authentication raises.
    """
    recheck = getattr(authentication, "recheck", None)
    if recheck is None:
        return
    kept = caches.opened()
    try:
        with apart_from_handlers():
            found = await recheck(connection)
    finally:
        caches.close_all_but(kept)
    if found is None:
        raise AuthenticationAPIError


def _refresh(user: Any) -> None:
    # In place: the project may have put something on it.
    was_active = getattr(user, "is_active", False)
    try:
        user.refresh_from_db(using=router.db_for_write(user._meta.model, instance=user))
    except ObjectDoesNotExist:
        raise AuthenticationAPIError(USER_DELETED.reason) from None
    for cached in ("_perm_cache", "_user_perm_cache", "_group_perm_cache"):  # of ModelBackend
        if hasattr(user, cached):
            delattr(user, cached)
    if was_active and not getattr(user, "is_active", False):
        raise AuthenticationAPIError(USER_DEACTIVATED.reason)


def _found_again(user: Any) -> Any:
    database = router.db_for_write(user._meta.model, instance=user)
    return user._meta.model._base_manager.using(database).filter(pk=user.pk).first()


def questions(declared: Any) -> list[Any]:
    """One authentication or permission, or several, or none, as a list."""
    if declared is None:
        return []
    return list(declared) if isinstance(declared, list | tuple | set | frozenset) else [declared]


def consumers_of(patterns: list[URLPattern]) -> Iterator[Any]:
    """The :class:`GenericWebsocket` classes among what URLs point to, each once."""
    found = (getattr(pattern.callback, "consumer_class", None) for pattern in patterns)
    yield from dict.fromkeys(item for item in found if _is_handler(item))


def _is_handler(consumer: Any) -> bool:
    # Not issubclass(): the class is defined above.
    bases = getattr(consumer, "__mro__", ())
    return any(base.__module__ == "panther_channels.websocket" for base in bases)


def declared_by(owner: Any, name: str) -> Any:
    """A class attribute as it was written: ``auth = function`` must not become a method."""
    # inspect.getattr_static() does this, too, at a quarter of what a handshake costs.
    value = next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)
    return value.__func__ if isinstance(value, staticmethod) else value


def _declared(connection: Websocket, name: str) -> Any:
    if name in vars(connection):
        return vars(connection)[name]
    if getattr(type(connection), name) is None:  # as of most classes, and cheap
        return None
    value = declared_by(type(connection), name)
    return getattr(connection, name) if isinstance(value, classmethod | property) else value


async def _ask(question: Any, connection: Websocket) -> Any:
    asking = getattr(connection, CONNECTION)
    asking.asked = question  # until it has answered: a refusal is logged with its name
    arguments = (connection, connection) if _is_method(question) else (connection,)
    answer = question(*arguments)
    if not inspect.isawaitable(answer):
        raise ImproperlyConfigured(
            f"{question!r} of {type(connection).__qualname__} must be an async function, or a "
            "class with an async __call__()"
        )
    kept = caches.opened()
    try:
        with apart_from_handlers():
            result = await answer
    finally:
        caches.close_all_but(kept)  # in which Django may keep the sessions
    asking.asked = None
    return result


@lru_cache(maxsize=256)
def _wants_two(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2


def _is_method(question: Any) -> bool:
    # `async def auth(self, connection)` in the body of the class is a plain function here too.
    return inspect.isfunction(question) and _wants_two(question)


def problem_with_question(question: Any) -> str | None:
    """What is wrong with an authentication or a permission, for the system checks."""
    if isinstance(question, str):
        return f"{question!r} is a string: give the function or the class itself."
    if isinstance(question, classmethod | property):
        return None  # known only of a connection
    for part in getattr(question, "parts", ()):  # of permissions that were combined
        if (problem := problem_with_question(part)) is not None:
            return problem
    call = question if inspect.isroutine(question) else getattr(question, "__call__", None)  # noqa: B004
    if inspect.isclass(question):
        if inspect.isabstract(question):
            return f"{question.__qualname__} has no __call__() of its own."
        try:
            inspect.signature(question).bind()
        except TypeError:
            return f"{question.__qualname__} wants arguments: give an instance."
        call = declared_by(question, "__call__")
    if not iscoroutinefunction(call):
        return f"{question!r} is not async."
    arguments = [None] * (2 if inspect.isclass(question) or _is_method(question) else 1)
    try:
        inspect.signature(call).bind(*arguments)
    except TypeError:
        return f"{question!r} must take one argument, the connection."
    return None


def problem_with_names(consumer: Any, arguments: Iterable[str] = ()) -> str | None:
    """What a class says where nobody looks, for the start and the system checks.

    It would let everybody in, without a word.

    Args:
        consumer: the class.
        arguments: the names of those that ``as_asgi()`` was given.
    """
    name = consumer.__qualname__
    for foreign, right in _FOREIGN_NAMES.items():
        if declared_by(consumer, foreign) is not None:
            return f"{name}.{foreign} does nothing here: the attribute is named `{right}`"
    for base in consumer.__mro__:
        if base.__module__ == "django.contrib.auth.mixins":
            return f"{base.__qualname__} of {name} does nothing here: set `permissions` instead"
        for annotated in _NAMES & inspect.get_annotations(base).keys():
            if annotated not in vars(base) and declared_by(consumer, annotated) is None:
                return f"{name}.{annotated} has an annotation, but no value: write `=`, not `:`"
    for argument in (_NAMES | _FOREIGN_NAMES.keys()).intersection(arguments):
        if argument not in inspect.signature(consumer).parameters:
            right = _FOREIGN_NAMES.get(argument, argument)
            return f"{name}.as_asgi({argument}=...) does nothing: set the attribute `{right}`"
    return None


def problem_with_middleware(middleware: Any) -> str | None:
    """What is wrong with a middleware, for the system checks."""
    name = getattr(middleware, "__qualname__", repr(middleware))
    try:
        inspect.signature(middleware).bind(dispatch=None)
    except TypeError:
        return f"WS_MIDDLEWARES: {name} must take `dispatch`: derive it from WebsocketMiddleware."
    if inspect.isclass(middleware) and not iscoroutinefunction(middleware.__call__):
        return f"WS_MIDDLEWARES: {name} has no async __call__(connection)."
    return None
