"""What is told of connections: each event loop for its own, a page at a time."""

import functools
import os
import socket
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

import msgpack

from panther_channels._hub.addresses import user_group
from panther_channels._hub.subscription import Subscription
from panther_channels._socket.request import Address, Headers
from panther_channels._socket.state import OPEN, State

_ROWS = 500  # of one page, so that nobody else waits for long
_SIZE = 256 * 1024  # bytes of it, but for the last row
_LONGEST = 512  # characters of what a client says of itself

T = TypeVar("T")


class Found(list[T]):
    """A list of what was found.

    Attributes:
        missing: the processes that gave no answer in time, each by the eight digits with which the
            ids of its connections begin; "?" for one of which no more is known. Empty where the
            list is complete.
    """

    def __init__(self, items: Iterable[T] = (), missing: Iterable[str] = ()) -> None:
        super().__init__(items)
        self.missing = tuple(missing)


class Count(int):
    """A number of connections.

    Attributes:
        missing: as in :class:`Found`.
    """

    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """What is known of an open connection, as it was when its process was asked.

    Attributes:
        id: its ``connection_id``.
        user_id: the primary key of its user, an ``int`` or a ``str``; ``None`` of nobody.
        user_name: what the user's ``get_username()`` says, or ``None``.
        path: the path of its URL.
        path_variables: the variables in it.
        websocket: the class that serves it, with its module.
        client: its client's address, or ``None``.
        user_agent: what its client says of itself, or ``None``.
        connected_at: when its handshake began.
        last_message_at: when its client sent the last message, to a quarter of a second; or
            ``None``.
        messages_received: how many messages its client has sent.
        messages_sent: how many it has been sent.
        bytes_received: the bytes of those that its client has sent.
        bytes_sent: the bytes of those that it has been sent.
        groups: what it has joined.
        labels: what its class has noted in ``labels``.
        process: the id of its process.
        host: the name of the process's host.
    """

    id: str
    user_id: int | str | None
    user_name: str | None
    path: str
    path_variables: dict[str, Any]
    websocket: str
    client: Address | None
    user_agent: str | None
    connected_at: datetime
    last_message_at: datetime | None
    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    groups: tuple[str, ...]
    labels: dict[str, Any]
    process: int
    host: str


@dataclass(frozen=True, slots=True)
class OnlineUser:
    """A user with open connections.

    Attributes:
        user_id: the primary key, an ``int`` or a ``str``.
        user_name: what ``get_username()`` says, or ``None``.
        connections: how many connections there are.
    """

    user_id: int | str
    user_name: str | None
    connections: int


@dataclass(frozen=True, slots=True)
class PresentUser:
    """A user who came to a group, or left it.

    Attributes:
        user_id: the primary key, an ``int`` or a ``str``.
        user_name: what ``get_username()`` says, or ``None``.
    """

    user_id: int | str
    user_name: str | None


class Reachable(Protocol):
    """A connection, as far as is needed here."""

    id: str
    scope: MutableMapping[str, Any]
    since: float
    received: int
    sent: int
    bytes_received: int
    bytes_sent: int
    last_message: float
    handler: Any
    groups: dict[str, str] | None
    labels: dict[str, Any] | None
    subscription: Subscription | None

    @property
    def state(self) -> State: ...

    @property
    def user(self) -> Any: ...


def question(
    what: str, groups: Iterable[str] = (), path: str | None = None, connection_id: str = ""
) -> dict[str, Any]:
    """What others are asked.

    Args:
        what: "connections", "count" or "users".
        groups: on the layer, in all of which the connections are that count.
        path: theirs, in which ``*`` stands for anything; the slash at its beginning may be missing.
        connection_id: the only one.
    """
    if path is not None and not path.startswith("/"):  # as in WS_URLS
        path = f"/{path}"
    return {"what": what, "groups": [*groups], "path": path, "id": connection_id, "after": ""}


def answer_to(connections: Mapping[str, Reachable], question: dict[str, Any]) -> dict[str, Any]:
    """What an event loop says of its connections."""
    found = [each for each in connections.values() if _matches(each, question)]
    if question["what"] == "count":
        return {"count": len(found)}
    if question["what"] == "users":
        return page_of(_users(found), question["after"], lambda row: row)
    return page_of({each.id: each for each in found}, question["after"], _row)


