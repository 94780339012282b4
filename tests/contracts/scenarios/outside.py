"""Messages and closes from another connection's handler."""

import asyncio
import datetime
import json
import uuid
from collections import defaultdict
from functools import partial
from typing import Any

from django.utils.functional import lazystr

from tests.client import Client, Connection, Message
from tests.contracts.applications.journal import run_of
from tests.contracts.applications.package import (
    GenericWebsocket,
    MeantError,
    close_websocket_connection,
    send_message_to_websocket,
    status,
)
from tests.contracts.scenarios.messages import Colour
from tests.contracts.scenarios.registry import URLS, Scenario, add, scenario

VALUES: dict[str, list[Any]] = {
    "text_from_outside": ["héllo", "", '{"a": 1}', "null"],
    "objects_from_outside": [{"b": [1, None, True], "a": {"c": "é"}}, [1, "two", 3.5]],
    "numbers_and_none_from_outside": [42, 0.5, None, True],
    "rich_values_from_outside": [
        (1, (2, 3)),
        {"id": uuid.UUID("7e82d57c-9ec0-4787-b019-16910a9f45aa")},
        [float("nan")],
        2**64 - 1,
    ],
    "strings_of_json_from_outside": [
        datetime.datetime(2024, 2, 29, 23, 59, 58, 123456, tzinfo=datetime.UTC),
        *(datetime.date(2024, 2, 29), uuid.UUID("7e82d57c-9ec0-4787-b019-16910a9f45aa")),
        Colour.RED,
    ],
    "lazy_strings_from_outside": [lazystr("héllo"), [lazystr("héllo")]],
    "a_large_text_from_outside": ["x" * 200_000],
    "bytes_from_outside": [b"\x00\xffone", b""],
    "what_cannot_be_encoded_raises_in_the_sender": [object(), {1: "one"}],
}

_STRINGS = ('"2024-02-29T23:59:58.123456+00:00"', '"2024-02-29"',
            '"7e82d57c-9ec0-4787-b019-16910a9f45aa"', '"red"')  # fmt: skip
DEVIATIONS: dict[str, dict[str, Any]] = {
    "strings_of_json_from_outside": {
        "because": "what is sent from outside arrives as what is sent from inside does",
        "ours": [*(part for text in _STRINGS for part in ("done", text)), "still here"],
    },
    "lazy_strings_from_outside": {"ours": ["done", "héllo", "done", '["héllo"]', "still here"]},
}

_released: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


class Target(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes) -> None:
        match data:
            case "block":
                await self.send("blocked")
                await _released[run_of(self)].wait()
                await self.send("released")
            case "late":
                connection_id = self.connection_id
                await self.close(4003)
                await send_message_to_websocket(connection_id, "too late")
                await _released[run_of(self)].wait()
            case "self":
                await send_message_to_websocket(self.connection_id, "to myself")
            case "close self":
                await close_websocket_connection(self.connection_id, 4010, "by myself")
            case _:
                await self.send(data)


class BusyInConnect(Target):
    async def connect(self):
        await super().connect()
        await _released[run_of(self)].wait()
        await self.send("connected")


class Overriding(GenericWebsocket):
    """Shows the Python value that an overridden send() is given, and what close() is given."""

    async def connect(self):
        await self.accept()
        await super().send(self.connection_id)

    async def receive(self, data: str | bytes) -> None:
        await super().send(data)

    async def send(self, data=None) -> None:
        await super().send(repr(data))

    async def close(self, code=1000, reason="") -> None:
        await super().send(f"closing with {code!r} {reason!r}")
        await super().close(code=code, reason=reason)


class Failing(Overriding):
    async def send(self, data=None) -> None:
        raise MeantError("meant: in an outside send")

    async def close(self, code=1000, reason="") -> None:
        if code == 4999:
            raise MeantError("meant: in an outside close")
        await super().close(code, reason)


