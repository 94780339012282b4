"""The Django application."""

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from panther_channels import conf
from panther_channels._handshake.questions import declared_by, questions
from panther_channels._hub.addresses import is_user, user_group
from panther_channels._hub.delivery import close_event, find_channel_layer
from panther_channels._process import logs
from panther_channels._socket.closing import USER_DEACTIVATED, USER_DELETED, Ending
from panther_channels.authentications import BaseAuthentication, QueryParamJWTAuthentication
from panther_channels.checks import CHECKS
from panther_channels.sync import deliver_soon

logger = logging.getLogger("panther_channels")


class PantherChannelsConfig(AppConfig):
    """Registers the checks, guards the logs, and mends daphne and uvicorn where they run."""

    name = "panther_channels"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        """Called by Django when the settings are there."""
        for check in CHECKS:
            checks.register(check, checks.Tags.urls)
        logs.install(logs.Secrets(_token_parameters, _credential_headers, _take_fresh_tokens))
        # Of all models: what is saved as a proxy of the user model is a user, too.
        post_save.connect(_saved, dispatch_uid="panther_channels")
        post_delete.connect(_deleted, dispatch_uid="panther_channels")
        if "daphne.server" in sys.modules:
            from panther_channels.servers import daphne

            daphne.install()
        if "uvicorn" in sys.modules:
            with suppress(ImportError):  # websockets is missing, or uvicorn is an older one
                from panther_channels.servers import uvicorn

                uvicorn.install()


def _token_parameters() -> set[str]:
    """The names of all query parameters that carry tokens."""
    return {kind.parameter for kind in _kinds(QueryParamJWTAuthentication)}


def _credential_headers() -> set[str]:
    """The names of all headers that carry credentials, beside those that always do."""
    simplejwt = getattr(settings, "SIMPLE_JWT", None) or {}
    names = {simplejwt.get("AUTH_HEADER_NAME", "").removeprefix("HTTP_")}
    for authentication in (*_kinds(BaseAuthentication), *_authentications()):
        headers = getattr(authentication, "credential_headers", ())
        names.update([headers] if isinstance(headers, str) else headers)
    return names


def _take_fresh_tokens() -> bool:
    """Whether an authentication takes tokens out of messages, by ``refresh_token()``."""
    return any(
        # Of a property, it isn't known what it gives.
        hasattr(authentication, "refresh") or isinstance(authentication, property | classmethod)
        for authentication in _authentications()
    )


def _authentications() -> Iterator[Any]:
    """What is set for WebSockets, of whatever kind it is."""
    with suppress(ImproperlyConfigured):
        yield from questions(conf.authentication())
    if "panther_channels.websocket" in sys.modules:  # else there are none
        from panther_channels.websocket import Websocket

        for kind in _kinds(Websocket):
            yield from questions(declared_by(kind, "auth"))


def _kinds(base: Any) -> Iterator[Any]:
    """A class and all that are derived from it."""
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def _saved(*, instance: Any, created: bool, using: str, **_kwargs: Any) -> None:
    if created or not is_user(instance):  # whoever is new has no connections
        return
    try:
        if getattr(instance, "is_active", True) is False:
            _close_after_commit(instance, USER_DEACTIVATED, using)
    except Exception:
        logger.exception("Whether %s is active can't be told", type(instance).__qualname__)


def _deleted(*, instance: Any, using: str, **_kwargs: Any) -> None:
    if is_user(instance):
        _close_after_commit(instance, USER_DELETED, using)


def _close_after_commit(user: Any, ending: Ending, using: str) -> None:
    group = user_group(user)  # now: after the commit, a deleted user has no primary key
    if group is None:
        return

    def close() -> None:
        try:
            if find_channel_layer() is not None:
                event = close_event(ending.code, ending.reason)
                deliver_soon(group, event, _log_failure)
        except Exception as error:  # noqa: BLE001 - the request that has saved the user goes on
            _log_failure(error)

    transaction.on_commit(close, using=using)


def _log_failure(error: BaseException) -> None:
    what = str(error) or type(error).__name__
    logger.error("The connections of a user who may no longer be here are not closed: %s", what)
