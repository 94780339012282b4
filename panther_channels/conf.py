"""The only reader of the ``WS_*`` settings.

Every function tells what the setting is at the moment of its call, and imports what a dotted path
names. A value is kept until Django says that a setting has changed, as ``override_settings`` does;
not what is in a list, nor what was imported, which may be changed in place, or patched by a test.
What can't be read is an ``ImproperlyConfigured`` that names the setting.
"""

from collections.abc import Callable, Container, Iterable
from functools import cache
from typing import Any, TypeVar, cast

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

_Number = TypeVar("_Number", int, float)
_Read = TypeVar("_Read", bound=Callable[..., Any])

_readers: list[Any] = []


def _kept(read: _Read) -> _Read:
    """Call it once, until Django says that a setting has changed: some are for every handshake."""
    _readers.append(kept := cache(read))
    return cast(_Read, kept)


def check_installed() -> None:
    """Refuse to serve a project without this app, which has checks, guards and mends to install.

    Raises:
        ImproperlyConfigured: it is missing in ``INSTALLED_APPS``.
    """
    if apps.apps_ready and not apps.is_installed("panther_channels"):
        raise ImproperlyConfigured(
            'INSTALLED_APPS has no "panther_channels": add it, or nothing looks after the servers, '
            "the logs and the users who have left."
        )


def urls() -> Any:
    """``WS_URLS``: a dict of URLs, or the dotted path of one. Default: ``None``."""
    return _imported("WS_URLS", _setting("WS_URLS", None))


def authentication() -> Any:
    """``WS_AUTHENTICATION``: used where a class sets no ``auth``; one, or a list. Default: none."""
    value = _setting("WS_AUTHENTICATION", None)
    if isinstance(value, list | tuple):
        return [_imported("WS_AUTHENTICATION", item) for item in value]
    return _imported("WS_AUTHENTICATION", value)


def allowed_origins() -> list[str] | None:
    """``WS_ALLOWED_ORIGINS``: origins of pages that may connect. Default: ``None``, by host.

    Exact ones such as ``https://example.com``, ``https://*.example.com`` for all subdomains, what
    an app sends instead of one, such as ``file://``, or ``*`` for all there are.
    """
    value = _setting("WS_ALLOWED_ORIGINS", None)
    if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
        raise ImproperlyConfigured(f"WS_ALLOWED_ORIGINS must be a list, not {value!r}.")
    return None if value is None else [str(item).lower() for item in value]


@_kept
def close_on_token_expiry() -> bool:
    """``WS_CLOSE_ON_TOKEN_EXPIRY``: close with 1008 when the token expires. Default: ``False``."""
    return bool(_setting("WS_CLOSE_ON_TOKEN_EXPIRY", False))


@_kept
def recheck_access() -> bool:
    """``WS_RECHECK_ACCESS``: ask again when a user's access may have changed. Default: ``True``."""
    return bool(_setting("WS_RECHECK_ACCESS", True))


@_kept
def gc_freeze() -> bool:
    """``WS_GC_FREEZE``: keep connections out of full garbage collections. Default: ``True``."""
    return bool(_setting("WS_GC_FREEZE", True))


@_kept
def trust_daphne_root_path() -> bool:
    """``WS_TRUST_DAPHNE_ROOT_PATH``: believe that header of every client. Default: ``False``."""
    return bool(_setting("WS_TRUST_DAPHNE_ROOT_PATH", False))


@_kept
def connect_timeout() -> float:
    """``WS_CONNECT_TIMEOUT``: seconds up to ``accept()``. Default: 4."""
    return _positive("WS_CONNECT_TIMEOUT", 4.0)


@_kept
def disconnect_grace() -> float:
    """``WS_DISCONNECT_GRACE``: seconds for each hook after the client's end. Default: 5."""
    return _positive("WS_DISCONNECT_GRACE", 5.0)


@_kept
def shutdown_timeout() -> float:
    """``WS_SHUTDOWN_TIMEOUT``: seconds from SIGTERM to the end. Default: 10."""
    return _positive("WS_SHUTDOWN_TIMEOUT", 10.0)


def middlewares() -> tuple[Callable[..., Any], ...]:
    """``WS_MIDDLEWARES``: middleware classes or dotted paths, outermost first. Default: none."""
    value = _setting("WS_MIDDLEWARES", None)
    if not value:
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ImproperlyConfigured(f"WS_MIDDLEWARES must be a list, not {value!r}.")
    classes = tuple(_imported("WS_MIDDLEWARES", item) for item in value)
    for item in classes:
        if not callable(item):
            raise ImproperlyConfigured(f"WS_MIDDLEWARES: {item!r} is no middleware class.")
    return classes


@_kept
def max_connections_per_user() -> int | None:
    """``WS_MAX_CONNECTIONS_PER_USER``: how many a user may have open. Default: ``None``, any."""
    return _count("WS_MAX_CONNECTIONS_PER_USER")


@_kept
def max_connections_per_client() -> int | None:
    """``WS_MAX_CONNECTIONS_PER_CLIENT``: the same for an address. Default: ``None``, any."""
    return _count("WS_MAX_CONNECTIONS_PER_CLIENT")


@_kept
def connection_limit_action() -> str:
    """``WS_CONNECTION_LIMIT_ACTION``: ``"refuse"`` (the default) or ``"close_oldest"``."""
    value = _setting("WS_CONNECTION_LIMIT_ACTION", "refuse")
    if value not in ("refuse", "close_oldest"):
        raise ImproperlyConfigured(
            f'WS_CONNECTION_LIMIT_ACTION must be "refuse" or "close_oldest", not {value!r}.'
        )
    return str(value)


@_kept
def channel_layer() -> str:
    """``WS_CHANNEL_LAYER``: an alias in ``CHANNEL_LAYERS``. Default: ``"default"``."""
    return str(_setting("WS_CHANNEL_LAYER", "default"))


@_kept
def max_message_size() -> int:
    """``WS_MAX_MESSAGE_SIZE``: bytes that an incoming message may have. Default: 1 MiB."""
    return _positive("WS_MAX_MESSAGE_SIZE", 1024 * 1024)


@_kept
def max_send_buffer() -> int:
    """``WS_MAX_SEND_BUFFER``: bytes that may wait for a slow client. Default: 1 MiB."""
    return _positive("WS_MAX_SEND_BUFFER", 1024 * 1024)


@_kept
def send_timeout() -> float:
    """``WS_SEND_TIMEOUT``: seconds in which a client has to take some of it. Default: 30."""
    return _positive("WS_SEND_TIMEOUT", 30.0)


def layer_aliases() -> Container[str]:
    """The aliases in ``CHANNEL_LAYERS``."""
    aliases: Container[str] = _setting("CHANNEL_LAYERS", ())
    return aliases


def _positive(name: str, default: _Number) -> _Number:
    value = _setting(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ImproperlyConfigured(f"{name} must be a number above 0, not {value!r}.")
    return type(default)(value)


def _count(name: str) -> int | None:
    value = _setting(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ImproperlyConfigured(f"{name} must be an int above 0, or None, not {value!r}.")
    return value


@_kept
def _setting(name: str, default: Any) -> Any:
    # Django keeps only what is set: asking for the rest costs an exception, at every handshake.
    return getattr(settings, name, default)


def _forget(**_kwargs: Any) -> None:
    for reader in _readers:
        reader.cache_clear()


setting_changed.connect(_forget, dispatch_uid="panther_channels.conf")


def _imported(setting: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ImproperlyConfigured(f"{setting}: can't import {value!r}: {error}") from error
