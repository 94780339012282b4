"""Accepting, refusing, closing and failing."""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlencode

from tests.client import Client, Closed, Connection
from tests.contracts.applications.journal import facts, note
from tests.contracts.applications.package import (
    GenericWebsocket,
    MeantError,
    WebsocketError,
    status,
)
from tests.contracts.scenarios.registry import URLS, Scenario, add, scenario


class Steps(GenericWebsocket):
    """Does what the query parameters named after the hooks, or a frame, say: steps, with spaces.

    Of the hook that the parameter "note" names it notes what each step raised, and the state after
    it.
    """

    async def connect(self):
        await self.take("connect", self.query_params.get("connect", ""))

    async def receive(self, data: str | bytes) -> None:
        await self.take("receive", str(data))

    async def disconnect(self, code: int) -> None:
        if "told" in self.query_params:
            note(self, [code, *facts(self)])
        await self.take("disconnect", self.query_params.get("disconnect", ""))

    async def take(self, hook: str, steps: str) -> None:
        outcomes = []
        for step in steps.split():
            name, _, argument = step.partition(":")
            if name == "raise":
                raise (WebsocketError if argument else MeantError)(f"meant: {argument or hook}")
            try:
                await getattr(self, f"do_{name}")(argument)
            except Exception as error:
                outcomes.append(f"{step}={_kind(error, self.state)}")
            else:
                outcomes.append(f"{step}=ok")
            outcomes.append(self.state)
        if self.query_params.get("note") == hook and steps != "send:.":
            note(self, " ".join(outcomes))

    async def do_accept(self, subprotocol: str) -> None:
        await self.accept(subprotocol=subprotocol or None)

    async def do_header(self, name: str) -> None:
        await self.accept(headers={name: "a\r\nx-evil: 1", "x-good": "1"})

    async def do_send(self, text: str) -> None:
        await self.send(text)

    async def do_close(self, code: str) -> None:
        await self.close(int(code or 1000), "why")

    async def do_reason(self, length: str) -> None:
        await self.close(4000, "x" * int(length))

    async def do_id(self, _: str) -> None:
        await self.send(self.connection_id)

    async def do_note(self, text: str) -> None:
        note(self, text)


def _kind(error: Exception, state: str) -> str:
    if isinstance(error, WebsocketError) and state not in str(error):
        return f"{error}, which does not tell the state"
    kinds = (WebsocketError, ValueError, Exception)
    return next(kind.__name__ for kind in kinds if isinstance(error, kind))


URLS["steps"] = Steps

