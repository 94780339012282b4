"""Parts of the path that connect() takes."""

from tests.client import Client
from tests.contracts.scenarios.registry import scenario


async def _first(connect: Client, prefix: str, *values: str) -> list[object]:
    return [(value, await connect.first(f"{prefix}{value}/")) for value in values]


@scenario
async def integers_are_cast(connect: Client) -> object:
    return await _first(
        connect, "/path/int/", "5", "0", "007", "123456789012345678901234567890"[:18]
    )


@scenario
async def negative_and_signed_integers_are_cast(connect: Client) -> object:
    return await _first(connect, "/path/int/", "-5", "+5", "-0")


@scenario
async def integers_are_what_int_takes(connect: Client) -> object:
    return await _first(connect, "/path/int/", "1_000", "%205%20", "%D9%A3", "%EF%BC%95")


@scenario
async def a_bad_integer_is_refused(connect: Client) -> object:
    return await _first(
        connect, "/path/int/", "x", "5.0", "0x10", "1e3", "--5", "5x", "None", "%20"
    )


@scenario
async def booleans_are_cast(connect: Client) -> object:
    spellings = ("true", "True", "TRUE", "tRuE", "1", "false", "False", "FALSE", "fAlSe", "0")
    return await _first(connect, "/path/bool/", *spellings)


@scenario
async def a_bad_boolean_is_refused(connect: Client) -> object:
    return await _first(
        connect, "/path/bool/", "yes", "no", "on", "2", "01", "t", "None", "%20true"
    )


@scenario
async def a_variable_without_annotation_is_a_string(connect: Client) -> object:
    return await _first(connect, "/path/untyped/", "5", "true", "a-b_c.d~e")


@scenario
async def a_string_stays_a_string(connect: Client) -> object:
    return await _first(connect, "/path/str/", "5", "true", "None")


@scenario
async def variables_are_percent_decoded(connect: Client) -> object:
    return await _first(
        connect, "/path/str/", "a%20b", "%D1%8F", "a+b", "100%25", "%F0%9F%91%8B", "a@b:c"
    )


@scenario
async def several_variables(connect: Client) -> object:
    return [
        await connect.first("/path/mixed/5/rooms/lobby/true/more/"),
        await connect.first("/path/mixed/5/rooms/6/0/7"),
        await connect.first("/path/mixed/x/rooms/lobby/true/more/"),
        await connect.first("/path/mixed/5/rooms/lobby/maybe/more/"),
    ]


@scenario
async def variables_as_keywords(connect: Client) -> object:
    return [
        await connect.first("/path/keywords/1/two/"),
        await connect.first("/path/mixed-keywords/1/two/"),
    ]


@scenario
async def a_default_where_the_path_has_no_variable(connect: Client) -> object:
    return [await connect.first("/path/default/5/"), await connect.first("/path/default/5/6/")]


@scenario
async def the_connection_is_a_parameter(connect: Client) -> object:
    return [
        await connect.first("/path/injected/5/"),
        await connect.first("/path/injected-generic/5/"),
    ]


@scenario
async def path_variables_stay_strings(connect: Client) -> object:
    attribute = await connect("/path/attribute/5/true/%D1%8F/")
    return [await attribute.receive(), await attribute.ask("again")]


@scenario
async def no_path_variables(connect: Client) -> object:
    return await connect.first("/path/none/")


@scenario
async def floats_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/float/", "1.5", "2")


@scenario
async def uuids_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/uuid/", "7e82d57c9ec04787b01916910a9f45aa")


@scenario
async def decimals_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/decimal/", "1.50")


@scenario
async def dates_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/date/", "2024-02-29")


@scenario
async def datetimes_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/datetime/", "2024-02-29T12:30:00")


@scenario
async def enums_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/enum/", "winter")


@scenario
async def a_bad_value_of_a_richer_type(connect: Client) -> object:
    return [
        await connect.status(f"/casts/{path}/")
        for path in ("float/x", "uuid/x", "decimal/x", "date/x", "datetime/x", "enum/summer")
    ]


@scenario
async def literals_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/literal/", "left", "up")


@scenario
async def optional_integers_are_cast(connect: Client) -> object:
    return await _first(connect, "/casts/optional/", "5", "x")


@scenario
async def union_with_none_is_cast(connect: Client) -> object:
    return await _first(connect, "/casts/union/", "5", "x")


@scenario
async def connect_with_a_return_annotation(connect: Client) -> object:
    return await _first(connect, "/casts/returning/", "5", "x")


@scenario
async def postponed_annotations(connect: Client) -> object:
    return await _first(connect, "/casts/postponed/", "5", "x")
