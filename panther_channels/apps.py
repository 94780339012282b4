"""The Django application."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import pre_migrate

from panther_channels import conf
from panther_channels._handshake.questions import declared_by, questions
from panther_channels._hub.survey import survey
from panther_channels._process import logs
from panther_channels.authentications import BaseAuthentication, QueryParamJWTAuthentication
from panther_channels.checks import CHECKS
from panther_channels.layers.local import LocalChannelLayer, test_run


class PantherChannelsConfig(AppConfig):
    """Registers the checks, guards the logs, and mends daphne and uvicorn where they run."""

    name = "panther_channels"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        """Called by Django when the settings are there."""
        for check in CHECKS:
            checks.register(check, checks.Tags.urls)
        test_run.begin()
        pre_migrate.connect(test_run.begin, dispatch_uid="panther_channels")
        logs.install(logs.Secrets(_token_parameters, _credential_headers, _take_fresh_tokens))
        from panther_channels import _signals  # imports a model, which only now it may

        _signals.connect()
        LocalChannelLayer.on_listening = _attend
        if "daphne.server" in sys.modules:
            from panther_channels.servers import daphne

            daphne.install()
        if "uvicorn" in sys.modules:
            with suppress(ImportError):  # websockets is missing, or uvicorn is an older one
                from panther_channels.servers import uvicorn

                uvicorn.install()


def _attend(layer: LocalChannelLayer) -> None:
    """Answer who asks all event loops, also where there are only consumers of Channels."""
    survey(layer).attend_soon()


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
