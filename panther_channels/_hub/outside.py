"""What the outside functions do, be they asynchronous, synchronous, or methods of a handler."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.utils.functional import LazyObject

from panther_channels._hub.addresses import (
    connection_group,
    layer_group,
    required_user_group,
)
from panther_channels._hub.control import control
from panther_channels._hub.delivery import check_size, hand_over, hand_over_many, message_event
from panther_channels._hub.listing import (
    ConnectionInfo,
    Count,
    Found,
    OnlineUser,
    infos_of,
    merged_users,
    question,
)
from panther_channels.exceptions import ConnectionNotFoundError, DeliveryTimeoutError
from panther_channels.layers.backplane import group_of_connection, node_of


class Outgoing(NamedTuple):
    """An event, and whom it is for.

    Attributes:
        group: theirs on the channel layer; ``None`` of nobody.
        event: as :func:`~panther_channels._hub.delivery.message_event` has it, or ``close_event``.
        connection_id: that of the one whom it is for, if it is for one.
    """

    group: str | None
    event: dict[str, Any]
    connection_id: Any = None


async def deliver(layer: Any, outgoing: Outgoing, within: float | None) -> int | None:
    """Hand an event to those whom it is for, and wait until they have taken it, if that is wanted.

    Args:
        layer: the channel layer.
        outgoing: the event.
        within: seconds to wait for the connections; ``None`` waits for the layer alone.

    Returns:
        How many connections took it, where that is waited for.

    Raises:
        ChannelLayerError: the layer failed, or gave no answer within five seconds.
        ConnectionNotFoundError: the one whom it is for isn't there.
        DeliveryTimeoutError: not all have taken it in time.
    """
    group, event, connection_id = outgoing
    if within is None:
        if group is not None:
            await hand_over(layer, group, event)
        return None
    if connection_id is None:
        return await control(layer).ask_all(group or "", event, within)
    if not await _deliver_to_one(layer, outgoing, within):
        raise ConnectionNotFoundError(connection_id)
    return 1


async def deliver_many(layer: Any, many: list[Outgoing], within: float | None) -> int | None:
    """The same for many, each to one connection, without waiting between them.

    One that isn't there is none of those who took theirs.
    """
    if within is None:
        await hand_over_many(layer, [(each.group, each.event) for each in many if each.group])
        return None
    confirming = (_deliver_to_one(layer, each, within) for each in many)
    counts = await asyncio.gather(*confirming, return_exceptions=True)
    took, missing = 0, set[str]()
    for count in counts:
        if isinstance(count, DeliveryTimeoutError):
            missing.update(count.missing)
        elif isinstance(count, BaseException):
            raise count
        else:
            took += count
    if missing:
        raise DeliveryTimeoutError(within, took, missing=sorted(missing))
    return took


async def _deliver_to_one(layer: Any, outgoing: Outgoing, within: float) -> int:
    if outgoing.group is None:
        return 0
    return await control(layer).ask(outgoing.group, outgoing.event, within)


async def exists(layer: Any, connection_id: Any, within: float) -> bool:
    """Whether a connection is open.

    Raises:
        DeliveryTimeoutError: there was no answer in time.
        ChannelLayerError: the layer is in trouble.
    """
    group = connection_group(connection_id)
    return group is not None and await control(layer).ask(group, None, within) > 0


def check_within(seconds: object) -> None:
    """Refuse what is no time to wait.

    Raises:
        TypeError: it is no number.
        ValueError: it isn't above zero.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise TypeError(f"The time to wait is a number of seconds, not {seconds!r}.")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"The time to wait is above zero, not {seconds!r}.")


def outgoing(layer: Any, group: str | None, event: dict[str, Any], exclude: Any = None) -> Outgoing:
    """What is to be delivered.

    Args:
        layer: the channel layer.
        group: as in :class:`Outgoing`.
        event: as in :class:`Outgoing`.
        exclude: who doesn't get it, as :func:`excluded` has it.

    Raises:
        ValueError: it is too large for the channel layer.
        TypeError: it can't be said who is excluded.
    """
    check_size(layer, event)
    if ids := excluded(exclude):
        event = {**event, "exclude": ids}
    return Outgoing(group, event)


def to_connection(layer: Any, connection_id: Any, event: dict[str, Any]) -> Outgoing:
    """What one connection is to get."""
    check_size(layer, event)
    return Outgoing(connection_group(connection_id), event, str(connection_id))


def events_of(messages: Iterable[tuple[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The same with what the channel layer carries.

    Raises:
        TypeError: one can't be encoded as JSON, or a dict was given.
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    if isinstance(messages, Mapping):  # whose keys would be taken apart
        raise TypeError("Messages are pairs of a connection_id and data: of a dict, give items().")
    return [(connection_id, message_event(data)) for connection_id, data in messages]


def excluded(who: Any) -> list[str]:
    """The ids of connections that are left out.

    Args:
        who: an id, a connection, or some of them; ``None`` is nobody.

    Raises:
        TypeError: it is something else.
    """
    if who is None:
        return []
    if isinstance(who, str):
        return [who] if who else []
    if (connection_id := getattr(who, "connection_id", None)) is not None:
        return excluded(connection_id)
    if not isinstance(who, Iterable):
        raise TypeError(f"exclude= takes ids of connections, not {who!r}.")
    return [connection_id for each in who for connection_id in excluded(each)]


async def group_of_user(user: Any) -> str:
    """The group of a user, where it may have to be fetched yet.

    Raises:
        ValueError: the user was never saved, or is none.
    """
    # As request.user of a view is, which no event loop may do.
    if isinstance(user, LazyObject):
        return await sync_to_async(required_user_group)(user)
    return required_user_group(user)


async def list_all(layer: Any, wanted: dict[str, Any], within: float) -> Found[ConnectionInfo]:
    """The connections that are wanted, in all event loops."""
    pages, missing = await control(layer).find(wanted, within)
    return Found((info for page in pages for info in infos_of(page)), missing)


async def count_all(layer: Any, wanted: dict[str, Any], within: float) -> Count:
    """How many connections there are of those that are wanted."""
    answers, missing = await control(layer).find(wanted, within)
    count = Count(sum(each["count"] for each in answers))
    count.missing = tuple(missing)
    return count


async def list_users(layer: Any, wanted: dict[str, Any], within: float) -> Found[OnlineUser]:
    """The users of the connections that are wanted."""
    pages, missing = await control(layer).find(wanted, within)
    return Found(merged_users(pages), missing)


async def get_one(layer: Any, connection_id: Any, within: float) -> ConnectionInfo:
    """What is known of one connection.

    Raises:
        ConnectionNotFoundError: it isn't there.
        DeliveryTimeoutError: there was no answer in time.
    """
    if await exists(layer, connection_id, within):
        node = node_of(group_of_connection(connection_id))
        wanted = question("connections", connection_id=connection_id)
        pages, missing = await control(layer).find(wanted, within, node)
        for page in pages:
            for info in infos_of(page):
                return info
        if missing:
            raise DeliveryTimeoutError(within, missing=missing)
    raise ConnectionNotFoundError(connection_id)


def groups_of(user_of: str | None, group: str | None) -> list[str]:
    """On the layer, the groups in which somebody is who is of a user and in a group."""
    groups = [] if user_of is None else [user_of]
    return groups if group is None else [*groups, layer_group(group)]
