"""How connections are reached from anywhere: functions to send to them and to close them."""

from typing import Any

from asgiref.sync import sync_to_async
from django.utils.functional import LazyObject

from panther_channels import status
from panther_channels._hub.addresses import connection_group, required_user_group
from panther_channels._hub.delivery import (
    channel_layer,
    check_size,
    close_event,
    hand_over,
    message_event,
)
from panther_channels._socket.closing import check_close


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


async def _post(connection_id: str, event: dict[str, Any]) -> None:
    layer = channel_layer()
    check_size(layer, event)
    if (group := connection_group(connection_id)) is None:
        return
    await hand_over(layer, group, event)
