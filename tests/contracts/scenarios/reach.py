"""Users, groups and everybody: what Panther has no functions for."""

import asyncio
import json
import os
import socket
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from tests.client import Client, Closed, Connection
from tests.contracts.applications.package import (
    GenericWebsocket,
    MeantError,
    Websocket,
    ours_alone,
)
from tests.contracts.scenarios.registry import URLS, scenario

ODD = "any text: é, spaces / and " + 200 * "x"
LOBBY = "the lobby of all"


async def named(connection: Websocket) -> Any:
    name = connection.query_params.get("user")
    return None if name is None else SimpleNamespace(pk=name)


def shown(answer: Any) -> Any:
    """What is found of connections, as far as it is the same each time."""
    if isinstance(answer, list):
        assert getattr(answer, "missing", None) == ()
        return sorted(map(shown, answer), key=str)
    if not hasattr(answer, "connected_at"):
        return [answer.user_id, answer.connections] if hasattr(answer, "user_id") else answer
    now = datetime.now(UTC)
    assert now - timedelta(seconds=60) < answer.connected_at < now + timedelta(seconds=1)
    last = answer.last_message_at
    if last is not None:
        assert answer.connected_at - timedelta(seconds=1) < last < now + timedelta(seconds=1)
    assert (answer.process, answer.host) == (os.getpid(), socket.gethostname())
    assert (answer.client.ip, answer.user_agent) == ("127.0.0.1", "contract")
    counts = [
        *(answer.messages_received, answer.messages_sent),
        *(answer.bytes_received, answer.bytes_sent),
    ]
    named = [answer.user_id, answer.path, answer.path_variables, answer.websocket.split(".")[-1]]
    return [*named, last is not None, *counts, list(answer.groups), answer.labels]


class Control(GenericWebsocket):
    """Does what it is told, and answers what that returned, or the class of what it raised."""

    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes) -> None:
        name, *args = json.loads(data)
        options = args.pop() if args and isinstance(args[-1], dict) else {}
        self.labels["did"] = name
        if options.get("exclude") == "self":
            options["exclude"] = self
        method = name in {"join", "leave", "send_to_group"}
        function = getattr(self if method else ours_alone, name)
        try:
            answer: Any = shown(await function(*args, **options))
        except Exception as error:
            answer = type(error).__name__
            if answer == LATE:
                answer = [answer, *(getattr(error, name) for name in ("delivered", "waiting"))]
        await self.send(["done", answer])


class Slow(Control):
    """Takes what is sent to it when its client says so."""

    groups = ("slow",)

    async def connect(self):
        self.is_let = asyncio.Event()
        await super().connect()

    async def receive(self, data: str | bytes) -> None:
        self.is_let.set()

    async def send(self, data: Any = None) -> None:
        if data == "wait":
            await self.is_let.wait()
        if data == "fail":
            raise MeantError("meant: in a send that is confirmed")
        await super().send(data)


class Member(Control):
    auth = named
    groups = (LOBBY,)

    async def connect(self, room: str = ""):
        if group := self.query_params.get("join"):
            await self.join(group)
        await super().connect()


class Room:
    """Connections by a name, and their ids."""

    def __init__(self) -> None:
        self.members: dict[str, Connection] = {}
        self.ids: dict[str, str] = {}

    async def enter(self, connect: Client, name: str, query: str = "") -> None:
        self.members[name] = await connect(query)
        self.ids[name] = str(await self.members[name].receive())

    async def do(self, name: str, *call: Any) -> Any:
        """What a call of one of them answers, which gets nothing else meanwhile."""
        done, answer = json.loads(str(await self.members[name].ask(json.dumps(call))))
        assert done == "done"
        return answer

    async def who_got(self, *call: Any) -> dict[str, Any]:
        """What each one gets by a call of the one called "control", which answers nothing."""
        assert await self.do("control", *call) is None
        found = {}
        for name in list(self.members):
            if name != "control":
                await self.do("control", "send_message_to_websocket", self.ids[name], "the end")
                got = []
                while (message := await self.members[name].receive()) != "the end":
                    got.append(message)
                    if isinstance(message, Closed):
                        del self.members[name]
                        break
                if got:
                    found[name] = got if len(got) > 1 else got[0]
        return found


URLS["controller"] = Control


async def _room(connect: Client) -> Room:
    room = Room()
    await room.enter(connect, "control", "/controller/")
    for name, query in (
        ("ann", "?user=ann&join=room-7"),
        ("ann too", "?user=ann"),
        ("bob", f"?user=bob&join={quote(ODD)}"),
        ("nobody", "?join=room-7"),
    ):
        await room.enter(connect, name, query)
    return room


ANNS = {"ann": "1", "ann too": "1"}
ALL = dict.fromkeys(("ann", "ann too", "bob", "nobody"), "hello")


