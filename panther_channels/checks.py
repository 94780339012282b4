"""System checks: what is wrong with the settings and classes, before a connection meets it."""

import re
import sys
from collections.abc import Iterator
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.routing import get_default_application
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.management import get_commands
from django.urls import URLPattern
from django.utils.module_loading import import_string

from panther_channels import conf
from panther_channels._handshake.origin import parse_origin
from panther_channels._handshake.questions import (
    consumers_of,
    declared_by,
    problem_with_middleware,
    problem_with_question,
    questions,
)
from panther_channels._handshake.routers import hides_router
from panther_channels._hub.subscription import is_not_overridden
from panther_channels.authentications import (
    CookieJWTAuthentication,
    DRFAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
)
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.plain_redis import hasty_hosts, kind_of
from panther_channels.permissions import HasPermission, IsAuthenticated
from panther_channels.routing import build_url_patterns
from panther_channels.throttling import Throttle

# What pages of apps send: a scheme that is not the web's, and perhaps no host.
_OF_APPS = re.compile(r"(?!https?:|wss?:)[a-z][a-z0-9+.-]*://(?:[\w.~:@%!$&'()+;=-]+|/?)", re.ASCII)

# What Channels documents and we don't use, and what to write instead.
_UNUSED = {
    "dispatch": "Override connect(), receive() and disconnect(), or add to WS_MIDDLEWARES",
    "websocket_connect": "Override connect()",
    "websocket_receive": "Override receive(), which takes the text or the bytes itself",
    "websocket_disconnect": "Override disconnect(), which takes the close code itself",
    "channel_layer_alias": "Set WS_CHANNEL_LAYER",
}

# Where the runserver is that serves no WebSockets.
_SERVE_HTTP = {"django.core", "django.contrib.staticfiles"}

