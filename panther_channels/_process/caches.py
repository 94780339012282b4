"""What is opened through Django's ``caches``, closed at the end of what has opened it.

Django has the cache's objects for each context, which is a request over HTTP. A WebSocket has a
context, too, and so has each task: an object of its own with a connection of its own to Redis or
memcached, which nobody would close.
"""

import logging
from functools import cache
from typing import Any

from django.core.cache import BaseCache, caches
from django.core.signals import setting_changed

logger = logging.getLogger("panther_channels")

# For which a handshake should not pay.
_WITHOUT_CONNECTIONS = {
    "django.core.cache.backends.db.DatabaseCache",
    "django.core.cache.backends.dummy.DummyCache",
    "django.core.cache.backends.filebased.FileBasedCache",
    "django.core.cache.backends.locmem.LocMemCache",
}

Opened = tuple[tuple[str, BaseCache], ...]


def opened() -> Opened:
    """Those that this context has, by their aliases."""
    if not (aliases := _aliases()):
        return ()
    found = vars(caches)["_connections"]  # all(initialized_only=True) gives no aliases
    return tuple((alias, caches[alias]) for alias in aliases if hasattr(found, alias))


def close_all_but(kept: Opened) -> None:
    """Close what this context has opened since it had ``kept``."""
    for alias, each in opened():
        if (alias, each) not in kept:
            del caches[alias]  # the next use is of a new one, which is closed in its turn
            try:
                _close(each)
            except Exception:
                logger.exception("The cache %r could not be closed", alias)


@cache
def _aliases() -> tuple[str, ...]:
    """The caches that have connections."""
    backends = ((alias, each["BACKEND"]) for alias, each in caches.settings.items())
    return tuple(alias for alias, backend in backends if backend not in _WITHOUT_CONNECTIONS)


def _forget(*, setting: str, **_others: Any) -> None:
    if setting == "CACHES":
        _aliases.cache_clear()


setting_changed.connect(_forget)


def _close(opened: Any) -> None:
    opened.close()
    # Django's own for Redis, whose close() does nothing.
    client = vars(opened).get("_cache")
    for pool in getattr(client, "_pools", {}).values():
        pool.disconnect()
