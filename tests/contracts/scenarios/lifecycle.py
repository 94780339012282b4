"""Accepting, refusing, closing and failing."""

import asyncio

from tests.client import Client
from tests.contracts.scenarios.registry import scenario


@scenario
async def not_accepted_is_refused(connect: Client) -> object:
    return [await connect.status("/lifecycle/silent/"), await connect.journal(1)]


@scenario
async def a_class_without_hooks_refuses(connect: Client) -> object:
    return await connect.status("/lifecycle/untouched/")


@scenario
async def close_before_accept_refuses(connect: Client) -> object:
    return [await connect.status("/lifecycle/refusing/"), await connect.journal(2)]


@scenario
async def close_before_accept_with_code_refuses(connect: Client) -> object:
    return await connect.status("/lifecycle/refusing-with-code/")


@scenario
async def accept_after_close_raises(connect: Client) -> object:
    status = await connect.status("/lifecycle/refusing-then-accepting/")
    return [status, await connect.journal(2)]


@scenario
async def close_after_accept_in_connect(connect: Client) -> object:
    closing = await connect("/lifecycle/closing-at-once/")
    return [closing.status, await closing.receive()]


@scenario
async def messages_sent_in_connect_arrive_in_order(connect: Client) -> object:
    greeting = await connect("/lifecycle/greeting/")
    return [*await greeting.messages(3), await greeting.ask("after")]


@scenario
async def messages_sent_before_the_accept_are_kept(connect: Client) -> object:
    """A client may send while connect() is still at it."""
    greeting = await connect("/lifecycle/greeting/")
    await greeting.send("early")
    return await greeting.messages(4)


@scenario
async def send_before_accept_raises(connect: Client) -> object:
    return await connect.first("/lifecycle/sending-early/")


@scenario
async def send_after_close_raises(connect: Client) -> object:
    sending = await connect("/lifecycle/sending-late/")
    return [await sending.ask("go"), await connect.journal(1)]


@scenario
async def a_second_accept_raises(connect: Client) -> object:
    return await connect.first("/lifecycle/accepting-twice/")


async def _closing(connect: Client, order: str) -> object:
    closing = await connect("/lifecycle/closing/")
    return await closing.ask(order)


@scenario
async def close_without_arguments(connect: Client) -> object:
    return await _closing(connect, "default")


@scenario
async def close_with_a_named_code(connect: Client) -> object:
    return await _closing(connect, "named")


@scenario
async def close_codes_of_the_protocol(connect: Client) -> object:
    codes = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013)
    return [await _closing(connect, str(code)) for code in codes]


@scenario
async def close_codes_of_the_protocol_with_reasons(connect: Client) -> object:
    return [await _closing(connect, f"{code} because {code}") for code in (1000, 1001, 1008, 1011)]


@scenario
async def close_codes_of_applications(connect: Client) -> object:
    return [await _closing(connect, str(code)) for code in (3000, 3999, 4000, 4999)]


@scenario
async def close_codes_of_applications_with_reasons(connect: Client) -> object:
    return [await _closing(connect, f"{code} because {code}") for code in (3000, 4000, 4999)]


@scenario
async def close_reasons_may_be_unicode(connect: Client) -> object:
    reasons = ("до свидания", "👋", "é" * 61 + "x")
    return [await _closing(connect, f"4000 {reason}") for reason in reasons]


@scenario
async def only_the_first_close_counts(connect: Client) -> object:
    closing = await connect("/lifecycle/closing-twice/")
    return await closing.ask("go")


@scenario
async def what_no_close_frame_can_carry_raises_in_the_caller(connect: Client) -> object:
    seen = []
    for order in ("999 0", "1005 0", "1006 0", "1015 0", "5000 0", "4000 124", "1000 500"):
        closing = await connect("/lifecycle/closing-badly/")
        seen.append((order, await closing.ask(order)))
    return seen


@scenario
async def an_overridden_close_is_used(connect: Client) -> object:
    goodbye = await connect("/lifecycle/goodbye/")
    await goodbye.send("go")
    return await goodbye.until_closed()


