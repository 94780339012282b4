"""System checks: what is wrong with the settings, before the first connection meets it."""

from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import channel_layers
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from panther_channels import conf
from panther_channels.routing import build_url_patterns


def check_urls(**_kwargs: Any) -> list[CheckMessage]:
    """E001: ``WS_URLS`` can't be read, or something is wrong with one of the URLs."""
    try:
        if (urls := conf.urls()) is not None:
            build_url_patterns(urls)
    except ImproperlyConfigured as error:
        hint = "WS_URLS is the dict of WebSocket URLs, or its dotted path."
        return [Error(str(error), hint=hint, id="panther_channels.E001")]
    return []


def check_channel_layer(**_kwargs: Any) -> list[CheckMessage]:
    """E004: ``WS_CHANNEL_LAYER`` names a layer that ``CHANNEL_LAYERS`` doesn't have."""
    alias = conf.channel_layer()
    if alias == DEFAULT_CHANNEL_LAYER or alias in channel_layers.configs:
        return []
    hint = "Without a layer, connections can't be reached from outside."
    text = f"WS_CHANNEL_LAYER is {alias!r}, which is not in CHANNEL_LAYERS."
    return [Error(text, hint=hint, id="panther_channels.E004")]


def check_middlewares(**_kwargs: Any) -> list[CheckMessage]:
    """E002: ``WS_MIDDLEWARES`` can't be read."""
    try:
        conf.middlewares()
    except ImproperlyConfigured as error:
        hint = "WS_MIDDLEWARES is a list of middleware classes, or of their dotted paths."
        return [Error(str(error), hint=hint, id="panther_channels.E002")]
    return []


def check_authentication(**_kwargs: Any) -> list[CheckMessage]:
    """E003: ``WS_AUTHENTICATION`` can't be read."""
    try:
        authentication = conf.authentication()
    except ImproperlyConfigured as error:
        problem = str(error)
    else:
        if authentication is None or callable(authentication):
            return []
        problem = f"WS_AUTHENTICATION: {authentication!r} can't be called."
    hint = "WS_AUTHENTICATION is an async callable or a class of one, or its dotted path."
    return [Error(problem, hint=hint, id="panther_channels.E003")]
