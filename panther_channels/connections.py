"""How connections are reached from anywhere: one, those of a user or of a group, or all.

Each function works in every process that shares the channel layer with the connections.
"""

from collections.abc import Iterable
from typing import Any

from panther_channels import status
from panther_channels._hub.addresses import layer_group
from panther_channels._hub.delivery import channel_layer, close_event, message_event, recheck_event
from panther_channels._hub.listing import (
    ConnectionInfo,
    Count,
    Found,
    OnlineUser,
    PresentUser,
    question,
)
from panther_channels._hub.outside import (
    check_within,
    count_all,
    deliver,
    deliver_many,
    events_of,
    exists,
    get_one,
    group_of_user,
    groups_of,
    list_all,
    list_users,
    outgoing,
    to_connection,
)
from panther_channels._socket.closing import check_close
from panther_channels.layers.backplane import EVERYBODY

__all__ = [
    "ConnectionInfo",
    "Count",
    "Found",
    "OnlineUser",
    "PresentUser",
    "close_all_websockets",
    "close_group_websockets",
    "close_user_websockets",
    "close_websocket_connection",
    "count_connections",
    "get_connection",
    "list_connections",
    "online_users",
    "recheck_user_websockets",
    "send_message_to_all",
    "send_message_to_group",
    "send_message_to_user",
    "send_message_to_websocket",
    "send_messages",
    "websocket_exists",
]


async def send_message_to_websocket(
    connection_id: str, data: Any, *, confirm_within: float | None = None
) -> None:
    """Send a message to an open connection, from any process that shares its channel layer.

    It passes through the connection's ``send()``: a ``str`` arrives as a text frame, ``bytes`` as
    a binary frame, everything else as JSON. An id that is unknown, malformed or of a connection
    that has closed does nothing. Messages of one sender arrive in the order of their sending.

    Args:
        connection_id: the ``connection_id`` of the connection.
        data: the message.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Raises:
        TypeError: the data can't be encoded as JSON.
        UnicodeEncodeError: the text holds a lone surrogate.
        ValueError: the message is too large for the channel layer: over 1 MiB for Redis, over
            16 MiB else. ``bytes`` are a third larger there.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
        ConnectionNotFoundError: nobody has it, with ``confirm_within``.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    await deliver(layer, to_connection(layer, connection_id, event), confirm_within)


async def send_messages(
    messages: Iterable[tuple[str, Any]], *, confirm_within: float | None = None
) -> int | None:
    """Send many messages, each to a connection of its own, without waiting after each.

    Over Redis, that takes a small part of the time of as many calls of
    :func:`send_message_to_websocket`. Where one can't be encoded or is too large, none is sent.

    Args:
        messages: pairs of a ``connection_id`` and the message.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        TypeError, UnicodeEncodeError, ValueError, ImproperlyConfigured: as in
            :func:`send_message_to_websocket`.
        ChannelLayerError: it failed, or gave no answer within five seconds; some may have arrived.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    events = events_of(messages)
    layer = channel_layer()
    many = [to_connection(layer, *each) for each in events]
    return await deliver_many(layer, many, confirm_within)


async def send_message_to_user(
    user: Any, data: Any, *, exclude: Any = None, confirm_within: float | None = None
) -> int | None:
    """Send a message to all connections of a user: all tabs, all devices.

    Args:
        user: the user, or its primary key; a username is none.
        data: the message, as in :func:`send_message_to_websocket`.
        exclude: ids of connections that don't get it, or one; in a handler, ``self``.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError: the user was never saved, or is anonymous; or the message is too large.
        TypeError, UnicodeEncodeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    return await deliver(
        layer, outgoing(layer, await group_of_user(user), event, exclude), confirm_within
    )


async def send_message_to_group(
    group: str, data: Any, *, exclude: Any = None, confirm_within: float | None = None
) -> int | None:
    """Send a message to all connections in a group.

    Args:
        group: any text; what ``join()`` or the class's ``groups`` was given.
        data: the message, as in :func:`send_message_to_websocket`.
        exclude: ids of connections that don't get it, or one; in a handler, ``self``.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        TypeError: the group is no ``str``, or the data can't be encoded as JSON.
        UnicodeEncodeError, ValueError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    return await deliver(layer, outgoing(layer, layer_group(group), event, exclude), confirm_within)


async def send_message_to_all(
    data: Any, *, exclude: Any = None, confirm_within: float | None = None
) -> int | None:
    """Send a message to all connections of the project.

    Args:
        data: the message, as in :func:`send_message_to_websocket`.
        exclude: ids of connections that don't get it, or one; in a handler, ``self``.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        TypeError, UnicodeEncodeError, ValueError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    return await deliver(layer, outgoing(layer, EVERYBODY, event, exclude), confirm_within)


async def close_websocket_connection(
    connection_id: str,
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    confirm_within: float | None = None,
) -> None:
    """Close an open connection, from any process that shares its channel layer.

    It passes through the connection's ``close()``. An id that is unknown, malformed or of a
    connection that has closed does nothing.

    Args:
        connection_id: the ``connection_id`` of the connection.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Raises:
        ValueError: the code can't be sent, or the reason is too long.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
        ConnectionNotFoundError: nobody has it, with ``confirm_within``.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    check_close(code, reason)
    layer = channel_layer()
    await deliver(
        layer, to_connection(layer, connection_id, close_event(code, reason)), confirm_within
    )