@scenario(Member, ours=[ANNS, {"ann too": "text"}, {"bob": "[3]"}, {}, ["ValueError"] * 2])
async def messages_to_a_user(connect: Client) -> object:
    room = await _room(connect)
    send = "send_message_to_user"
    return [
        await room.who_got(send, "ann", 1),
        await room.who_got(send, "ann", "text", {"exclude": room.ids["ann"]}),
        await room.who_got(send, "bob", [3]),
        await room.who_got(send, "carl", 4),
        [await room.do("control", send, user, 5) for user in (None, True)],
    ]


@scenario(Member, ours=[ALL, {"bob": "[1]"}, {"ann": "x", "nobody": "x"}, {"bob": "y"}, {}])
async def messages_to_a_group_and_to_all(connect: Client) -> object:
    room = await _room(connect)
    group, everybody = "send_message_to_group", "send_message_to_all"
    others = [room.ids[name] for name in ("ann", "ann too", "nobody")]
    return [
        await room.who_got(group, LOBBY, "hello"),
        await room.who_got(everybody, [1], {"exclude": [*others, room.ids["control"]]}),
        await room.who_got(group, "room-7", "x"),
        await room.who_got(group, ODD, "y"),
        await room.who_got(group, "of nobody", "z"),
    ]


@scenario(Member, ours=[{"ann": "a"}, {"nobody": "b"}, None, None, {"ann": "c"}, {}, "TypeError"])
async def a_handler_joins_and_leaves(connect: Client) -> object:
    room = await _room(connect)
    seen: list[object] = []
    for group, do in (("hall", room.do("ann", "join", "hall")), ("room-7", None)):
        if do is not None:
            await do
            await room.do("ann", "join", group)  # which it is in
        else:
            await room.do("ann", "leave", group)
        seen.append(await room.who_got("send_to_group", group, "a" if do else "b"))
    seen += [await room.do("ann", "leave", LOBBY), await room.do("ann", "leave", "of nobody")]
    seen.append(await room.who_got("send_to_group", "hall", "c", {"exclude": "self"}))
    await room.do("ann", "leave", "hall")
    seen.append(await room.who_got("send_message_to_group", "hall", "d"))
    return [*seen, await room.do("ann", "join", 5)]


DONE = '["done",null]'


@scenario(Member, ours=[[DONE, "hello"], [DONE], "hello", "hello"])
async def not_to_myself(connect: Client) -> object:
    room = await _room(connect)
    ann, nobody = room.members["ann"], room.members["nobody"]
    await ann.send(json.dumps(["send_to_group", "room-7", "hello"]))
    both = await ann.messages(2)  # its own may come before the answer, or after it
    await ann.send(json.dumps(["send_to_group", "room-7", "hello", {"exclude": "self"}]))
    return [sorted(map(str, both)), await ann.messages(1), *await nobody.messages(2)]


@scenario(
    Member,
    ours=[
        {"ann": Closed(4001, "others")},
        {"ann too": Closed(1008, "")},
        {"bob": Closed(4002, "")},
        {"nobody": Closed(1012, "restart")},
        ["ValueError", "TypeError"],
    ],
)
async def closes_of_a_user_a_group_and_all(connect: Client) -> object:
    room = await _room(connect)
    but = {"exclude": [room.ids["ann too"]]}
    return [
        await room.who_got("close_user_websockets", "ann", 4001, "others", but),
        await room.who_got("close_user_websockets", "ann"),
        await room.who_got("close_group_websockets", ODD, 4002),
        await room.who_got("close_all_websockets", 1012, "restart", {"exclude": "self"}),
        [
            await room.do("control", "close_all_websockets", 1005),
            await room.do("control", "close_group_websockets", 5),
        ],
    ]


@scenario(Member, ours=[{"ann": ["0", "1", "2"], "bob": "x"}, {}, "TypeError"])
async def many_messages_at_once(connect: Client) -> object:
    room = await _room(connect)
    ann, bob = room.ids["ann"], room.ids["bob"]
    many: list[object] = [(ann, 0), (ann, 1), ("f" * 32, "lost"), (bob, "x"), (None, ""), (ann, 2)]
    return [
        await room.who_got("send_messages", many),
        await room.who_got("send_messages", []),
        await room.do("control", "send_messages", 5),
    ]


CONFIRM = {"confirm_within": 10}
NOT_FOUND = "ConnectionNotFoundError"
ANN_GOT = ["1", "2", "user", "group", "all"]


