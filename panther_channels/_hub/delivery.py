"""How what is sent or closed from outside gets to the channel layer."""

import math
import threading
from typing import Any

from channels.layers import channel_layers, get_channel_layer
from django.core.exceptions import ImproperlyConfigured

from panther_channels import conf
from panther_channels._process.outage import TO_SEND, limited
from panther_channels._socket.encoding import size_of, to_event
from panther_channels.layers.backplane import backplane

#: The one type of event that this package sends to connections.
EVENT_TYPE = "panther_channels.connection"

_creating = threading.Lock()  # a channel layer


def message_event(data: Any) -> dict[str, Any]:
    """The event that sends to a connection.

    Raises:
        TypeError: the data can't be encoded as JSON.
        UnicodeEncodeError: the text holds a lone surrogate.
    """
    return {"type": EVENT_TYPE, **to_event(data)}


def close_event(code: int, reason: str) -> dict[str, Any]:
    """The event that closes a connection."""
    return {"type": EVENT_TYPE, "code": code, "close": reason}


def recheck_event(session: str = "") -> dict[str, Any]:
    """The event by which a connection asks again who is there, and whether they may stay.

    Args:
        session: the digest of a session that has ended, if that is why.
    """
    return {"type": EVENT_TYPE, "recheck": session}


def check_size(layer: Any, event: dict[str, Any]) -> None:
    """Refuse what a channel layer can't carry without harm to others.

    Raises:
        ValueError: it is larger than 1 MiB over Redis; the local layer takes 16 MiB.
    """
    data = event.get("text") or event.get("json") or event.get("base64") or ""
    limit = backplane(layer).largest_message
    if len(data) <= limit // 4:  # characters, of which each has four bytes at most
        return
    if (size := size_of(data)) > limit:
        raise ValueError(
            f"A message of {size:,} bytes is too large for {type(layer).__name__}, by which it "
            f"would have {limit:,} at most: send a reference to it."
        )


async def hand_over(layer: Any, group: str, event: dict[str, Any]) -> None:
    """Send an event to a group, in bounded time.

    Raises:
        ChannelLayerError: the layer failed, or gave no answer within five seconds.
    """
    found = backplane(layer)
    await limited(found.group_send(group, event), TO_SEND, found.longest_wait)


async def hand_over_many(layer: Any, messages: list[tuple[str, dict[str, Any]]]) -> None:
    """Send events to groups without waiting for the layer after each, where it allows that.

    Raises:
        ChannelLayerError: as in :func:`hand_over`; the events before were handed over.
    """
    await limited(backplane(layer).group_send_many(messages), math.inf)


def find_channel_layer() -> Any:
    """The channel layer that reaches the connections, or ``None`` where none is configured."""
    alias = conf.channel_layer()
    if alias in channel_layers.backends:
        return channel_layers.backends[alias]
    if alias not in conf.layer_aliases():
        return None
    # Of two threads that come first, Channels gives each a layer of its own, and the next message
    # of one of them goes through the other's: by another connection, on which it may be faster.
    with _creating:
        return get_channel_layer(alias)


def channel_layer() -> Any:
    """The channel layer that reaches the connections.

    Raises:
        ImproperlyConfigured: there is none.
    """
    layer = find_channel_layer()
    if layer is None:
        alias = conf.channel_layer()
        raise ImproperlyConfigured(
            f"Connections can't be reached from outside without a channel layer: set "
            f'CHANNEL_LAYERS["{alias}"], for example to '
            '{"BACKEND": "panther_channels.layers.LocalChannelLayer"}.'
        )
    return layer
