"""Parts of the path that connect() takes."""

import datetime
import enum
import json
import uuid
from decimal import Decimal
from functools import partial
from typing import Any, Literal, Optional

from tests.client import Client
from tests.contracts.applications.package import GenericWebsocket, Websocket
from tests.contracts.applications.postponed import Postponed
from tests.contracts.scenarios.registry import Scenario, add, scenario


class Season(enum.Enum):
    SPRING = "spring"
    WINTER = "winter"


class _Described(GenericWebsocket):
    async def describe(self, **values: object) -> None:
        await self.accept()
        await self.send({name: [type(each).__name__, str(each)] for name, each in values.items()})


def taking(annotations: dict[str, Any]) -> type[GenericWebsocket]:
    """A class whose connect() takes `value`, so annotated."""

    async def connect(self: _Described, value):
        await self.describe(value=value)

    connect.__annotations__ = annotations
    return type("Taking", (_Described,), {"connect": connect})


async def _first(values: list[str], connect: Client) -> list[object]:
    return [(value, await connect.first(f"{value}/")) for value in values]


def cast(
    name: str, annotations: dict[str, Any], values: list[str], *ours: object, **options: Any
) -> None:
    """A scenario; `ours` are the types and texts of values that only we cast."""
    if ours:
        options["ours"] = [
            (value, each if each == 403 else json.dumps({"value": each}, separators=(",", ":")))
            for value, each in zip(values, ours, strict=True)
        ]
    new = Scenario(name, partial(_first, values), f"/{name}/", **options)
    add(new, {"<value>": taking(annotations)})


cast(
    "integers_are_what_int_takes",
    {"value": int},
    ["5", "0", "007", "9" * 18, "-5", "+5", "-0", "1_000", "%205%20", "%D9%A3", "%EF%BC%95"],
)
cast(
    "a_bad_integer_is_refused",
    {"value": int},
    ["x", "5.0", "0x10", "1e3", "--5", "5x", "None", "%20"],
    refused=400,
)
cast(
    "booleans_are_cast",
    {"value": bool},
    ["true", "True", "TRUE", "tRuE", "1", "false", "False", "FALSE", "fAlSe", "0"],
)
cast(
    "a_bad_boolean_is_refused",
    {"value": bool},
    ["yes", "no", "on", "2", "01", "t", "None", "%20true"],
    refused=400,
)
cast("a_variable_without_annotation_is_a_string", {}, ["5", "true", "a-b_c.d~e"])
cast(
    "a_string_is_percent_decoded",
    {"value": str},
    ["5", "None", "a%20b", "%D1%8F", "a+b", "100%25", "%F0%9F%91%8B", "a@b:c"],
)

STUMBLES = "annotations that Panther stumbles over, and refuses everyone for"
MORE = "more types than int and bool are cast"
FIVE = [("int", "5"), 403]
STUMBLING: dict[str, dict[str, Any]] = {
    "optional_integers_are_cast": {"value": Optional[int]},  # noqa: UP045 (the old spelling is the point)
    "union_with_none_is_cast": {"value": int | None},
    "connect_with_a_return_annotation": {"value": int, "return": None},
}
for name, annotations in STUMBLING.items():
    cast(name, annotations, ["5", "x"], *FIVE, because=STUMBLES, refused=400)
cast(
    "literals_are_cast",
    {"value": Literal["left", "right"]},
    ["left", "up"],
    *(("str", "left"), 403),
    because=STUMBLES,
    refused=400,
)
UUID_1 = "7e82d57c-9ec0-4787-b019-16910a9f45aa"
for annotation, value, text in (
    (float, "2", "2.0"),
    (uuid.UUID, UUID_1.replace("-", ""), UUID_1),
    (Decimal, "1.50", "1.50"),
    (datetime.date, "2024-02-29", "2024-02-29"),
    (datetime.datetime, "2024-02-29T12:30:00", "2024-02-29 12:30:00"),
    (Season, "winter", "Season.WINTER"),
):
    cast(
        f"{annotation.__name__}_is_cast",
        {"value": annotation},
        [value, "x"],
        *((annotation.__name__, text), 403),
        because=MORE,
        refused=400,
    )


@scenario(
    Postponed, "<number>", because=STUMBLES, refused=400, ours=[("5", '["int",5]'), ("x", 403)]
)
async def postponed_annotations(connect: Client) -> object:
    return await _first(["5", "x"], connect)


class Mixed(_Described):
    async def connect(self, user_id: int, room: str, flag: bool, rest):
        await self.describe(user_id=user_id, room=room, flag=flag, rest=rest)


@scenario(Mixed, "<user_id>/rooms/<room>/<flag>/<rest>", refused=400)
async def several_variables(connect: Client) -> object:
    paths = ["5/rooms/lobby/true/more", "5/rooms/6/0/7", "x/rooms/lobby/true/more", "5/rooms/6/x/7"]
    return await _first(paths, connect)


class Keywords(_Described):
    async def connect(self, **kwargs):
        await self.describe(**kwargs)


class MixedKeywords(_Described):
    async def connect(self, number: int, **kwargs):
        await self.describe(number=number, **kwargs)


@scenario({"all/<first>/<second>": Keywords, "some/<number>/<other>": MixedKeywords})
async def variables_as_keywords(connect: Client) -> object:
    return await _first(["all/1/two", "some/1/two"], connect)


class Default(_Described):
    async def connect(self, number: int, page: int = 1):
        await self.describe(number=number, page=page)


@scenario({"": Default, "<page>": Default}, "<number>")
async def a_default_where_the_path_has_no_variable(connect: Client) -> object:
    return await _first(["5", "5/6"], connect)


class Injected(GenericWebsocket):
    async def connect(self, connection: Websocket, number: int):
        await connection.accept()
        await self.send([connection is self, number])


class InjectedGeneric(GenericWebsocket):
    async def connect(self, number: int, connection: GenericWebsocket):
        await self.accept()
        await connection.send([connection.path_variables, number])


@scenario({"base/<number>": Injected, "own/<number>": InjectedGeneric})
async def the_connection_is_a_parameter(connect: Client) -> object:
    return await _first(["base/5", "own/5"], connect)


class Attribute(GenericWebsocket):
    async def connect(self, number: int = 0, flag: bool = False, text: str = ""):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(self.path_variables)


@scenario({"": Attribute, "<number>/<flag>/<text>": Attribute})
async def path_variables_stay_strings(connect: Client) -> object:
    return [await (await connect(path)).ask("which?") for path in ("", "5/true/%D1%8F/")]
