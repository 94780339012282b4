"""What is sent, and what arrives."""

import dataclasses
import datetime
import enum
import uuid
from collections import OrderedDict, defaultdict
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.functional import lazystr

from tests.client import Client
from tests.contracts.applications.package import GenericWebsocket
from tests.contracts.scenarios.registry import URLS, Scenario, add, scenario


class Colour(enum.Enum):
    RED = "red"
    NESTED = (1, "two")


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    HELLO = "hello"


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Author:
    name: str
    id: uuid.UUID


@dataclasses.dataclass
class Book:
    title: str
    author: Author
    tags: tuple[str, ...] = ("a", "b")
    published: datetime.date = datetime.date(1999, 12, 31)


_ID = uuid.UUID("7e82d57c-9ec0-4787-b019-16910a9f45aa")
_NAIVE = datetime.datetime(2024, 2, 29, 23, 59, 58, 123456)
_OFFSET = datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))
_ESCAPES = 'quote " backslash \\ slash / newline \n tab \t null \x00 delete \x7f \u2028'
_loop: list[object] = []
_loop.append(_loop)

VALUES: dict[str, list[Any]] = {
    "nested_objects_are_compact_json": [
        {"a": [1, {"b": [None, True, {"c": []}], "d": {}}], "z": {"y": {"x": "w"}}},
        {"z": 1, "a": 2, "m": 3},
        *({}, [], (), (1, (2, ("three",)))),
    ],
    "datetimes_keep_microseconds_and_offset": [
        *(_NAIVE, _NAIVE.replace(microsecond=0), _NAIVE.replace(microsecond=120000)),
        *(_NAIVE.replace(tzinfo=tz) for tz in (datetime.UTC, ZoneInfo("Asia/Tehran"), _OFFSET)),
        *(datetime.date(2024, 2, 29), datetime.time(1, 2, 3, 4)),
    ],
    "uuids_are_strings": [_ID, [_ID]],
    "enums_are_their_values": [Colour.RED, Colour.NESTED, Level.HIGH, Word.HELLO],
    "dataclasses_are_objects": [Book("One", Author("Ann", _ID))],
    "what_json_has_no_number_for_is_null": [[float("nan"), float("inf"), float("-inf")]],
    "null_and_booleans_are_json": [None, [None, {"a": None}], True, False, 0],
    "numbers_are_exact": [
        *(2**53, -(2**63), 2**64 - 1),
        [0.1, 0.1 + 0.2, 1.0, -0.0, 1e16, 1e-7, 1.5e300, 123456789.125],
    ],
    "unicode_in_json_is_not_escaped": [
        {"ключ": "значение", "emoji": "👩‍🚀", "accent": "é"},
        *(_ESCAPES, {"text": _ESCAPES}),
    ],
    "subclasses_are_what_they_subclass": [
        *(Text("text"), [Word.HELLO, Text("text")]),
        OrderedDict(a=defaultdict(list, {"b": [1]})),
    ],
    "strings_and_bytes_are_sent_as_they_are": ["plain", '{"a": 1}', "", bytes(range(256)), b""],
    "large_values_are_sent_whole": ["é" * 70_000, b"\x00\xff" * 100_000, list(range(30_000))],
    "what_cannot_be_encoded_raises_in_the_caller": [
        *(object(), {1}, len, 2**64, ["\ud800"], _loop, {1: "one"}, [b"one"], bytearray(b"one")),
        ValueError("one"),
    ],
    "a_lone_surrogate_raises_in_the_caller": ["\ud800"],
}