@scenario(
    Member,
    ours=[
        [None, NOT_FOUND, NOT_FOUND, 2],
        [2, 1, 0, 4, 3, 0, 4],
        ["TypeError", "ValueError"],
        [True, False, False],
        ANN_GOT,
    ],
)
async def sends_are_confirmed(connect: Client) -> object:
    room = await _room(connect)
    ann, control, do = room.ids["ann"], room.ids["control"], partial(room.do, "control")
    but_ann, but_control = {**CONFIRM, "exclude": ann}, {**CONFIRM, "exclude": control}
    nobody = ann[:8] + "f" * 24
    many = [(ann, 2), (nobody, "lost"), (room.ids["nobody"], "x"), ("malformed", "")]
    seen: list[object] = [
        [
            await do("send_message_to_websocket", ann, 1, CONFIRM),
            await do("send_message_to_websocket", nobody, "x", CONFIRM),
            await do("send_message_to_websocket", "malformed", "x", CONFIRM),
            await do("send_messages", many, CONFIRM),
        ],
        [
            await do("send_message_to_user", "ann", "user", CONFIRM),
            await do("send_message_to_user", "ann", "x", but_ann),
            await do("send_message_to_user", "carl", "x", CONFIRM),
            await do("send_to_group", LOBBY, "group", CONFIRM),
            await do("send_message_to_group", LOBBY, "x", but_ann),
            await do("send_message_to_group", "of nobody", "x", CONFIRM),
            await do("send_message_to_all", "all", but_control),
        ],
        [await do("send_message_to_all", "x", {"confirm_within": each}) for each in ("1", 0)],
        [await do("websocket_exists", each) for each in (ann, nobody, "malformed")],
    ]
    return [*seen, await room.members["ann"].messages(len(ANN_GOT))]


@scenario(Member, ours=[[None, NOT_FOUND, False, 1, 1, 1, 0], dict.fromkeys(ALL, Closed(4001, ""))])
async def closes_are_confirmed(connect: Client) -> object:
    room = await _room(connect)
    ann, do = room.ids["ann"], partial(room.do, "control")
    seen = [
        await do("close_websocket_connection", ann, 4001, CONFIRM),
        await do("close_websocket_connection", ann, 4001, CONFIRM),
        await do("websocket_exists", ann),
        await do("close_user_websockets", "ann", 4001, CONFIRM),
        await do("close_group_websockets", ODD, 4001, CONFIRM),
        await do("close_all_websockets", 4001, {**CONFIRM, "exclude": "self"}),
        await do("close_group_websockets", LOBBY, CONFIRM),
    ]
    ends = {name: await room.members[name].receive() for name in ALL}
    return [seen, ends]


SHORT = {"confirm_within": 0.4}
LATE = "DeliveryTimeoutError"


@scenario(
    Slow,
    ours=[
        [[LATE, 0, 0], [LATE, 0, 1], [LATE, 0, 1], True],
        ["wait", "wait", "wait"],
        [NOT_FOUND, False, 0],
        Closed(1011, ""),
    ],
)
async def what_is_not_taken_is_not_confirmed(connect: Client) -> object:
    room = Room()
    await room.enter(connect, "control", "/controller/")
    await room.enter(connect, "slow")
    slow, do = room.ids["slow"], partial(room.do, "control")
    seen: list[object] = [
        [
            await do("send_message_to_websocket", slow, "wait", SHORT),
            await do("send_message_to_group", "slow", "wait", SHORT),
            await do("send_message_to_all", "wait", {**SHORT, "exclude": "self"}),
            await do("websocket_exists", slow),
        ]
    ]
    await room.members["slow"].send("take it")
    seen.append(await room.members["slow"].messages(3))
    seen.append(
        [
            await do("send_message_to_websocket", slow, "fail", CONFIRM),
            await do("websocket_exists", slow),
            await do("send_message_to_group", "slow", "x", CONFIRM),
        ]
    )
    return [*seen, await room.members["slow"].receive()]


CARLA = ["carla", "/who_is_there/a", {"room": "a"}, "Member", True, 1, 2, 15, 45]
CARLA += [["hall", LOBBY], {"did": "leave"}]
IN_B = ["/who_is_there/b", {"room": "b"}, "Member", False, 0, 1, 0, 32, [LOBBY], {}]


@scenario(
    {"<room>": Member},
    ours=[
        [CARLA, ["carla", *IN_B], [None, *IN_B]],
        [["carla", *IN_B]],
        [CARLA],
        [None, *IN_B],
        [3, 2],
        0,
        [["carla", 1]],
        [NOT_FOUND, NOT_FOUND],
        ["ValueError", "TypeError"],
        [],
    ],
)
async def who_is_there(connect: Client) -> object:
    room = Room()
    await room.enter(connect, "control", "/controller/")
    for name, path in (("carla", "a?user=carla&join=hall"), ("too", "b?user=carla"), ("x", "b")):
        await room.enter(connect, name, path)
    do, id_of_x = partial(room.do, "control"), room.ids["x"]
    assert await room.members["carla"].ask('["leave", "é"]') == DONE
    everywhere = {"path": "/who_is_there/*"}
    seen: list[object] = [
        await do("list_connections", everywhere),
        await do("list_connections", {"user": "carla", "path": "/who_is_there/b"}),
        await do("list_connections", {"group": "hall"}),
        await do("get_connection", id_of_x),
        [await do("count_connections", each) for each in (everywhere, {"user": "carla"})],
        await do("count_connections", {"group": "hall", "user": "bob"}),
        await do("online_users", "hall"),
        [await do("get_connection", each) for each in (id_of_x[:8] + 24 * "0", "malformed")],
        [await do("list_connections", each) for each in ({"user": True}, {"group": 5})],
    ]
    await room.members["carla"].close()
    while await do("count_connections", everywhere) != 2:
        pass
    return [*seen, await do("online_users", "hall")]