@scenario
async def states_of_a_connection(connect: Client) -> object:
    stateful = await connect("/lifecycle/stateful/")
    return [await stateful.ask("go"), await connect.journal(4)]


@scenario
async def the_id_stays_the_same(connect: Client) -> object:
    identified = await connect("/lifecycle/identified/")
    await identified.receive()
    ids = {await identified.ask("id") for _ in range(3)}
    other = await connect("/lifecycle/identified/")
    await other.receive()
    return [len(ids), await other.ask("id") in ids]


@scenario
async def the_id_is_a_string(connect: Client) -> object:
    return await connect.first("/lifecycle/identified/")


@scenario
async def connections_of_one_class_share_nothing(connect: Client) -> object:
    one = await connect("/lifecycle/counting/")
    two = await connect("/lifecycle/counting/")
    return [await one.ask("a"), await two.ask("b"), await one.ask("c"), await two.ask("d")]


@scenario
async def receive_runs_one_message_at_a_time(connect: Client) -> object:
    slow = await connect("/lifecycle/slow/")
    for number in range(10):
        await slow.send(str(number))
    return await slow.messages(10)


@scenario
async def other_connections_go_on_beside_a_slow_one(connect: Client) -> object:
    slow, quick = await asyncio.gather(connect("/lifecycle/slow/"), connect("/lifecycle/slow/"))
    await slow.send("0")
    return [await quick.ask("1"), await slow.receive()]


@scenario
async def messages_before_the_own_close_are_received(connect: Client) -> object:
    closing = await connect("/lifecycle/closing-on-request/")
    await closing.send("before")
    await closing.send("close")
    end = await closing.receive()
    return [end, await connect.journal(2)]


@scenario
async def the_client_closes(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    await echo.ask("one")
    return await echo.close()


@scenario
async def the_client_closes_with_a_code(connect: Client) -> object:
    ends = []
    for code, reason in ((1000, "done"), (1001, ""), (3000, "three"), (4999, "до свидания")):
        echo = await connect("/messages/echo/")
        ends.append(await echo.close(code, reason))
    return ends


@scenario
async def the_client_vanishes(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    await echo.ask("one")
    await echo.abort()
    other = await connect("/messages/echo/")
    return await other.ask("two")


@scenario
async def a_subprotocol_is_chosen(connect: Client) -> object:
    speaking = await connect(
        "/lifecycle/speaking/?choose=chat", subprotocols=["superchat", "chat", "other"]
    )
    return [speaking.subprotocol, await speaking.receive()]


@scenario
async def no_subprotocol_is_chosen(connect: Client) -> object:
    offered = await connect("/lifecycle/speaking/", subprotocols=["chat"])
    none = await connect("/lifecycle/speaking/")
    return [
        [offered.subprotocol, await offered.receive()],
        [none.subprotocol, await none.receive()],
    ]


@scenario
async def accept_with_headers(connect: Client) -> object:
    accepted = await connect("/lifecycle/accepting-with-headers/")
    if accepted.status != 101:
        return accepted.status
    return [accepted.headers.get("x-contract"), await accepted.receive()]


@scenario
async def disconnect_is_told_of_a_client_close(connect: Client) -> object:
    departing = await connect("/lifecycle/departing/")
    await departing.receive()
    return [await departing.close(4321, "leaving"), await connect.journal(1)]


@scenario
async def an_exception_before_accept_refuses(connect: Client) -> object:
    return await connect.status("/lifecycle/failing/before-accept/")


@scenario
async def an_exception_after_accept_in_connect(connect: Client) -> object:
    failing = await connect("/lifecycle/failing/after-accept/")
    return [failing.status, await failing.receive()]


@scenario
async def an_exception_in_receive(connect: Client) -> object:
    failing = await connect("/lifecycle/failing/in-receive/")
    return await failing.ask("go")


@scenario
async def a_package_error_before_accept(connect: Client) -> object:
    return await connect.status("/lifecycle/raising/before-accept/")


@scenario
async def a_package_error_in_receive(connect: Client) -> object:
    raising = await connect("/lifecycle/raising/in-receive/")
    return await raising.ask("go")
