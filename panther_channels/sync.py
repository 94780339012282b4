"""The outside functions for synchronous code: views, signal handlers, tasks, shells.

Each is a facade over its async twin in :mod:`panther_channels.websocket`. They share one event
loop per process, which runs in a thread of its own, so that a channel layer keeps its connections
from one call to the next. What one thread sends arrives in the order of its calls.
"""

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction

from panther_channels import status
from panther_channels._hub.addresses import layer_group, required_user_group
from panther_channels._hub.delivery import (
    channel_layer,
    close_event,
    hand_over,
    message_event,
    recheck_event,
)
from panther_channels._hub.listing import ConnectionInfo, Count, Found, OnlineUser, question
from panther_channels._hub.outside import (
    Outgoing,
    check_within,
    count_all,
    deliver,
    deliver_many,
    events_of,
    exists,
    get_one,
    groups_of,
    list_all,
    list_users,
    outgoing,
    to_connection,
)
from panther_channels._hub.survey import survey
from panther_channels._process.background import Background, is_green
from panther_channels._socket.closing import check_close
from panther_channels._socket.tasks import Tasks
from panther_channels.layers.backplane import EVERYBODY, backplane

__all__ = [
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

T = TypeVar("T")

_GATHERING = 0.1  # seconds

logger = logging.getLogger("panther_channels")


async def _say_goodbye() -> None:
    """Others that ask at this moment would wait for an answer of this process, and miss it."""
    for each in survey.all():
        await each.close()


_background = Background(_say_goodbye)
_soon: set[Any] = set()  # what waits to be handed over


def _not_delivered(error: BaseException) -> None:
    logger.error("A message to a WebSocket could not be sent", exc_info=error)


_in_this_loop = Tasks(_not_delivered)


def send_message_to_websocket(
    connection_id: str,
    data: Any,
    *,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> None:
    """Send a message to an open connection, from any process that shares its channel layer.

    The data is encoded now, also with ``on_commit``: what is changed afterwards isn't sent.

    Args:
        connection_id: the ``connection_id`` of the connection; one of nobody does nothing.
        data: the message: a ``str`` arrives as a text frame, ``bytes`` as a binary frame,
            everything else as JSON.
        confirm_within: seconds to wait until the connections have it; by default, nobody waits.
            Not together with ``on_commit``, which has nobody to tell.
        on_commit: send when the transaction around this call commits, and not at all if it rolls
            back; at once where there is no transaction.
        using: the alias of the database with that transaction; ``None`` is the default one.

    Raises:
        TypeError: the data can't be encoded as JSON.
        UnicodeEncodeError: the text holds a lone surrogate.
        ValueError: the message is too large for the channel layer: over 1 MiB for Redis, over
            16 MiB else. ``bytes`` are a third larger there.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        ChannelLayerError: the channel layer failed, or gave no answer within five seconds. With
            ``on_commit``, this comes out of the end of the transaction.
        ConnectionNotFoundError: nobody has it, with ``confirm_within``.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("send_message_to_websocket")
    check_within(confirm_within)
    event = message_event(data)
    layer = channel_layer()
    _post(layer, [to_connection(layer, connection_id, event)], confirm_within, on_commit, using)


def send_messages(
    messages: Iterable[tuple[str, Any]],
    *,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Send many messages, each to a connection of its own, without waiting after each.

    Where one can't be encoded or is too large, none is sent.

    Args:
        messages: pairs of a ``connection_id`` and the message.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        TypeError, UnicodeEncodeError, ValueError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("send_messages")
    check_within(confirm_within)
    events = events_of(messages)
    layer = channel_layer()
    return _post(
        layer,
        [to_connection(layer, *each) for each in events],
        confirm_within,
        on_commit,
        using,
        is_many=True,
    )


def send_message_to_user(
    user: Any,
    data: Any,
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Send a message to all connections of a user: all tabs, all devices.

    Args:
        user: the user, or its primary key; a username is none. With ``on_commit`` it may be
            deleted meanwhile.
        data: the message, as in :func:`send_message_to_websocket`.
        exclude: ids of connections that don't get it, or one.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError: the user was never saved, or is anonymous; or the message is too large.
        TypeError, UnicodeEncodeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("send_message_to_user")
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    to_user = outgoing(layer, required_user_group(user), event, exclude)
    return _post(layer, [to_user], confirm_within, on_commit, using)


def send_message_to_group(
    group: str,
    data: Any,
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Send a message to all connections in a group.

    Args:
        group: any text; what ``join()`` or the class's ``groups`` was given.
        data: the message, as in :func:`send_message_to_websocket`.
        exclude: ids of connections that don't get it, or one.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        TypeError, UnicodeEncodeError, ValueError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("send_message_to_group")
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    to_group = outgoing(layer, layer_group(group), event, exclude)
    return _post(layer, [to_group], confirm_within, on_commit, using)


def send_message_to_all(
    data: Any,
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Send a message to all connections of the project.

    Args:
        data: the message, as in :func:`send_message_to_websocket`.
        exclude: ids of connections that don't get it, or one.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        TypeError, UnicodeEncodeError, ValueError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`send_message_to_websocket`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("send_message_to_all")
    check_within(confirm_within)
    event, layer = message_event(data), channel_layer()
    return _post(
        layer, [outgoing(layer, EVERYBODY, event, exclude)], confirm_within, on_commit, using
    )


def close_websocket_connection(
    connection_id: str,
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> None:
    """Close an open connection, from any process that shares its channel layer.

    Args:
        connection_id: the ``connection_id`` of the connection; one of nobody does nothing.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Raises:
        ValueError: the code can't be sent, or the reason is too long.
        TypeError: the code is no ``int``, or the reason no ``str``.
        ImproperlyConfigured: there is no channel layer.
        ChannelLayerError: the channel layer failed, or gave no answer within five seconds.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        ConnectionNotFoundError: nobody has it, with ``confirm_within``.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("close_websocket_connection")
    check_within(confirm_within)
    check_close(code, reason)
    layer = channel_layer()
    closing = to_connection(layer, connection_id, close_event(code, reason))
    _post(layer, [closing], confirm_within, on_commit, using)


def close_user_websockets(
    user: Any,
    code: int = status.WS_1008_POLICY_VIOLATION,
    reason: str = "",
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Close all open connections of a user, in every process that shares the channel layer.

    Args:
        user: the user, or its primary key. With ``on_commit`` it may be deleted meanwhile.
        code: the close code, 1008 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        exclude: ids of connections that stay open, or one.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError: the code can't be sent, the reason is too long, or the user was never saved.
        TypeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`close_websocket_connection`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("close_user_websockets")
    check_within(confirm_within)
    check_close(code, reason)
    group = required_user_group(user)
    layer = channel_layer()
    closing = outgoing(layer, group, close_event(code, reason), exclude)
    return _post(layer, [closing], confirm_within, on_commit, using)


def recheck_user_websockets(
    user: Any, *, on_commit: bool = False, using: str | None = None
) -> None:
    """Have all open connections of a user ask again who is there, and whether they may stay.

    Args:
        user: the user, or its primary key. With ``on_commit`` it may be deleted meanwhile.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Raises:
        ValueError: the user was never saved.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread.
        ChannelLayerError: the channel layer failed, or gave no answer within five seconds.
    """
    _refuse_event_loop("recheck_user_websockets")
    layer = channel_layer()
    rechecking = outgoing(layer, required_user_group(user), recheck_event())
    _post(layer, [rechecking], None, on_commit, using)


def close_group_websockets(
    group: str,
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Close all open connections in a group, in every process that shares the channel layer.

    Args:
        group: any text; what ``join()`` or the class's ``groups`` was given.
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        exclude: ids of connections that stay open, or one.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError, TypeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`close_websocket_connection`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("close_group_websockets")
    check_within(confirm_within)
    check_close(code, reason)
    layer = channel_layer()
    closing = outgoing(layer, layer_group(group), close_event(code, reason), exclude)
    return _post(layer, [closing], confirm_within, on_commit, using)


def close_all_websockets(
    code: int = status.WS_1000_NORMAL_CLOSURE,
    reason: str = "",
    *,
    exclude: Any = None,
    confirm_within: float | None = None,
    on_commit: bool = False,
    using: str | None = None,
) -> int | None:
    """Close all open connections of the project.

    Args:
        code: the close code, 1000 by default.
        reason: at most 123 bytes of UTF-8, empty by default.
        exclude: ids of connections that stay open, or one.
        confirm_within: as in :func:`send_message_to_websocket`.
        on_commit: as in :func:`send_message_to_websocket`.
        using: as in :func:`send_message_to_websocket`.

    Returns:
        How many connections took it, with ``confirm_within``; else ``None``.

    Raises:
        ValueError, TypeError, ImproperlyConfigured, ChannelLayerError: as in
            :func:`close_websocket_connection`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        DeliveryTimeoutError: not all have confirmed in time.
    """
    _refuse_event_loop("close_all_websockets")
    check_within(confirm_within)
    check_close(code, reason)
    layer = channel_layer()
    closing = outgoing(layer, EVERYBODY, close_event(code, reason), exclude)
    return _post(layer, [closing], confirm_within, on_commit, using)


def websocket_exists(connection_id: str, *, within: float = 1.0) -> bool:
    """Whether a connection is open, in whatever process. It may have gone a moment later.

    Args:
        connection_id: the ``connection_id`` of the connection.
        within: seconds to wait for the process that has it.

    Raises:
        DeliveryTimeoutError: that process gave no answer in time.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        ChannelLayerError: the channel layer failed.
    """
    _refuse_event_loop("websocket_exists")
    check_within(within)
    return _run(channel_layer(), exists, connection_id, within, limit=within)


def list_connections(
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
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        ChannelLayerError: it is in trouble.
    """
    _refuse_event_loop("list_connections")
    check_within(within)
    wanted = _wanted("connections", user, group, path)
    return _run(channel_layer(), list_all, wanted, within, limit=within)


def count_connections(
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
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
    """
    _refuse_event_loop("count_connections")
    check_within(within)
    wanted = _wanted("count", user, group, path)
    return _run(channel_layer(), count_all, wanted, within, limit=within)


def get_connection(connection_id: str, *, within: float = 1.0) -> ConnectionInfo:
    """What is known of an open connection.

    Args:
        connection_id: the ``connection_id`` of the connection.
        within: seconds to wait for the process that has it.

    Raises:
        ConnectionNotFoundError: nobody has it.
        DeliveryTimeoutError: its process gave no answer in time.
        ImproperlyConfigured: there is no channel layer.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
        ChannelLayerError: it is in trouble.
    """
    _refuse_event_loop("get_connection")
    check_within(within)
    return _run(channel_layer(), get_one, connection_id, within, limit=within)


def online_users(group: str | None = None, *, within: float = 1.0) -> Found[OnlineUser]:
    """The users with open connections, each once, with how many there are.

    Args:
        group: only those with connections in this group, of which alone those are counted.
        within: seconds to wait for the other processes.

    Returns:
        A list, in no order. Its ``missing`` names the processes that gave no answer in time.

    Raises:
        ValueError, ImproperlyConfigured, ChannelLayerError: as in :func:`list_connections`.
        SynchronousOnlyOperation: an event loop runs in this thread, and
            ``DJANGO_ALLOW_ASYNC_UNSAFE`` isn't set.
    """
    _refuse_event_loop("online_users")
    check_within(within)
    wanted = question("users", groups_of(None, group))
    return _run(channel_layer(), list_users, wanted, within, limit=within)


def deliver_soon(
    groups: Iterable[str], event: dict[str, Any], failed: Callable[[BaseException], None]
) -> None:
    """Hand an event to several groups without waiting, once for many calls in a tenth of a second.

    Args:
        groups: all of them.
        event: the same for all.
        failed: called with what the layer raises, in any thread; the rest isn't told then.
    """
    layer = channel_layer()
    if backplane(layer).is_in_memory:
        for group in groups:
            _deliver(layer, [Outgoing(group, event)], None)  # never waits for anybody
        return
    # Of what is on its way when a process forks, the child has nothing.
    process, what = os.getpid(), tuple(event.items())
    wanted = {(process, group, what): group for group in groups}
    waiting = {key: group for key, group in wanted.items() if key not in _soon}
    if not waiting:
        return
    _soon.update(waiting)

    async def hand_over_all() -> None:
        try:
            await asyncio.sleep(_GATHERING)
            for key, group in waiting.items():
                _soon.discard(key)  # before it goes out: what comes now may be too late for it
                await hand_over(layer, group, event)
        finally:
            _soon.difference_update(waiting)

    try:
        _background.post(hand_over_all(), failed)
    except RuntimeError:  # the interpreter is shutting down
        _soon.difference_update(waiting)
        raise


def _post(
    layer: Any,
    many: list[Outgoing],
    within: float | None,
    on_commit: bool,
    using: str | None,
    *,
    is_many: bool = False,
) -> int | None:
    if on_commit and within is not None:
        raise ValueError("on_commit sends later, when nobody waits for what confirm_within tells.")
    call = functools.partial(_deliver, layer, many, within, is_many=is_many)
    if on_commit:
        transaction.on_commit(call, using=using)
        return None
    return call()


def _deliver(
    layer: Any, many: list[Outgoing], within: float | None, *, is_many: bool = False
) -> int | None:
    """Hand events to the channel layer, and wait until the layer has them, or who gets them."""
    if within is None and not any(each.group for each in many):
        return None
    subject: Any = many if is_many else many[0]
    if within is None and backplane(layer).is_in_memory and _has_event_loop():
        _in_this_loop.create((deliver_many if is_many else deliver)(layer, subject, None))
        return None
    return _run(layer, deliver_many if is_many else deliver, subject, within, limit=within or 0)


def _run(
    layer: Any, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, limit: float = 0
) -> T:
    """Call an asynchronous function that uses a channel layer, and wait for what it returns.

    Args:
        layer: its first argument.
        function: it.
        args: its other arguments.
        limit: seconds that it may take of its own, beside those that the layer has.
    """
    if backplane(layer).is_in_memory and not is_green():
        # It belongs to the server's event loop, and this finds the way back to that one.
        found: T = async_to_sync(function)(layer, *args)
        return found
    coroutine = function(layer, *args)
    return _background.run(coroutine, f"Sending by {type(layer).__name__}", limit)


def _wanted(what: str, user: Any, group: str | None, path: str | None) -> dict[str, Any]:
    user_of = None if user is None else required_user_group(user)
    return question(what, groups_of(user_of, group), path)


def _refuse_event_loop(name: str) -> None:
    if _has_event_loop() and not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise SynchronousOnlyOperation(
            f"panther_channels.sync.{name}() would block the event loop that runs in this thread: "
            f"use `await panther_channels.websocket.{name}(...)` here."
        )


def _has_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
