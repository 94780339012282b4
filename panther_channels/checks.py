"""System checks: what is wrong with the settings and classes, before a connection meets it."""

from collections.abc import Iterator
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler

from panther_channels import conf
from panther_channels._handshake.origin import parse_origin
from panther_channels._handshake.questions import (
    consumers_of,
    declared_by,
    problem_with_middleware,
    problem_with_question,
    questions,
)
from panther_channels._hub.subscription import is_ours
from panther_channels._layer_checks import LAYER_CHECKS
from panther_channels.authentications import (
    CookieJWTAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
)
from panther_channels.permissions import HasPermission, IsAuthenticated
from panther_channels.routing import build_url_patterns
from panther_channels.throttling import Throttle

# What Channels documents and we don't use, and what to write instead.
_UNUSED = {
    "dispatch": "Override connect(), receive() and disconnect(), or add to WS_MIDDLEWARES",
    "websocket_connect": "Override connect()",
    "websocket_receive": "Override receive(), which takes the text or the bytes itself",
    "websocket_disconnect": "Override disconnect(), which takes the close code itself",
    "channel_layer_alias": "Set WS_CHANNEL_LAYER",
}


def check_urls(**_kwargs: Any) -> list[CheckMessage]:
    """E001: ``WS_URLS`` can't be read, or something is wrong with one of the URLs."""
    try:
        if (urls := conf.urls()) is not None:
            build_url_patterns(urls)
    except ImproperlyConfigured as error:
        hint = "WS_URLS is the dict of WebSocket URLs, or its dotted path."
        return [Error(str(error), hint=hint, id="panther_channels.E001")]
    return []


def check_middlewares(**_kwargs: Any) -> list[CheckMessage]:
    """E002: ``WS_MIDDLEWARES`` can't be read, or holds what is no middleware."""
    hint = "WS_MIDDLEWARES is a list of middleware classes, or of their dotted paths."
    try:
        problems = [problem_with_middleware(item) for item in conf.middlewares()]
    except ImproperlyConfigured as error:
        problems = [str(error)]
    return [
        Error(problem, hint=hint, id="panther_channels.E002")
        for problem in problems
        if problem is not None
    ]


def check_authentication(**_kwargs: Any) -> list[CheckMessage]:
    """E003: ``WS_AUTHENTICATION`` can't be read, or is no async callable."""
    hint = "WS_AUTHENTICATION is an async callable, a class of one, or a list, or dotted paths."
    try:
        found = [problem_with_question(item) for item in questions(conf.authentication())]
    except ImproperlyConfigured as error:
        found = [str(error)]
    return [
        Error(f"WS_AUTHENTICATION: {problem}", hint=hint, id="panther_channels.E003")
        for problem in found
        if problem is not None
    ]


def check_classes(**_kwargs: Any) -> list[CheckMessage]:
    """E005, E006: ``auth`` or ``permissions`` of a class is no async callable."""
    messages: list[CheckMessage] = []
    for consumer in _consumers():
        for name, code in (("auth", "E005"), ("permissions", "E006")):
            for item in questions(declared_by(consumer, name)):
                if (problem := problem_with_question(item)) is not None:
                    text = f"{consumer.__qualname__}.{name}: {problem}"
                    hint = "An async function, or a class with an async __call__(connection)."
                    messages.append(Error(text, hint=hint, id=f"panther_channels.{code}"))
    return messages


def check_origins(**_kwargs: Any) -> list[CheckMessage]:
    """E007: ``WS_ALLOWED_ORIGINS`` can't be read, or holds what is no origin."""
    try:
        allowed = conf.allowed_origins() or []
    except ImproperlyConfigured as error:
        problems = [str(error)]
    else:
        problems = [
            f"WS_ALLOWED_ORIGINS: {item!r} is no origin."
            for item in allowed
            if item != "*" and not _is_origin(item.replace("://*.", "://", 1))
        ]
    hint = 'An origin is such as "https://example.com", "https://*.example.com", or "*".'
    return [Error(problem, hint=hint, id="panther_channels.E007") for problem in problems]


def check_cookies(**_kwargs: Any) -> list[CheckMessage]:
    """W001: a cookie lets in, and so does every page of the web."""
    try:
        if "*" not in (conf.allowed_origins() or ()):
            return []
    except ImproperlyConfigured:
        return []
    hint = "Name the origins in WS_ALLOWED_ORIGINS."
    return [
        Warning(
            f'{where} trusts a cookie, while WS_ALLOWED_ORIGINS is ["*"]: every page that a user '
            "visits may connect as that user.",
            hint=hint,
            id="panther_channels.W001",
        )
        for where in _uses_of(SessionAuthentication, CookieJWTAuthentication)
    ]


