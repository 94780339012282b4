"""Connections on the channel layer: how they are reached from outside."""

import re
import threading
from hashlib import sha256
from secrets import token_hex
from typing import Any, TypeGuard

from asgiref.sync import sync_to_async
from channels.layers import channel_layers, get_channel_layer
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import LazyObject

from panther_channels import conf, status
from panther_channels._encoding import size_of, to_event
from panther_channels._outage import TO_SEND, limited
from panther_channels.layers.backplane import backplane

#: The one type of event that this package sends to connections.
EVENT_TYPE = "panther_channels.connection"

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_creating = threading.Lock()  # a channel layer
_MAX_REASON = 123  # bytes: a control frame holds 125, the code takes two (RFC 6455 section 5.5)


def new_connection_id(layer: Any) -> str:
    """An id that says where its connection is: its first eight digits name the event loop.

    Args:
        layer: the channel layer; ``None`` where there is none.

    Raises:
        ChannelLayerError: the layer is in trouble.
    """
    return backplane(layer).node() + token_hex(12)


def group_name(connection_id: str) -> str:
    """The group of one connection on the channel layer."""
    return f"connection.{connection_id}"


def connection_group(connection_id: object) -> str | None:
    """The group of whom an outside caller means; ``None`` where that can't be anybody."""
    return group_name(connection_id) if is_connection_id(connection_id) else None


def is_user(instance: Any) -> bool:
    """Whether a model's instance is a user of this project."""
    try:
        return isinstance(instance, apps.get_model(settings.AUTH_USER_MODEL))
    except LookupError:  # there is no django.contrib.auth
        return False


def user_group(user: Any) -> str | None:
    """The group of all connections of a user; ``None`` of nobody."""
    key = getattr(user, "pk", None)
    if key is None:
        return None
    model = getattr(user, "_meta", None)  # not type(user): request.user is a lazy object
    # What derives from the user model is that user; what has no model is simplejwt's TokenUser.
    label = settings.AUTH_USER_MODEL
    if model is not None and not is_user(user):
        label = model.concrete_model._meta.label
    # Hashed, since a primary key may hold what a group's name may not.
    return f"user.{sha256(f'{label.lower()}:{key}'.encode()).hexdigest()[:32]}"


def required_user_group(user: Any) -> str:
    """The group of all connections of a user.

    Raises:
        ValueError: the user was never saved, or is none.
    """
    group = user_group(user)
    if group is None:
        raise ValueError(f"{user!r} is no user with a primary key.")
    return group


def is_connection_id(value: object) -> TypeGuard[str]:
    """Whether a value has the form of a ``connection_id``: 32 lower-case hexadecimal digits."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_close(code: int, reason: str) -> None:
    """Refuse what can't stand in a close frame.

    Raises:
        ValueError: the code may not be sent (RFC 6455 section 7.4), or the reason is longer than
            123 bytes of UTF-8.
        TypeError: the code is no ``int``, or the reason no ``str``.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"A close code is an int, not {code!r}.")
    if not isinstance(reason, str):
        raise TypeError(f"A close reason is a str, not {reason!r}.")
    if not status.is_sendable(code):
        raise ValueError(
            f"{code} can't be sent as a close code: use 1000 to 1003, 1007 to 1014, or 3000 to "
            "4999, of which 4000 to 4999 are yours to choose."
        )
    if (size := len(reason.encode())) > _MAX_REASON:
        raise ValueError(f"A close reason has {_MAX_REASON} bytes of UTF-8 at most, not {size}.")


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


async def send_message_to_websocket(connection_id: str, data: Any) -> None:
    """Send a message to an open connection, from any process that shares its channel layer.

    It passes through the connection's ``send()``: a ``str`` arrives as a text frame, ``bytes`` as
    a binary frame, everything else as JSON. An id that is unknown, malformed or of a connection
    that has closed does nothing. Messages of one sender arrive in the order of their sending.

    Args:
        connection_id: the ``connection_id`` of the connection.
        data: the message.

    Raises:
        TypeError: the data can't be encoded as JSON.
        UnicodeEncodeError: the text holds a lone surrogate.
        ValueError: the message is too large for the channel layer: over 1 MiB for Redis, over
            16 MiB else. ``bytes`` are a third larger there.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
    """
    await _post(connection_id, message_event(data))


async def close_websocket_connection(
    connection_id: str, code: int = status.WS_1000_NORMAL_CLOSURE, reason: str = ""
) -> None:
    """Close an open connection, from any process that shares its channel layer.

    It passes through the connection's ``close()``. An id that is unknown, malformed or of a
    connection that has closed does nothing.

    Args:
        connection_id: the ``connection_id`` of the connection.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.

    Raises:
        ValueError: the code can't be sent, or the reason is too long.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
    """
    check_close(code, reason)
    await _post(connection_id, close_event(code, reason))


async def close_user_websockets(
    user: Any, code: int = status.WS_1008_POLICY_VIOLATION, reason: str = ""
) -> None:
    """Close all open connections of a user, in every process that shares the channel layer.

    Args:
        user: the user, an instance of a model.
        code: the close code, 1008 by default.
        reason: at most 123 bytes of UTF-8, empty by default.

    Raises:
        ValueError: the code can't be sent, the reason is too long, or the user was never saved.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
    """
    check_close(code, reason)
    # The request.user of a view may have to be fetched yet, which no event loop may do.
    if isinstance(user, LazyObject):
        group = await sync_to_async(required_user_group)(user)
    else:
        group = required_user_group(user)
    await hand_over(channel_layer(), group, close_event(code, reason))


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


async def _post(connection_id: str, event: dict[str, Any]) -> None:
    layer = channel_layer()
    check_size(layer, event)
    if (group := connection_group(connection_id)) is None:
        return
    await hand_over(layer, group, event)


async def hand_over(layer: Any, group: str, event: dict[str, Any]) -> None:
    """Send an event to a group, in bounded time.

    Raises:
        ChannelLayerError: the layer failed, or gave no answer within five seconds.
    """
    found = backplane(layer)
    await limited(found.group_send(group, event), TO_SEND, found.longest_wait)


def find_channel_layer() -> Any:
    """The channel layer that reaches the connections, or ``None`` where none is configured."""
    alias = conf.channel_layer()
    if alias in channel_layers.backends:
        return channel_layers.backends[alias]
    if alias not in channel_layers.configs:
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