Row = tuple[str, str, Sequence[object]]
#: steps in connect(); what each gave, with the state after it; what the client saw
IN_CONNECT: list[Row] = [
    ("", "", [403]),
    ("send:a", "send:a=WebsocketError Connected", [403]),
    ("send:a accept", "send:a=WebsocketError Connected accept=ok Accepted", []),
    ("accept", "accept=ok Accepted", []),
    ("accept accept", "accept=ok Accepted accept=WebsocketError Accepted", []),
    ("accept:chat", "accept:chat=ok Accepted", ["chat"]),
    ("accept:other", "accept:other=ValueError Connected", [403]),
    ("accept:other accept", "accept:other=ValueError Connected accept=ok Accepted", []),
    ("header:x-bad", "header:x-bad=ValueError Connected", [403]),
    ("header:x-bad accept", "header:x-bad=ValueError Connected accept=ok Accepted", []),
    (
        "accept send:a send:b",
        "accept=ok Accepted send:a=ok Accepted send:b=ok Accepted",
        ["a", "b"],
    ),
    ("accept send:", "accept=ok Accepted send:=ok Accepted", [""]),
    ("close", "close=ok Rejected", [403]),
    ("close:4001", "close:4001=ok Rejected", [403]),
    ("close close", "close=ok Rejected close=ok Rejected", [403]),
    ("close accept", "close=ok Rejected accept=WebsocketError Rejected", [403]),
    ("close send:a", "close=ok Rejected send:a=WebsocketError Rejected", [403]),
    ("close:1005 accept", "close:1005=ValueError Connected accept=ok Accepted", []),
    ("accept close", "accept=ok Accepted close=ok Closed", [(1000, "why")]),
    (
        "accept send:a close:4001",
        "accept=ok Accepted send:a=ok Accepted close:4001=ok Closed",
        ["a", (4001, "why")],
    ),
]
#: the same for a frame on the open connection
IN_RECEIVE: list[Row] = [
    ("accept", "accept=WebsocketError Accepted", []),
    ("send:a send:b", "send:a=ok Accepted send:b=ok Accepted", ["a", "b"]),
    *(
        (f"close:{code}", f"close:{code}=ok Closed", [(code, "why")])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 3999, 4999)
    ),
    ("close:1014", "close:1014=ok Closed", [(1014, "why")]),
    ("close:4001 close:4002", "close:4001=ok Closed close:4002=ok Closed", [(4001, "why")]),
    ("close:4001 send:a", "close:4001=ok Closed send:a=WebsocketError Closed", [(4001, "why")]),
    ("close:4001 accept", "close:4001=ok Closed accept=WebsocketError Closed", [(4001, "why")]),
    *(
        (f"close:{code} send:a", f"close:{code}=ValueError Accepted send:a=ok Accepted", ["a"])
        for code in (0, 999, 1004, 1005, 1006, 1015, 2000, 5000)
    ),
    ("reason:124 send:a", "reason:124=ValueError Accepted send:a=ok Accepted", ["a"]),
    ("reason:123", "reason:123=ok Closed", [(4000, "x" * 123)]),
]
IN_DISCONNECT: list[Row] = [
    ("send:a", "send:a=WebsocketError Closed", []),
    ("accept", "accept=WebsocketError Closed", []),
    ("close", "close=ok Closed", []),
    ("close:1005", "close:1005=ValueError Closed", []),
]
# Where Panther raises another time, or not at all, or its server ends the connection.
OURS_ALONE = {
    *("accept:other", "accept:other accept", "header:x-bad", "header:x-bad accept"),
    *("close close", "close:1005 accept", "close:4001 close:4002"),
    "close:1014",
    *(row[0] for row in IN_RECEIVE if "ValueError" in row[1]),
}


async def _steps(hook: str, steps: str, connect: Client) -> tuple[list[object], str]:
    """What came, up to the end or an answer to the last frame, and what the hook noted."""
    parameters = {"note": hook, "connect": "accept", hook: steps}
    attempt = await connect(f"/steps/?{urlencode(parameters)}", subprotocols=["chat"])
    seen: list[object] = [attempt.subprotocol] if attempt.subprotocol else []
    if attempt.status == 101:
        if hook == "receive":
            await attempt.send(steps)
        await attempt.send("send:.")
        while (message := await attempt.receive()) != ".":
            seen.append(message)
            if isinstance(message, Closed):
                break
        if hook == "disconnect":
            await attempt.close()
        assert "x-evil" not in attempt.headers
    else:
        seen.append(attempt.status)
    return seen, next(entry for entry in await connect.journal(1) if isinstance(entry, str))


TABLES = {"connect": IN_CONNECT, "receive": IN_RECEIVE, "disconnect": IN_DISCONNECT}
for hook, rows in TABLES.items():
    for steps, outcome, seen in rows:
        play = partial(_steps, hook, steps)
        add(Scenario(f"in {hook}: {steps}", play, ours=(seen, outcome)))


@scenario
async def what_accept_send_and_close_do_in_every_state(connect: Client) -> object:
    """All rows but for the class of an error, since Panther's are others."""
    answers = []
    for hook in ("connect", "receive"):
        for steps, _, _ in TABLES[hook]:
            if steps not in OURS_ALONE:
                seen, outcome = await _steps(hook, steps, connect)
                for kind in ("WebsocketError", "ValueError", "Exception"):
                    outcome = outcome.replace(f"={kind}", "=raised")
                answers.append((steps, seen, outcome))
    return answers


class Untouched(GenericWebsocket):
    """Overrides nothing."""


@scenario(Untouched)
async def a_class_without_hooks_refuses(connect: Client) -> object:
    return await connect.status("")