class Control(GenericWebsocket):
    """Does what it is told, and answers when it is done."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        try:
            answer = await self.obey(**json.loads(data))
        except Exception as error:
            answer = f"raised {isinstance(error, TypeError)}"
        await self.send(answer)

    async def obey(self, do: str, target: Any = None, **options: Any) -> str:
        match do:
            case "send":
                await send_message_to_websocket(connection_id=target, data=_value(**options))
            case "count":
                for number in range(options["to"]):
                    await send_message_to_websocket(target, number)
            case "close":
                await close_websocket_connection(connection_id=target, **options)
            case "close by name":
                code = status.WS_1008_POLICY_VIOLATION
                await close_websocket_connection(target, code, "policy")
            case "release":
                _released[run_of(self)].set()
        return "done"


URLS["control"] = Control


def _value(of: str = "text_from_outside", number: int = 0) -> Any:
    return VALUES[of][number]


async def _pair(connect: Client) -> tuple[Connection, str, Connection]:
    """A target, its id, and the connection that reaches it."""
    target = await connect("")
    return target, str(await target.receive()), await connect("/control/")


async def _obey(control: Connection, do: str, target: object, **options: object) -> Message:
    return await control.ask(json.dumps({"do": do, "target": target, **options}))


async def _sent(values: tuple[str, ...], connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    seen: list[Any] = []
    for name in values:
        for number in range(len(VALUES[name])):
            answer = await _obey(control, "send", connection_id, of=name, number=number)
            seen += [answer, await target.receive() if answer == "done" else None]
    return [*seen, await target.ask("still here")]


class HandingOn(Target):
    async def send(self, data=None) -> None:
        await super().send(data=data)


RICH = ("rich_values_from_outside", "strings_of_json_from_outside")
PLAIN = ("text_from_outside", "objects_from_outside", "numbers_and_none_from_outside")
for name in VALUES:
    if name != "bytes_from_outside":
        options = DEVIATIONS.get(name, {})
        add(Scenario(name, partial(_sent, (name,)), f"/{name}/", **options), Target)
for name, options in DEVIATIONS.items():
    handed_on = f"{name}_that_are_handed_on"
    add(Scenario(handed_on, partial(_sent, (name,)), f"/{handed_on}/", **options), HandingOn)
for name, names in (("python_values", PLAIN), ("what_json_carries", RICH)):
    name = f"an_overridden_send_sees_{name}"
    add(Scenario(name, partial(_sent, names), f"/{name}/"), Overriding)


@scenario(
    Target,
    because="bytes from outside work on every channel layer",
    ours=["done", "done", b"\x00\xffone", b"", "héllo"],
)
async def bytes_from_outside(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    of = "bytes_from_outside"
    seen = [await _obey(control, "send", connection_id, of=of, number=each) for each in (0, 1)]
    await _obey(control, "send", connection_id)
    while seen[-1] != "héllo":
        seen.append(await target.receive())
    return seen


@scenario(Overriding)
async def an_overridden_close_is_used_from_outside(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    await _obey(control, "close", connection_id, code=4001, reason="asked")
    return await target.until_closed()


@scenario(Target)
async def ids_of_nobody_do_nothing(connect: Client) -> object:
    target, known, control = await _pair(connect)
    other = [known[:-1], known + "0", known.swapcase() + "x", "f" * 32, "0" * 26]
    malformed = ["", " ", "x" * 500, "bad id\n", "a/b", "é", "*", None]
    answers = [
        await _obey(control, do, each) for each in other + malformed for do in ("send", "close")
    ]
    return [answers, await target.ask("still here")]


@scenario(Target)
async def a_closed_connection_is_not_reached(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    other, _, _ = await _pair(connect)
    await target.close()
    return [
        await _obey(control, "send", connection_id),
        await _obey(control, "close", connection_id, code=4001),
        await other.ask("still here"),
    ]


@scenario(Target)
async def only_the_addressed_connection_is_reached(connect: Client) -> object:
    one, one_id, control = await _pair(connect)
    two, two_id, _ = await _pair(connect)
    await _obey(control, "send", one_id, number=0)
    await _obey(control, "send", two_id, number=2)
    return [await one.receive(), await two.receive(), await one.ask("a"), await two.ask("b")]


@scenario(Target)
async def a_hundred_messages_keep_their_order(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    return [await _obey(control, "count", connection_id, to=100), await target.messages(100)]


@scenario(Target)
async def closes_from_outside(connect: Client) -> object:
    seen: list[object] = []
    for do, options in (
        ("close", {}),
        ("close by name", {}),
        ("close", {"code": 4001}),
        ("close", {"code": 4999, "reason": "до свидания"}),
        ("close", {"code": 3000, "reason": "three"}),
    ):
        target, connection_id, control = await _pair(connect)
        seen += [await _obey(control, do, connection_id, **options), await target.receive()]
    return seen


@scenario(Target)
async def messages_before_a_close_from_outside_arrive(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    await _obey(control, "count", connection_id, to=10)
    await _obey(control, "close", connection_id, code=4000, reason="after ten")
    await _obey(control, "send", connection_id)
    return await target.until_closed()


@scenario(Target)
async def a_send_from_outside_during_receive(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    seen = [await target.ask("block")]
    await _obey(control, "send", connection_id)
    seen.append(await target.receive())
    await _obey(control, "release", None)
    return [*seen, await target.receive(), await target.ask("after")]


@scenario(Target)
async def a_close_from_outside_during_receive(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    seen = [await target.ask("block")]
    await _obey(control, "close", connection_id, code=4002, reason="busy")
    seen.append(await target.receive())
    await _obey(control, "release", None)
    return seen


@scenario(Target, ours=[(4003, ""), "done", "done"])
async def a_send_from_outside_after_the_own_close_is_no_mistake(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    seen = [await target.ask("late"), await _obey(control, "send", connection_id)]
    return [*seen, await _obey(control, "release", None)]


@scenario(BusyInConnect)
async def a_send_and_a_close_from_outside_during_connect(connect: Client) -> object:
    busy, connection_id, control = await _pair(connect)
    await _obey(control, "send", connection_id)
    seen = [await busy.receive()]
    other, other_id, _ = await _pair(connect)
    await _obey(control, "close", other_id, code=4002)
    seen.append(await other.receive())
    await _obey(control, "release", None)
    return [*seen, await busy.receive()]


@scenario(Target)
async def a_connection_reaches_itself(connect: Client) -> object:
    target, _, _ = await _pair(connect)
    return [await target.ask("self"), await target.ask("again"), await target.ask("close self")]


@scenario(
    {"failing": Failing, "target": Target},
    because="a failing outside send or close touches only its own connection, at once",
    ours=[(1011, ""), (1011, ""), "héllo"],
    ruins_panther=True,
)
async def a_failing_send_from_outside_touches_no_other(connect: Client) -> object:
    target = await connect("target/")
    connection_id, control = str(await target.receive()), await connect("/control/")
    seen: list[object] = []
    for do, options in (("send", {}), ("close", {"code": 4999})):
        failing = await connect("failing/")
        await _obey(control, do, str(await failing.receive()), **options)
        try:
            seen.append(await failing.receive(1))
        except TimeoutError:
            seen.append("silence")
    await _obey(control, "send", connection_id)
    try:
        return [*seen, await target.receive(1)]
    except TimeoutError:
        return "silence"