_WHICH_LAYER = (
    "panther_channels.layers.LocalChannelLayer reaches all processes of one host, "
    "panther_channels.layers.RedisChannelLayer those of several."
)
_LINE = (
    'Set CHANNEL_LAYERS["{alias}"]["BACKEND"] to "panther_channels.layers.RedisChannelLayer", '
    'which takes the same "CONFIG". Of two projects on one Redis server and database number, give '
    'each a "prefix" of its own there.'
)
_COSTS = {
    "core": (
        "drops messages beyond its capacity, which all connections of a process share, and has its "
        "groups in Redis alone: they end with a restart of it"
    ),
    "pubsub": (
        "loses what is sent while a process connects to Redis again, and in large bursts; reaches "
        "the connections of other projects on the same Redis server, whatever the number of their "
        "database; and subscribes once more for each connection"
    ),
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


def check_routers(**_kwargs: Any) -> list[CheckMessage]:
    """W009: a router is where it can't be seen, so that there is nothing below its URL."""
    hint = "Let what wraps the router keep it in an attribute `inner`, as Channels' middlewares do."
    return [
        Warning(
            f"WS_URLS: {str(pattern.pattern)!r} points to {pattern.callback!r}, in which a router "
            "is hidden: all paths below are unknown.",
            hint=hint,
            id="panther_channels.W009",
        )
        for pattern in _patterns()
        if hides_router(pattern.callback)
    ]


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
    hint = (
        'An origin is such as "https://example.com", "https://*.example.com", or "*"; that of an '
        'app, such as "app://." or "null".'
    )
    return [Error(problem, hint=hint, id="panther_channels.E007") for problem in problems]


def check_cookies(**_kwargs: Any) -> list[CheckMessage]:
    """W001: a cookie lets in, and so does every page of the web."""
    try:
        allowed = conf.allowed_origins() or ()
    except ImproperlyConfigured:
        return []
    # A page has the origin null wherever it wants: in a sandboxed frame.
    word = next((each for each in ("*", "null") if each in allowed), None)
    if word is None:
        return []
    hint = 'Name the origins in WS_ALLOWED_ORIGINS; let an app that sends "null" bring a token.'
    return [
        Warning(
            f'{where} trusts a cookie, while WS_ALLOWED_ORIGINS has "{word}": every page that a '
            "user visits may connect as that user.",
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


def check_runserver(**_kwargs: Any) -> list[CheckMessage]:
    """W010: ``runserver`` is about to start, and is Django's, which serves HTTP alone."""
    is_asked = sys.argv[1:2] == ["runserver"] and getattr(settings, "WS_URLS", None) is not None
    # Of another app, it may serve what it likes.
    if not is_asked or get_commands()["runserver"] not in _SERVE_HTTP:
        return []
    text = "WS_URLS is set, but this runserver is Django's, which answers each WebSocket with 404."
    hint = 'Put "daphne" at the top of INSTALLED_APPS, or serve the project with uvicorn.'
    return [Warning(text, hint=hint, id="panther_channels.W010")]


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
    """E008: a class overrides what Channels has, but nobody calls here."""
    return [
        Error(
            f"{consumer.__qualname__}.{name} does nothing here.",
            hint=f"{instead}.",
            id="panther_channels.E008",
        )
        for consumer in _consumers()
        for name, instead in _UNUSED.items()
        if not is_not_overridden(consumer, name)
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


# The channel layer: what is wrong with it, and what it costs


def check_channel_layer(**_kwargs: Any) -> list[CheckMessage]:
    """E004, W004: there is no layer of this name, or no layer at all."""
    alias = conf.channel_layer()
    if alias in channel_layers.configs:
        return []
    text = "Connections can't be reached from outside: "
    if alias != DEFAULT_CHANNEL_LAYER:
        text += f"WS_CHANNEL_LAYER is {alias!r}, which is not in CHANNEL_LAYERS."
        hint = f'Use an alias that is there, or set CHANNEL_LAYERS["{alias}"]. {_WHICH_LAYER}'
        return [Error(text, hint=hint, id="panther_channels.E004")]
    if getattr(settings, "WS_URLS", None) is None:
        return []
    text += 'there is no CHANNEL_LAYERS["default"].'
    return [Warning(text, hint=f"Set it. {_WHICH_LAYER}", id="panther_channels.W004")]


def check_memory_layer(**_kwargs: Any) -> list[CheckMessage]:
    """W005: a layer that reaches one process, in production."""
    if settings.DEBUG or not issubclass(_layer_class(), InMemoryChannelLayer):
        return []
    text = (
        f"{_backend()} is in-memory: views and tasks of other processes reach no connection, and "
        "a burst of messages is cut off without a word."
    )
    return [Warning(text, hint=_WHICH_LAYER, id="panther_channels.W005")]


def check_layer(**_kwargs: Any) -> list[CheckMessage]:
    """E011: the layer can't be made."""
    alias = conf.channel_layer()
    if alias not in channel_layers.configs:
        return []
    hint = f'See "BACKEND" and "CONFIG" in CHANNEL_LAYERS["{alias}"]. {_WHICH_LAYER}'
    try:
        channel_layers.make_backend(alias)
    except ImproperlyConfigured as error:  # of ours, which says what to change
        if issubclass(_layer_class(), LocalChannelLayer):
            hint = "It is a short path, in a directory to which the user of the server may write."
        return [Error(str(error), hint=hint, id="panther_channels.E011")]
    except Exception as error:  # noqa: BLE001 - whatever the class of a layer raises
        text = f"The channel layer can't be made: {error or type(error).__name__}."
        return [Error(text, hint=hint, id="panther_channels.E011")]
    return []


def check_redis_layer(**_kwargs: Any) -> list[CheckMessage]:
    """W006, W008: a layer of channels_redis, where ours would lose less."""
    kind = kind_of(_layer_class())
    if not kind:
        return []
    hint = _LINE.format(alias=conf.channel_layer())
    text = f"{_backend()} {_COSTS[kind]}."
    messages: list[CheckMessage] = [Warning(text, hint=hint, id="panther_channels.W006")]
    for index in _hasty_hosts() if kind == "core" else ():
        text = (
            f"{_backend()} waits for messages, but hosts[{index}] has no socket_timeout above the "
            "time that it waits: waiting ends in TimeoutError again and again."
        )
        hint = f'Set it: {{"address": "redis://...", "socket_timeout": None}}. {_WHICH_LAYER}'
        messages.append(Warning(text, hint=hint, id="panther_channels.W008"))
    return messages


CHECKS = (
    check_urls,
    check_routers,
    check_middlewares,
    check_authentication,
    check_classes,
    check_origins,
    check_cookies,
    check_permissions,
    check_query_parameters,
    check_application,
    check_runserver,
    check_throttles,
    check_limits,
    check_overrides,
    check_channel_layer,
    check_memory_layer,
    check_layer,
    check_redis_layer,
)


def _is_origin(item: str) -> bool:
    is_of_site = "*" not in item and parse_origin(item) is not None
    return is_of_site or item == "null" or _OF_APPS.fullmatch(item) is not None


def _patterns() -> list[URLPattern]:
    try:
        return build_url_patterns(conf.urls() or {})
    except ImproperlyConfigured:
        return []  # E001 tells


def _consumers() -> Iterator[Any]:
    yield from consumers_of(_patterns())


def _uses_of(*kinds: type) -> Iterator[str]:
    """Where an authentication of these kinds lets in."""
    try:
        declared = {"WS_AUTHENTICATION": conf.authentication()}
    except ImproperlyConfigured:
        declared = {}
    declared |= {f"{item.__qualname__}.auth": declared_by(item, "auth") for item in _consumers()}
    for where, value in declared.items():
        for item in questions(value):
            is_known = issubclass(item if isinstance(item, type) else type(item), kinds)
            trusts_session = SessionAuthentication in kinds and isinstance(item, DRFAuthentication)
            if is_known or (trusts_session and item.trusts_session):
                yield where


def _layer_config() -> dict[str, Any]:
    config: dict[str, Any] = channel_layers.configs.get(conf.channel_layer(), {})
    return config


def _backend() -> str:
    return f'The layer of CHANNEL_LAYERS["{conf.channel_layer()}"], {_layer_config()["BACKEND"]},'


def _layer_class() -> Any:
    try:
        return import_string(_layer_config()["BACKEND"])
    except (ImportError, KeyError, TypeError, AttributeError):
        return object  # Channels says what is wrong, when it is first needed


def _hasty_hosts() -> list[int]:
    """Which hosts of ``channels_redis.core`` give up while the layer waits for a message."""
    try:
        return hasty_hosts(channel_layers.make_backend(conf.channel_layer()))
    except (TypeError, ValueError):
        return []  # Channels says what is wrong with them, when they are first needed