def check_permissions(**_kwargs: Any) -> list[CheckMessage]:
    """W007: a permission looks at the user, whom nobody has asked for."""
    try:
        default = questions(conf.authentication())
    except ImproperlyConfigured:
        return []  # E003 tells
    hint = (
        "Set `auth` on the class, or WS_AUTHENTICATION; silence it if a middleware sets the user."
    )
    return [
        Warning(
            f"{consumer.__qualname__}.permissions look at the user, but it has no authentication: "
            "the user is always None.",
            hint=hint,
            id="panther_channels.W007",
        )
        for consumer in _consumers()
        if not (default or questions(declared_by(consumer, "auth")))
        and any(map(_looks_at_user, questions(declared_by(consumer, "permissions"))))
    ]


def _looks_at_user(permission: Any) -> bool:
    kind = permission if isinstance(permission, type) else type(permission)
    asking = (IsAuthenticated, HasPermission)  # not `|`, which is one of permissions
    return issubclass(kind, asking) or any(map(_looks_at_user, getattr(permission, "parts", ())))


def check_query_parameters(**_kwargs: Any) -> list[CheckMessage]:
    """W002: tokens in URLs, in production."""
    if settings.DEBUG:
        return []
    hint = "Browsers can send it as a subprotocol: use SubprotocolJWTAuthentication."
    text = "takes a token from the URL, which proxies log and browsers remember."
    return [
        Warning(f"{where} {text}", hint=hint, id="panther_channels.W002")
        for where in _uses_of(QueryParamJWTAuthentication)
    ]


def check_application(**_kwargs: Any) -> list[CheckMessage]:
    """W003: ``ASGI_APPLICATION`` serves HTTP alone."""
    if getattr(settings, "WS_URLS", None) is None or not hasattr(settings, "ASGI_APPLICATION"):
        return []
    try:
        application = get_default_application()
    except Exception:  # noqa: BLE001 - whatever it is, the server will tell
        return []
    application = getattr(application, "application", application)  # of Django's static files
    if not isinstance(application, ASGIHandler):
        return []
    text = "WS_URLS is set, but ASGI_APPLICATION is Django's, which serves no WebSockets."
    hint = "In asgi.py, import get_asgi_application from panther_channels.asgi."
    return [Warning(text, hint=hint, id="panther_channels.W003")]


def check_throttles(**_kwargs: Any) -> list[CheckMessage]:
    """E009: ``throttle`` of a class is no ``Throttle``, or has the name that it has in Panther."""
    messages: list[CheckMessage] = []
    for consumer in _consumers():
        throttle, name = declared_by(consumer, "throttle"), consumer.__qualname__
        if throttle is not None and not isinstance(throttle, Throttle | property):
            problem = f"{name}.throttle: {throttle!r} is no Throttle."
        elif isinstance(declared_by(consumer, "throttling"), Throttle):
            problem = f"{name}.throttling limits nothing: the attribute is named `throttle`."
        else:
            continue
        hint = "throttle = Throttle(rate=..., duration=...), from panther_channels.throttling."
        messages.append(Error(problem, hint=hint, id="panther_channels.E009"))
    return messages


def check_overrides(**_kwargs: Any) -> list[CheckMessage]:
    """E012: a class overrides what Channels has, but nobody calls here."""
    return [
        Error(
            f"{consumer.__qualname__}.{name} does nothing here.",
            hint=f"{instead}.",
            id="panther_channels.E012",
        )
        for consumer in _consumers()
        for name, instead in _UNUSED.items()
        if not is_ours(consumer, name)
    ]


def check_limits(**_kwargs: Any) -> list[CheckMessage]:
    """E010: a setting that limits connections can't be read."""
    messages: list[CheckMessage] = []
    hint = 'The limits are above 0 or None, the action is "refuse" or "close_oldest".'
    for read in (
        conf.max_connections_per_user,
        conf.max_connections_per_client,
        conf.connection_limit_action,
    ):
        try:
            read()
        except ImproperlyConfigured as error:
            messages.append(Error(str(error), hint=hint, id="panther_channels.E010"))
    return messages


CHECKS = (
    check_urls,
    check_middlewares,
    check_authentication,
    check_classes,
    check_origins,
    check_cookies,
    check_permissions,
    check_query_parameters,
    check_application,
    check_throttles,
    check_limits,
    check_overrides,
    *LAYER_CHECKS,
)


def _is_origin(item: str) -> bool:
    return "*" not in item and parse_origin(item) is not None


def _consumers() -> Iterator[Any]:
    try:
        patterns = build_url_patterns(conf.urls() or {})
    except ImproperlyConfigured:
        return  # E001 tells
    yield from consumers_of(patterns)


def _uses_of(*kinds: type) -> Iterator[str]:
    """Where an authentication of these kinds lets in."""
    try:
        declared = {"WS_AUTHENTICATION": conf.authentication()}
    except ImproperlyConfigured:
        declared = {}
    declared |= {f"{item.__qualname__}.auth": declared_by(item, "auth") for item in _consumers()}
    for where, value in declared.items():
        for item in questions(value):
            if issubclass(item if isinstance(item, type) else type(item), kinds):
                yield where