def _matches(connection: Reachable, question: dict[str, Any]) -> bool:
    subscription, path = connection.subscription, question["path"]
    if connection.state is not OPEN or subscription is None:
        return False
    if question["id"] and connection.id != question["id"]:
        return False
    if path is not None and not fnmatchcase(connection.scope["path"], path):
        return False
    return all(group in subscription.groups for group in question["groups"])


def page_of(items: dict[str, Any], after: str, row_of: Any) -> dict[str, Any]:
    """A part of what there is, of which the first is after a key; "more" is the key of the last."""
    rows: list[bytes] = []
    size, more = 0, ""
    # By key, not by position: who comes or goes meanwhile makes no other appear twice, or not.
    for key in sorted(key for key in items if key > after):
        if len(rows) >= _ROWS or size >= _SIZE:
            break
        rows.append(_packed(row_of(items[key])))
        size += len(rows[-1])
        more = key
    else:
        more = ""
    return {"rows": rows, "more": more, "process": os.getpid(), "host": socket.gethostname()}


def _users(connections: list[Reachable]) -> dict[str, list[Any]]:
    users: dict[str, list[Any]] = {}
    for connection in connections:
        if (address := user_group(connection.user)) is not None:
            user = users.setdefault(address, [address, *facts_of_user(connection.user), 0])
            user[-1] += 1
    return users


def facts_of_user(user: Any) -> tuple[int | str | None, str | None]:
    """The primary key and the name of a user, as they are told to others; ``None`` of nobody."""
    key, name = getattr(user, "pk", None), getattr(user, "get_username", None)
    if key is not None and not isinstance(key, int | str):
        key = str(key)
    return key, None if name is None or key is None else str(name())


def _row(connection: Reachable) -> list[Any]:
    scope, kind = connection.scope, type(connection.handler)
    agent = Headers([pair for pair in scope["headers"] if pair[0].lower() == b"user-agent"])
    client = scope.get("client")
    return [
        connection.id,
        *facts_of_user(connection.user),
        scope["path"],
        {key: _plain(value) for key, value in connection.handler.path_variables.items()},
        f"{kind.__module__}.{kind.__qualname__}",
        None if client is None else [*client],
        (agent.user_agent or "")[:_LONGEST] or None,
        _epoch(connection.since),
        _epoch(connection.last_message) if connection.last_message else None,
        *(connection.received, connection.sent),
        *(connection.bytes_received, connection.bytes_sent),
        [*(connection.groups or ())],
        {str(key): _plain(value) for key, value in (connection.labels or {}).items()},
    ]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else str(value)


def _epoch(moment: float) -> float:
    return time.time() - time.monotonic() + moment


def _packed(row: list[Any]) -> bytes:
    try:
        packed: bytes = msgpack.packb(row, unicode_errors="surrogatepass")
    except OverflowError:  # an integer of more than 64 bits
        short = [
            {key: str(value) for key, value in each.items()} if isinstance(each, dict) else each
            for each in row
        ]
        packed = msgpack.packb(short, unicode_errors="surrogatepass")
    return packed


def rows_of(answer: Mapping[str, Any]) -> list[list[Any]]:
    """The rows of a page."""
    unpack = functools.partial(msgpack.unpackb, unicode_errors="surrogatepass")
    return [unpack(row) for row in answer["rows"]]


def infos_of(answer: dict[str, Any]) -> list[ConnectionInfo]:
    """The connections that a page tells of."""
    return [_info(row, answer["process"], answer["host"]) for row in rows_of(answer)]


def _info(row: list[Any], process: int, host: str) -> ConnectionInfo:
    client, connected, last, groups = 6, 8, 9, 14
    if row[client] is not None:
        row[client] = Address(*row[client])
    for moment in (connected, last):
        if row[moment] is not None:
            row[moment] = datetime.fromtimestamp(row[moment], UTC)
    row[groups] = tuple(row[groups])
    facts: Any = (*row, process, host)
    return ConnectionInfo(*facts)


def merged_users(answers: Iterable[dict[str, Any]]) -> list[OnlineUser]:
    """Each user once, with the connections in all event loops."""
    users: dict[str, list[Any]] = {}
    for answer in answers:
        for address, user_id, name, count in rows_of(answer):
            users.setdefault(address, [user_id, name, 0])[2] += count
    return [OnlineUser(*user) for user in users.values()]