class Stateful(GenericWebsocket):
    """Notes its state at each point."""

    async def connect(self):
        note(self, facts(self))
        await (self.close() if self.query_params else self.accept())
        note(self, facts(self))
        self.first_id = self.connection_id

    async def receive(self, data: str | bytes) -> None:
        note(self, [*facts(self), self.connection_id == self.first_id])
        await self.close(4007)
        note(self, facts(self))


@scenario(Stateful)
async def states_of_a_connection(connect: Client) -> object:
    refused = [await connect.status("?refuse=1"), await connect.journal(2)]
    stateful = await connect("")
    return [refused, await stateful.ask("go"), await connect.journal(4)]


class Greeting(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send("one")
        await self.send(b"two")
        await self.send({"three": 3})

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


@scenario(Greeting)
async def messages_sent_before_the_end_of_connect_are_kept(connect: Client) -> object:
    greeting = await connect("")
    await greeting.send("early")
    return await greeting.messages(4)


class Closing(GenericWebsocket):
    """Closes with the reason that the client names."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        if data == "named":
            await self.close(code=status.WS_1008_POLICY_VIOLATION, reason="policy")
        elif data == "default":
            await self.close()
        else:
            await self.close(4000, str(data))


@scenario(Closing)
async def closes_with_and_without_a_reason(connect: Client) -> object:
    orders = ("named", "default", "until then", "до свидания", "👋", "é" * 61 + "x", "")
    return [await (await connect("")).ask(order) for order in orders]


class SayingGoodbye(Closing):
    """Overrides close()."""

    async def close(self, code=1000, reason="") -> None:
        await self.send("goodbye")
        await super().close(code=code, reason=f"{reason}!")


@scenario(SayingGoodbye)
async def an_overridden_close_is_used(connect: Client) -> object:
    goodbye = await connect("")
    await goodbye.send("bye")
    return await goodbye.until_closed()


class Identified(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send([type(self.connection_id).__name__, len(self.connection_id)])

    async def receive(self, data: str | bytes) -> None:
        await self.send(self.connection_id)


@scenario(
    Identified,
    because="an id is 32 hexadecimal digits",
    ours=['["str",32]', 1, '["str",32]', False],
)
async def the_id_stays_the_same(connect: Client) -> object:
    identified, other = await connect(""), await connect("")
    seen: list[object] = [await identified.receive()]
    ids = {await identified.ask("id") for _ in range(3)}
    return [*seen, len(ids), await other.receive(), await other.ask("id") in ids]


class Counting(GenericWebsocket):
    """Keeps things on itself."""

    async def connect(self):
        self.seen: list[str] = []
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        self.seen.append(str(data))
        await self.send(self.seen)


@scenario(Counting)
async def connections_of_one_class_share_nothing(connect: Client) -> object:
    one, two = await connect(""), await connect("")
    return [await one.ask("a"), await two.ask("b"), await one.ask("c"), await two.ask("d")]


class Slow(GenericWebsocket):
    """Gives other messages the chance to overtake."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await asyncio.sleep(0.02 if data == "0" else 0)
        await self.send(data)


@scenario(Slow)
async def receive_runs_one_message_at_a_time(connect: Client) -> object:
    slow, quick = await connect(""), await connect("")
    for number in range(10):
        await slow.send(str(number))
    return [await quick.ask("1"), await slow.messages(10)]


@scenario(ours=[(4008, "why"), ["before", "last"]])
async def messages_before_the_own_close_are_received(connect: Client) -> object:
    closing = await connect("/steps/?connect=accept")
    for frame in ("note:before", "note:last close:4008", "note:after"):
        await closing.send(frame)
    return [await closing.receive(), await connect.journal(2)]


@scenario
async def the_client_closes(connect: Client) -> object:
    ends = []
    for code, reason in ((1000, "done"), (1001, ""), (3000, "three"), (4999, "до свидания")):
        echo = await connect("/messages/echo/")
        ends.append([await echo.ask("one"), await echo.close(code, reason)])
    return ends


class Speaking(GenericWebsocket):
    """Chooses a subprotocol."""

    async def connect(self):
        await self.accept(subprotocol=self.query_params.get("choose"))
        await self.send(self.headers.sec_websocket_protocol)


@scenario(Speaking)
async def subprotocols(connect: Client) -> object:
    seen = []
    for path, offered in (("?choose=chat", ["superchat", "chat"]), ("", ["chat"]), ("", [])):
        speaking = await connect(path, subprotocols=offered)
        seen.append([speaking.subprotocol, await speaking.receive()])
    return seen


class AcceptingWithHeaders(GenericWebsocket):
    async def connect(self):
        await self.accept(headers={"X-Contract": "kept"})
        await self.send("open")


@scenario(
    AcceptingWithHeaders,
    because="accept() takes a dict of headers, where Panther's fails",
    ours=["kept", "open"],
)
async def accept_with_headers(connect: Client) -> object:
    accepted = await connect("")
    if accepted.status != 101:
        return accepted.status
    return [accepted.headers.get("x-contract"), await accepted.receive()]


# Every end: disconnect() is called once, and told how it was.

OPEN = "/steps/?connect=accept&told=1"


async def _ask(order: str, connection: Connection, connect: Client) -> None:
    await connection.ask(order)


async def _close(code: int, connection: Connection, connect: Client) -> None:
    await connection.close(code, "bye")


async def _abort(connection: Connection, connect: Client) -> None:
    await connection.abort()


async def _outside(connection: Connection, connect: Client) -> None:
    order = {"do": "close", "target": await connection.ask("id"), "code": 4003}
    await (await connect("/control/")).ask(json.dumps(order))
    await connection.closed()


ENDS = {
    "the client": (partial(_close, 4001), 4001),
    "the client, going away": (partial(_close, 1001), 1001),
    "the client, by name": (partial(_close, 3000), 3000),
    "the client, without a close frame": (_abort, 1006),
    "the handler": (partial(_ask, "close:4002"), 4002),
    "outside": (_outside, 4003),
    "an exception": (partial(_ask, "raise"), 1011),
    "a refusal": (partial(_ask, "raise:enough"), 1011),
}


async def _end(end: object, connect: Client) -> object:
    connection = await connect(OPEN)
    await end(connection, connect)  # type: ignore[operator]
    told = await connect.journal(1)
    other = await connect("/messages/echo/")
    await other.ask("still there")
    return [told, await connect.journal(0)]


for name, (end, code) in ENDS.items():
    told = [[code, "Closed", False, False, True]]
    add(Scenario(f"ended by {name}", partial(_end, end), ours=[told, []]))


@scenario(ours=[403, (1011, ""), ["noted"]])
async def disconnect_is_for_who_was_accepted_and_may_raise(connect: Client) -> object:
    refused = await connect.status("/steps/?connect=raise&disconnect=note:refused")
    failed = await connect.first("/steps/?connect=accept%20raise")
    raising = await connect("/steps/?connect=accept&disconnect=note:noted%20raise")
    await raising.close()
    return [refused, failed, await connect.journal(1)]


# Exceptions

_FAILS = "an exception in a hook closes with 1011 (RFC 6455, section 7.4.1)"
_REFUSES = "an exception before accept refuses the handshake, whatever its class"


async def _raised(steps: str, frame: str, connect: Client) -> object:
    raising = await connect(f"/steps/?{urlencode({'connect': steps})}")
    if raising.status != 101:
        return raising.status
    return await (raising.ask(frame) if frame else raising.receive())


for name, steps, frame, deviation in (
    ("an_exception_before_accept", "raise", "", {}),
    ("an_exception_in_connect", "accept raise", "", {"because": _FAILS, "ours": (1011, "")}),
    ("an_exception_in_receive", "accept", "raise", {"because": _FAILS, "ours": (1011, "")}),
    ("a_package_error_before_accept", "raise:refused", "", {"because": _REFUSES, "ours": 403}),
    (
        "a_package_error_in_receive",
        "accept",
        "raise:enough",
        {"because": _FAILS, "ours": (1011, "meant: enough")},
    ),
):
    add(Scenario(name, partial(_raised, steps, frame), **deviation))