class Values(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        name, number = str(data).split()
        try:
            await self.send(data=VALUES[name][int(number)])
        except Exception as error:
            await self.send(f"raised {isinstance(error, (TypeError, UnicodeEncodeError))}")


async def _values(name: str, connect: Client) -> object:
    values = await connect("")
    return [await values.ask(f"{name} {number}") for number in range(len(VALUES[name]))]


for name in VALUES:
    add(Scenario(name, partial(_values, name), f"/{name}/"), Values)
VALUES["lazy_strings_are_text"] = [lazystr("é"), [lazystr("é")]]
_lazy = partial(_values, "lazy_strings_are_text")
add(
    Scenario("lazy_strings_are_text", _lazy, "/lazy_strings_are_text/", ours=["é", '["é"]']), Values
)


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


URLS["messages"] = {"echo": Echo}

ECHOED: dict[str, list[str | bytes]] = {
    "text_is_echoed_as_text": ["hello", "ключ", "👩‍🚀", "a\x00b\u2028\x7f", "e\u0301"],
    "bytes_are_echoed_as_binary": [bytes(range(256)), b"text"],
    "empty_messages_are_echoed": ["", b"", "after"],
    "large_messages_are_echoed": [
        *("x" * 125, "x" * 126, "x" * 65_535, "é" * 65_536, "x" * 500_000, b"\xff" * 500_000)
    ],
    "json_text_is_left_alone": ['{"a": 1}', "null", "[1,2]", '"quoted"'],
}


async def _echoed(messages: list[str | bytes], connect: Client) -> object:
    echo = await connect("")
    return [await echo.ask(message) for message in messages]


for name, messages in ECHOED.items():
    add(Scenario(name, partial(_echoed, messages), f"/{name}/"), Echo)


class Describe(Echo):
    """Tells type and length of what came in."""

    async def receive(self, data: str | bytes) -> None:
        await self.send({"type": type(data).__name__, "length": len(data)})


@scenario({"describe": Describe, "echo": Echo})
async def fragments_arrive_as_one_message(connect: Client) -> object:
    describe, echo = await connect("describe/"), await connect("echo/")
    return [
        await describe.ask(["one", "two", "three"]),
        await describe.ask([b"one", b"two"]),
        await echo.ask(["o", "", "ne"]),
    ]


@scenario(Describe)
async def receive_is_given_str_or_bytes(connect: Client) -> object:
    describe = await connect("")
    return [await describe.ask(message) for message in ("", b"", "é", "é".encode(), "12")]


LIMIT = 2**20


@scenario(
    Describe,
    ours=[
        *(f'{{"type":"str","length":{LIMIT}}}', f'{{"type":"str","length":{LIMIT // 2}}}'),
        f'{{"type":"bytes","length":{LIMIT}}}',
        *[(1009, f"a message has {LIMIT} bytes at most")] * 3,
    ],
)
async def a_message_has_a_largest_size(connect: Client) -> object:
    seen = []
    for more in (0, 1):
        for message in ("x" * (LIMIT + more), "é" * (LIMIT // 2 + more), b"x" * (LIMIT + more)):
            seen.append(await (await connect("")).ask(message))  # noqa: PERF401 (one at a time)
    return seen


@scenario(Echo)
async def many_messages_keep_their_order(connect: Client) -> object:
    echo = await connect("")
    for number in range(200):
        await echo.send(str(number) if number % 2 else str(number).encode())
    return await echo.messages(200)


@scenario(Echo)
async def a_ping_is_answered(connect: Client) -> object:
    echo = await connect("")
    await echo.ping()
    return await echo.ask("after")


class Shouting(GenericWebsocket):
    """Overrides send(), as Panther allows; sends without an argument."""

    async def connect(self):
        await self.accept()
        await self.send("hello")
        await self.send()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)

    async def send(self, data=None) -> None:
        if isinstance(data, str):
            data = {"shouted": data.upper()}
        await super().send(data=data)


class Subclass(Shouting):
    """Inherits its hooks."""


@scenario({"own": Shouting, "inherited": Subclass})
async def an_overridden_send_is_used(connect: Client) -> object:
    seen = []
    for path in ("own/", "inherited/"):
        shouting = await connect(path)
        seen += [*await shouting.messages(2), await shouting.ask("again"), await shouting.ask(b"b")]
    return seen