async def close_user_websockets(
    user: Any,
    code: int = status.WS_1008_POLICY_VIOLATION,
    reason: str = "",
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
) -> int | None:
    """Close all open connections of a user, in every process that shares the channel layer.

    Args:
        user: the user, or its primary key.
        code: the close code, 1008 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        exclude: ids of connections that stay open, or one; in a handler, ``self``.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError: the code can't be sent, the reason is too long, or the user was never saved.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    check_close(code, reason)
    group = await group_of_user(user)
    layer = channel_layer()
    return await deliver(
        layer, outgoing(layer, group, close_event(code, reason), exclude), confirm_within
    )


async def recheck_user_websockets(user: Any) -> None:
    """Have all open connections of a user ask again who is there, and whether they may stay.

    In every process that shares the channel layer. The authentication that found the user is
    asked whether it still would, then the permissions; who fails is closed with 1008. That
    happens by itself at a logout, and when a user, its groups or permissions are saved; so this is
    for ``QuerySet.update()``, and for what only the project knows of.

    Returns once the layer has it. Each connection asks at most once a second, however often it
    is wanted, and keeps what comes meanwhile.

    Args:
        user: the user, or its primary key.

    Raises:
        ValueError: the user was never saved.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed, or gave no answer within five seconds.
    """
    layer = channel_layer()
    await deliver(layer, outgoing(layer, await group_of_user(user), recheck_event()), None)


async def close_group_websockets(
    group: str,
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
) -> int | None:
    """Close all open connections in a group, in every process that shares the channel layer.

    Args:
        group: any text; what ``join()`` or the class's ``groups`` was given.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        exclude: ids of connections that stay open, or one; in a handler, ``self``.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError, TypeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`close_websocket_connection`.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    check_close(code, reason)
    layer = channel_layer()
    event = close_event(code, reason)
    return await deliver(layer, outgoing(layer, layer_group(group), event, exclude), confirm_within)


async def close_all_websockets(
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
) -> int | None:
    """Close all open connections of the project.

    Args:
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        exclude: ids of connections that stay open, or one; in a handler, ``self``.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError, TypeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`close_websocket_connection`.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    check_within(confirm_within)
    check_close(code, reason)
    layer = channel_layer()
    return await deliver(
        layer, outgoing(layer, EVERYBODY, close_event(code, reason), exclude), confirm_within
    )


async def websocket_exists(connection_id: str, *, within: float = 1.0) -> bool:
    """Whether a connection is open, in whatever process. It may have gone a moment later.

    Args:
        connection_id: the ``connection_id`` of the connection.
        within: seconds to wait for the process that has it.

    Raises:
        DeliveryTimeoutError: that process gave no answer in time.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it failed.
    """
    check_within(within)
    return await exists(channel_layer(), connection_id, within)


async def list_connections(
    *,
    user: Any = None,
    group: str | None = None,
    path: str | None = None,
    within: float = 1.0,
) -> Found[ConnectionInfo]:
    """The open connections of the project, or some of them, in all processes.

    Nothing of it is stored: each process tells of those that it has at that moment.

    Args:
        user: only those of this user, or of the user with this primary key; a username is none.
        group: only those in this group.
        path: only those at this path, in which ``*`` stands for anything. It may lack its first
            slash, as in ``WS_URLS``.
        within: seconds to wait for the other processes.

    Returns:
        A list, in no order. Its ``missing`` names the processes that gave no answer in time.

    Raises:
        ValueError: the user was never saved, or is anonymous; or ``within`` isn't above zero.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it is in trouble.
    """
    check_within(within)
    wanted = await _wanted("connections", user, group, path)
    return await list_all(channel_layer(), wanted, within)


async def count_connections(
    *,
    user: Any = None,
    group: str | None = None,
    path: str | None = None,
    within: float = 1.0,
) -> Count:
    """How many open connections there are, in all processes.

    Args:
        user: as in :func:`list_connections`.
        group: as in :func:`list_connections`.
        path: as in :func:`list_connections`.
        within: seconds to wait for the other processes.

    Returns:
        A number, whose ``missing`` names the processes that gave no answer in time.

    Raises:
        ValueError, ImproperlyConfigured, ChannelLayerError: as in :func:`list_connections`.
    """
    check_within(within)
    wanted = await _wanted("count", user, group, path)
    return await count_all(channel_layer(), wanted, within)


async def get_connection(connection_id: str, *, within: float = 1.0) -> ConnectionInfo:
    """What is known of an open connection.

    Args:
        connection_id: the ``connection_id`` of the connection.
        within: seconds to wait for the process that has it.

    Raises:
        ConnectionNotFoundError: nobody has it.
        DeliveryTimeoutError: its process gave no answer in time.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: it is in trouble.
    """
    check_within(within)
    return await get_one(channel_layer(), connection_id, within)


async def online_users(group: str | None = None, *, within: float = 1.0) -> Found[OnlineUser]:
    """The users with open connections, each once, with how many there are.

    Args:
        group: only those with connections in this group, of which alone those are counted.
        within: seconds to wait for the other processes.

    Returns:
        A list, in no order. Its ``missing`` names the processes that gave no answer in time.

    Raises:
        ValueError, ImproperlyConfigured, ChannelLayerError: as in :func:`list_connections`.
    """
    check_within(within)
    wanted = question("users", groups_of(None, group))
    return await list_users(channel_layer(), wanted, within)


async def _wanted(what: str, user: Any, group: str | None, path: str | None) -> dict[str, Any]:
    user_of = None if user is None else await group_of_user(user)
    return question(what, groups_of(user_of, group), path)
