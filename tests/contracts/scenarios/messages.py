"""What is sent, and what arrives."""

from tests.client import Client
from tests.contracts.scenarios.registry import scenario


async def _values(connect: Client, *names: str) -> list[object]:
    values = await connect("/messages/values/")
    return [(name, await values.ask(name)) for name in names]


@scenario
async def text_is_echoed_as_text(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    return [await echo.ask("hello"), await echo.ask("hello again")]


@scenario
async def bytes_are_echoed_as_binary(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    return [await echo.ask(bytes(range(256))), await echo.ask(b"text")]


@scenario
async def empty_messages_are_echoed(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    return [await echo.ask(""), await echo.ask(b""), await echo.ask("after")]


@scenario
async def unicode_is_echoed(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    return [await echo.ask(text) for text in ("ключ", "👩‍🚀", "a\x00b\u2028\x7f", "e\u0301")]


@scenario
async def large_messages_are_echoed(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    texts = ["x" * 125, "x" * 126, "x" * 65_535, "é" * 65_536, "x" * 500_000]
    return [await echo.ask(text) for text in texts] + [await echo.ask(b"\xff" * 500_000)]


@scenario
async def json_text_is_left_alone(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    return [await echo.ask(text) for text in ('{"a": 1}', "null", "[1,2]", '"quoted"')]


@scenario
async def fragments_arrive_as_one_message(connect: Client) -> object:
    describe = await connect("/messages/describe/")
    echo = await connect("/messages/echo/")
    return [
        await describe.ask(["one", "two", "three"]),
        await describe.ask([b"one", b"two"]),
        await echo.ask(["o", "", "ne"]),
    ]


@scenario
async def receive_is_given_str_or_bytes(connect: Client) -> object:
    describe = await connect("/messages/describe/")
    return [await describe.ask(message) for message in ("", b"", "é", "é".encode(), "12")]


@scenario
async def many_messages_keep_their_order(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    for number in range(200):
        await echo.send(str(number) if number % 2 else str(number).encode())
    return await echo.messages(200)


@scenario
async def a_ping_is_answered(connect: Client) -> object:
    echo = await connect("/messages/echo/")
    await echo.ping()
    return await echo.ask("after")


@scenario
async def nested_objects_are_compact_json(connect: Client) -> object:
    return await _values(connect, "nested", "order", "empty dict", "empty list", "empty tuple")


@scenario
async def naive_datetimes_keep_microseconds(connect: Client) -> object:
    return await _values(connect, "datetime naive", "datetime whole", "datetime millis")


@scenario
async def aware_datetimes_keep_their_offset(connect: Client) -> object:
    return await _values(connect, "datetime utc", "datetime zone", "datetime offset")


@scenario
async def dates_and_times_are_iso(connect: Client) -> object:
    return await _values(connect, "date", "time")


@scenario
async def uuids_are_strings(connect: Client) -> object:
    return await _values(connect, "uuid", "uuid in list")


@scenario
async def enums_are_their_values(connect: Client) -> object:
    return await _values(
        connect, "enum", "enum of tuple", "int enum", "str enum", "str enum in list"
    )


@scenario
async def dataclasses_are_objects(connect: Client) -> object:
    return await _values(connect, "dataclass")


@scenario
async def tuples_are_lists(connect: Client) -> object:
    return await _values(connect, "tuple")


@scenario
async def not_a_number_is_null(connect: Client) -> object:
    return await _values(connect, "nan")


@scenario
async def none_is_null(connect: Client) -> object:
    return await _values(connect, "none", "nones")


@scenario
async def booleans_and_zero_are_json(connect: Client) -> object:
    return await _values(connect, "true", "false", "zero")


@scenario
async def large_integers_are_exact(connect: Client) -> object:
    return await _values(connect, "int 53", "int 63", "int 64")


@scenario
async def floats_are_shortest(connect: Client) -> object:
    return await _values(connect, "floats")


@scenario
async def unicode_in_json_is_not_escaped(connect: Client) -> object:
    return await _values(connect, "unicode", "escapes", "escapes in dict")


@scenario
async def subclasses_are_what_they_subclass(connect: Client) -> object:
    return await _values(connect, "str subclass", "dict subclass")


@scenario
async def strings_and_bytes_are_sent_as_they_are(connect: Client) -> object:
    return await _values(connect, "str", "str of json", "bytes", "empty str", "empty bytes")


@scenario
async def large_values_are_sent_whole(connect: Client) -> object:
    return await _values(connect, "long str", "long bytes", "long list")


@scenario
async def send_without_data_is_null(connect: Client) -> object:
    return await connect.first("/messages/nothing/")


@scenario
async def what_cannot_be_encoded_raises_in_the_caller(connect: Client) -> object:
    unencodable = await connect("/messages/unencodable/")
    return [
        await unencodable.ask(name)
        for name in (
            "object",
            "set",
            "function",
            "int beyond 64 bits",
            "surrogate in a list",
            "circle",
            "key of a number",
            "bytes in a list",
            "bytearray",
            "exception",
        )
    ]


@scenario
async def a_lone_surrogate_raises_in_the_caller(connect: Client) -> object:
    unencodable = await connect("/messages/unencodable/")
    return [await unencodable.ask("surrogate"), await unencodable.ask("object")]


@scenario
async def an_overridden_send_is_used(connect: Client) -> object:
    shouting = await connect("/messages/shouting/")
    return [await shouting.receive(), await shouting.ask("again"), await shouting.ask(b"binary")]


@scenario
async def hooks_are_inherited(connect: Client) -> object:
    subclass = await connect("/messages/subclass/")
    return [await subclass.receive(), await subclass.ask("again")]
