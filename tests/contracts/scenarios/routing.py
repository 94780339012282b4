"""Which endpoint a path finds."""

import json

from tests.client import Client
from tests.contracts.scenarios.registry import scenario


async def _found(connect: Client, *paths: str) -> list[object]:
    return [(path, await connect.first(path)) for path in paths]


@scenario
async def the_root(connect: Client) -> object:
    return await _found(connect, "/", "", "/?a=1")


@scenario
async def the_empty_name_of_a_dict(connect: Client) -> object:
    return await _found(connect, "/routing", "/routing/")


@scenario
async def trailing_slashes_are_optional(connect: Client) -> object:
    return await _found(connect, "/routing/static", "/routing/static/", "/routing/static/?a=1")


@scenario
async def slashes_in_the_urls_are_optional(connect: Client) -> object:
    return await _found(
        connect,
        "/routing/slashed/inner",
        "/routing/slashed/inner/",
        "/routing/slashed/inner/x",
        "/routing/keys/with/slashes",
    )


@scenario
async def dicts_nest_to_any_depth(connect: Client) -> object:
    return await _found(connect, "/routing/deep/a/b/c/d", "/routing/deep/a/b/c/d/")


@scenario
async def a_prefix_is_no_match(connect: Client) -> object:
    return await _found(
        connect,
        "/routing/deep",
        "/routing/deep/a/b/",
        "/routing/deep/a/b/c/d/e/",
        "/routing/keys/with",
        "/message",
        "/messages/",
        "/messages/ech",
        "/messages/echoes",
    )


@scenario
async def an_unknown_path_is_refused(connect: Client) -> object:
    return await _found(connect, "/unknown", "/unknown/path/", "/messages/unknown/?a=1", "/*")


@scenario
async def paths_are_case_sensitive(connect: Client) -> object:
    return await _found(connect, "/ROUTING/static", "/Messages/echo", "/routing/STATIC")


@scenario
async def a_static_part_beats_a_variable(connect: Client) -> object:
    return await _found(
        connect, "/routing/static", "/routing/static-2_x", "/routing/stati", "/routing/other/"
    )


@scenario
async def a_static_part_is_not_taken_back(connect: Client) -> object:
    return await _found(
        connect,
        "/routing/branch/static/only",
        "/routing/branch/static/other",
        "/routing/branch/static",
        "/routing/branch/x/other",
        "/routing/branch/x/only",
        "/routing/branch/x",
    )


@scenario
async def an_empty_dict_reserves_its_path(connect: Client) -> object:
    return await _found(
        connect, "/routing/reserved/me", "/routing/reserved/me/", "/routing/reserved/you"
    )


@scenario
async def a_variable_both_ends_and_goes_on(connect: Client) -> object:
    return await _found(
        connect,
        "/routing/both/1",
        "/routing/both/1/",
        "/routing/both/1/sub",
        "/routing/both/1/2/",
        "/routing/both/sub/sub/",
        "/routing/both/1/2/3",
    )


@scenario
async def a_name_both_ends_and_goes_on(connect: Client) -> object:
    return await _found(connect, "/routing/leaf", "/routing/leaf/below", "/routing/leaf/above")


@scenario
async def a_variable_between_static_parts(connect: Client) -> object:
    return await _found(
        connect,
        "/routing/between/1/end",
        "/routing/between/end/end",
        "/routing/between/1",
        "/routing/between/1/2/end",
    )


@scenario
async def slashes_at_both_ends_are_stripped(connect: Client) -> object:
    return await _found(connect, "/routing/static//", "/routing/static///")


@scenario
async def slashes_at_the_beginning_are_stripped(connect: Client) -> object:
    return await _found(connect, "//routing/static", "///routing/static/")


@scenario
async def doubled_slashes_inside_are_no_match(connect: Client) -> object:
    return await _found(
        connect, "/routing//deep/a/b/c/d", "/routing/deep//a/b/c/d", "/messages//echo"
    )


@scenario
async def an_empty_part_for_a_variable(connect: Client) -> object:
    return await _found(connect, "/routing/between//end", "/routing/both//sub", "/routing/both//")


@scenario
async def an_encoded_slash_separates(connect: Client) -> object:
    return await _found(connect, "/routing%2Fstatic", "/routing/both/1%2Fsub", "/routing/x%2Fy")


@scenario
async def odd_characters_in_a_variable(connect: Client) -> object:
    return await _found(
        connect,
        "/routing/a.b",
        "/routing/..",
        "/routing/%3Cname%3E",
        "/routing/a%3Fb",
        "/routing/a%23b",
        "/routing/a=b&c",
        "/routing/%0A",
    )


@scenario
async def http_to_a_websocket_url(connect: Client) -> object:
    seen: list[object] = []
    for path in ("/messages/echo/", "/path/int/5"):
        status, content_type, body = await connect.http(path)
        seen.append([status, content_type, json.loads(body)])
    return seen
