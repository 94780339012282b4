"""System checks of the channel layer: what is wrong with it, and what it costs."""

from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import InMemoryChannelLayer, channel_layers
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from panther_channels import conf
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.plain_redis import hasty_hosts, kind_of

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


def check_local_layer(**_kwargs: Any) -> list[CheckMessage]:
    """E011: the local layer can't have its directory."""
    if issubclass(_layer_class(), LocalChannelLayer):
        try:
            channel_layers.make_backend(conf.channel_layer())
        except ImproperlyConfigured as error:
            hint = "It is a short path, in a directory to which the user of the server may write."
            return [Error(str(error), hint=hint, id="panther_channels.E011")]
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


LAYER_CHECKS = (check_channel_layer, check_memory_layer, check_local_layer, check_redis_layer)


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
