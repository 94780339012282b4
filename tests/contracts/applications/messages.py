"""Classes whose messages the client compares frame by frame."""

import dataclasses
import datetime
import enum
import uuid
from collections import OrderedDict, defaultdict
from zoneinfo import ZoneInfo

from tests.contracts.applications.package import GenericWebsocket


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
_loop: list[object] = []
_loop.append(_loop)

VALUES: dict[str, object] = {
    "nested": {"a": [1, {"b": [None, True, {"c": []}], "d": {}}], "z": {"y": {"x": "w"}}},
    "order": {"z": 1, "a": 2, "m": 3},
    "datetime naive": _NAIVE,
    "datetime whole": _NAIVE.replace(microsecond=0),
    "datetime millis": _NAIVE.replace(microsecond=120000),
    "datetime utc": _NAIVE.replace(tzinfo=datetime.UTC),
    "datetime zone": _NAIVE.replace(tzinfo=ZoneInfo("Asia/Tehran")),
    "datetime offset": _NAIVE.replace(
        tzinfo=datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))
    ),
    "date": datetime.date(2024, 2, 29),
    "time": datetime.time(1, 2, 3, 4),
    "uuid": _ID,
    "uuid in list": [_ID],
    "enum": Colour.RED,
    "enum of tuple": Colour.NESTED,
    "int enum": Level.HIGH,
    "dataclass": Book("One", Author("Ann", _ID)),
    "tuple": (1, (2, ("three",))),
    "nan": [float("nan"), float("inf"), float("-inf")],
    "none": None,
    "nones": [None, {"a": None}],
    "true": True,
    "false": False,
    "zero": 0,
    "int 53": 2**53,
    "int 63": -(2**63),
    "int 64": 2**64 - 1,
    "floats": [0.1, 0.1 + 0.2, 1.0, -0.0, 1e16, 1e-7, 1.5e300, 123456789.125],
    "unicode": {"ключ": "значение", "emoji": "👩‍🚀", "accent": "é"},
    "escapes": 'quote " backslash \\ slash / newline \n tab \t null \x00 delete \x7f \u2028',
    "escapes in dict": {"text": 'quote " backslash \\ slash / newline \n null \x00 \x7f \u2028'},
    "empty dict": {},
    "empty list": [],
    "empty tuple": (),
    "str enum": Word.HELLO,
    "str subclass": Text("text"),
    "str enum in list": [Word.HELLO, Text("text")],
    "dict subclass": OrderedDict(a=defaultdict(list, {"b": [1]})),
    "str": "plain",
    "str of json": '{"a": 1}',
    "bytes": bytes(range(256)),
    "empty str": "",
    "empty bytes": b"",
    "long str": "é" * 70_000,
    "long bytes": b"\x00\xff" * 100_000,
    "long list": list(range(30_000)),
}

UNENCODABLE: dict[str, object] = {
    "object": object(),
    "set": {1},
    "function": len,
    "int beyond 64 bits": 2**64,
    "surrogate in a list": ["\ud800"],
    "circle": _loop,
    "key of a number": {1: "one"},
    "bytes in a list": [b"one"],
    "bytearray": bytearray(b"one"),
    "exception": ValueError("one"),
}


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


class Describe(GenericWebsocket):
    """Tells type and length of what came in."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send({"type": type(data).__name__, "length": len(data)})


class Values(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data=VALUES[str(data)])


class Unencodable(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        name = str(data)
        value = "\ud800" if name == "surrogate" else UNENCODABLE[name]
        try:
            await self.send(value)
        except Exception as error:
            await self.send(f"{name}: {isinstance(error, (TypeError, UnicodeEncodeError))}")
        else:
            await self.send("sent")


class Nothing(GenericWebsocket):
    """Sends without an argument."""

    async def connect(self):
        await self.accept()
        await self.send()


class Shouting(GenericWebsocket):
    """Overrides send(), as Panther allows."""

    async def connect(self):
        await self.accept()
        await self.send("hello")

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)

    async def send(self, data=None) -> None:
        if isinstance(data, str):
            data = {"shouted": data.upper()}
        await super().send(data=data)


class Subclass(Shouting):
    """Inherits its hooks."""


URLS = {
    "echo": Echo,
    "describe": Describe,
    "values": Values,
    "unencodable": Unencodable,
    "nothing": Nothing,
    "shouting": Shouting,
    "subclass": Subclass,
}
