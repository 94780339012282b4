"""Messages and closes from another connection's handler."""

import json
from typing import Any

from tests.client import Client, Connection, Message
from tests.contracts.scenarios.registry import ruinous_scenario, scenario


async def _pair(connect: Client, path: str = "target") -> tuple[Connection, str, Connection]:
    """A target, its id, and the connection that reaches it."""
    target = await connect(f"/outside/{path}/")
    return target, str(await target.receive()), await connect("/outside/control/")


async def _obey(control: Connection, do: str, target: object, **options: object) -> Message:
    return await control.ask(json.dumps({"do": do, "target": target, **options}))


async def _sent(connect: Client, *values: str, path: str = "target") -> object:
    target, connection_id, control = await _pair(connect, path)
    seen: list[Any] = []
    for value in values:
        answer = await _obey(control, "send", connection_id, value=value)
        seen.append((value, answer, await target.receive()))
    return seen


@scenario
async def text_from_outside(connect: Client) -> object:
    return await _sent(connect, "str", "empty str", "str of json", "str null")


@scenario
async def objects_from_outside(connect: Client) -> object:
    return await _sent(connect, "dict", "list")


@scenario
async def numbers_and_none_from_outside(connect: Client) -> object:
    return await _sent(connect, "int", "float", "none", "true")


@scenario
async def a_tuple_from_outside(connect: Client) -> object:
    return await _sent(connect, "tuple")


@scenario
async def rich_values_from_outside(connect: Client) -> object:
    return await _sent(connect, "uuid", "nan", "int 64")


@scenario
async def a_datetime_from_outside(connect: Client) -> object:
    return await _sent(connect, "datetime")


@scenario
async def a_large_text_from_outside(connect: Client) -> object:
    return await _sent(connect, "large")


@scenario
async def bytes_from_outside(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    answer = await _obey(control, "send", connection_id, value="bytes")
    await _obey(control, "send", connection_id, value="str")
    return [answer, await target.receive()]


@scenario
async def what_cannot_be_encoded_raises_in_the_sender(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    return [
        await _obey(control, "send", connection_id, value="object"),
        await _obey(control, "send", connection_id, value="number as key"),
        await _obey(control, "send", connection_id, value="str"),
        await target.receive(),
    ]


@scenario
async def an_overridden_send_sees_python_values(connect: Client) -> object:
    values = ("str", "empty str", "str of json", "dict", "list", "int", "float", "none", "true")
    return await _sent(connect, *values, path="overriding")


@scenario
async def an_overridden_send_sees_what_json_can_carry(connect: Client) -> object:
    values = ("tuple", "datetime", "uuid", "nan", "int 64")
    return await _sent(connect, *values, path="overriding")


@scenario
async def an_overridden_close_is_used_from_outside(connect: Client) -> object:
    target, connection_id, control = await _pair(connect, "overriding")
    await _obey(control, "close", connection_id, code=4001, reason="asked")
    return await target.until_closed()


@scenario
async def unknown_ids_do_nothing(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    unknown = [
        connection_id[:-1],
        connection_id + "0",
        "f" * 32,
        "0" * 26,
        connection_id.swapcase() + "x",
    ]
    answers = [await _obey(control, "send", each, value="str") for each in unknown]
    answers += [await _obey(control, "close", each) for each in unknown]
    return [answers, await target.ask("still here")]


@scenario
async def malformed_ids_do_nothing(connect: Client) -> object:
    target, _, control = await _pair(connect)
    malformed = ["", " ", "x" * 500, "bad id\n", "a/b", "é", "*"]
    answers = [await _obey(control, "send", each, value="str") for each in malformed]
    answers += [await _obey(control, "close", each) for each in malformed]
    return [answers, await target.ask("still here")]


@scenario
async def no_id_does_nothing(connect: Client) -> object:
    """What ``connection_id`` is before accept and after the close."""
    target, _, control = await _pair(connect)
    answers = [
        await _obey(control, "send", None, value="str"),
        await _obey(control, "close", None),
    ]
    return [answers, await target.ask("still here")]


@scenario
async def a_closed_connection_is_not_reached(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    await target.close()
    return [
        await _obey(control, "send", connection_id, value="str"),
        await _obey(control, "close", connection_id, code=4001),
        await connect.first("/messages/nothing/"),
    ]


@scenario
async def only_the_addressed_connection_is_reached(connect: Client) -> object:
    one, one_id, control = await _pair(connect)
    two, two_id, _ = await _pair(connect)
    await _obey(control, "send", one_id, value="int")
    await _obey(control, "send", two_id, value="float")
    return [await one.receive(), await two.receive(), await one.ask("a"), await two.ask("b")]


@scenario
async def a_hundred_messages_keep_their_order(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    return [await _obey(control, "count", connection_id, to=100), await target.messages(100)]


@scenario
async def a_close_from_outside(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    return [await _obey(control, "close", connection_id), await target.receive()]


@scenario
async def a_close_from_outside_with_code_and_reason(connect: Client) -> object:
    seen = []
    for code, reason in ((1008, "policy"), (4001, ""), (4999, "до свидания"), (3000, "three")):
        target, connection_id, control = await _pair(connect)
        await _obey(control, "close", connection_id, code=code, reason=reason)
        seen.append(await target.receive())
    return seen


@scenario
async def a_close_from_outside_by_the_codes_name(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    return [await _obey(control, "close by name", connection_id), await target.receive()]


@scenario
async def messages_before_a_close_from_outside_arrive(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    await _obey(control, "count", connection_id, to=10)
    await _obey(control, "close", connection_id, code=4000, reason="after ten")
    await _obey(control, "send", connection_id, value="str")
    return await target.until_closed()


@scenario
async def a_send_from_outside_during_receive(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    seen = [await target.ask("block")]
    await _obey(control, "send", connection_id, value="str")
    seen.append(await target.receive())
    await _obey(control, "release", None)
    return [*seen, await target.receive(), await target.ask("after")]


@scenario
async def a_close_from_outside_during_receive(connect: Client) -> object:
    target, connection_id, control = await _pair(connect)
    seen = [await target.ask("block")]
    await _obey(control, "close", connection_id, code=4002, reason="busy")
    seen.append(await target.receive())
    await _obey(control, "release", None)
    return seen


@scenario
async def a_send_from_outside_during_connect(connect: Client) -> object:
    busy, connection_id, control = await _pair(connect, "busy-in-connect")
    await _obey(control, "send", connection_id, value="str")
    seen = [await busy.receive()]
    await _obey(control, "release", None)
    return [*seen, await busy.receive()]


@scenario
async def a_connection_reaches_itself(connect: Client) -> object:
    target, _, _ = await _pair(connect)
    return [await target.ask("self"), await target.ask("again"), await target.ask("close self")]


@ruinous_scenario
async def a_failing_send_from_outside_touches_no_other(connect: Client) -> object:
    _, failing_id, control = await _pair(connect, "failing")
    target, connection_id, _ = await _pair(connect)
    await _obey(control, "send", failing_id, value="str")
    await _obey(control, "send", connection_id, value="str")
    try:
        return await target.receive()
    except TimeoutError:
        return "silence"
