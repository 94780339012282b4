"""The outside functions for synchronous code: views, signal handlers, tasks, shells.

Each is a facade over its async twin in :mod:`panther_channels.websocket`. They share one event
loop per process, which runs in a thread of its own, so that a channel layer keeps its connections
from one call to the next. What one thread sends arrives in the order of its calls.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction

from panther_channels import status
from panther_channels._background import Background
from panther_channels.connections import (
    channel_layer,
    check_close,
    check_size,
    close_event,
    connection_group,
    hand_over,
    message_event,
    required_user_group,
)
from panther_channels.layers.backplane import backplane

__all__ = ["close_user_websockets", "close_websocket_connection", "send_message_to_websocket"]

_background = Background()


def send_message_to_websocket(
    connection_id: str, data: Any, *, on_commit: bool = False, using: str | None = None
) -> None:
    """Send a message to an open connection, from any process that shares its channel layer.

    The data is encoded now, also with ``on_commit``: what is changed afterwards isn't sent.

    Args:
        connection_id: the ``connection_id`` of the connection; one of nobody does nothing.
        data: the message: a ``str`` arrives as a text frame, ``bytes`` as a binary frame,
            everything else as JSON.
        on_commit: send when the transaction around this call commits, and not at all if it rolls
            back; at once where there is no transaction.
        using: the alias of the database with that transaction; ``None`` is the default one.

    Raises:
        TypeError: the data can't be encoded as JSON.
        UnicodeEncodeError: the text holds a lone surrogate.
        ValueError: the message is too large for the channel layer: over 1 MiB for Redis, over
            16 MiB else. ``bytes`` are a third larger there.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread.
        ChannelLayerError: the channel layer failed, or gave no answer within five seconds. With
            ``on_commit``, this comes out of the end of the transaction.
    """
    _refuse_event_loop("send_message_to_websocket")
    event = message_event(data)
    _post(connection_group(connection_id), event, on_commit=on_commit, using=using)


def close_websocket_connection(
    connection_id: str,
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    on_commit: bool = False,
    using: str | None = None,
) -> None:
    """Close an open connection, from any process that shares its channel layer.

    Args:
        connection_id: the ``connection_id`` of the connection; one of nobody does nothing.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Raises:
        ValueError: the code can't be sent, or the reason is too long.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread.
        ChannelLayerError: the channel layer failed, or gave no answer within five seconds.
    """
    _refuse_event_loop("close_websocket_connection")
    check_close(code, reason)
    event = close_event(code, reason)
    _post(connection_group(connection_id), event, on_commit=on_commit, using=using)


def close_user_websockets(
    user: Any,
    code: int = status.WS_1008_POLICY_VIOLATION,
    reason: str = "",
    *,
    on_commit: bool = False,
    using: str | None = None,
) -> None:
    """Close all open connections of a user, in every process that shares the channel layer.

    Args:
        user: the user, an instance of a model. With ``on_commit`` it may be deleted meanwhile.
        code: the close code, 1008 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Raises:
        ValueError: the code can't be sent, the reason is too long, or the user was never saved.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread.
        ChannelLayerError: the channel layer failed, or gave no answer within five seconds.
    """
    _refuse_event_loop("close_user_websockets")
    check_close(code, reason)
    event = close_event(code, reason)
    _post(required_user_group(user), event, on_commit=on_commit, using=using)


def deliver(group: str, event: dict[str, Any]) -> None:
    """Hand an event to a group of the channel layer, and wait until the layer has it."""
    layer = channel_layer()
    if backplane(layer).is_in_memory:
        # It belongs to the server's event loop, and this finds the way back to that one.
        async_to_sync(layer.group_send)(group, event)
    else:
        waiting_for = f"Sending by {type(layer).__name__}"
        _background.run(hand_over(layer, group, event), waiting_for)


def deliver_soon(
    group: str, event: dict[str, Any], failed: Callable[[BaseException], None]
) -> None:
    """The same without waiting; ``failed`` is called, in any thread, where the layer fails."""
    layer = channel_layer()
    if backplane(layer).is_in_memory:
        deliver(group, event)  # never waits for anybody
    else:
        _background.post(hand_over(layer, group, event), failed)


def _post(group: str | None, event: dict[str, Any], *, on_commit: bool, using: str | None) -> None:
    # A missing one, or too large a message, is a mistake of this call, not of the commit.
    check_size(channel_layer(), event)
    if group is None:
        return
    if on_commit:
        transaction.on_commit(functools.partial(deliver, group, event), using=using)
    else:
        deliver(group, event)


def _refuse_event_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SynchronousOnlyOperation(
        f"panther_channels.sync.{name}() would block the event loop that runs in this thread: "
        f"use `await panther_channels.websocket.{name}(...)` here."
    )
