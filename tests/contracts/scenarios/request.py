"""What a class knows of its handshake request."""

import json
from typing import Any

from tests.client import Client, Connection
from tests.contracts.scenarios.registry import scenario


async def _facts(connection: Connection, *names: str) -> list[Any]:
    return [json.loads(str(await connection.ask(name)))[0] for name in names]


@scenario
async def headers_by_attribute(connect: Client) -> object:
    facts = await connect("/request/facts/", headers={"X-Contract": "Kept As Is"})
    return await _facts(facts, "attribute", "user agent", "version", "upgrade")


@scenario
async def headers_by_item(connect: Client) -> object:
    facts = await connect("/request/facts/", headers={"X-Contract": "one"})
    return await _facts(facts, "item", "item with underscores")


@scenario
async def headers_that_are_there(connect: Client) -> object:
    facts = await connect("/request/facts/", headers={"X-Contract": "one"})
    return await _facts(facts, "in", "in with underscores", "not in")


@scenario
async def headers_that_are_missing(connect: Client) -> object:
    facts = await connect("/request/facts/")
    return await _facts(
        facts, "missing attribute", "missing item", "authorization", "in", "in with underscores"
    )


@scenario
async def the_last_of_a_repeated_header_wins(connect: Client) -> object:
    facts = await connect("/request/facts/", headers=[("X-Contract", "1"), ("X-Contract", "2")])
    return await _facts(facts, "attribute", "item")


@scenario
async def an_empty_header(connect: Client) -> object:
    facts = await connect("/request/facts/", headers={"X-Contract": ""})
    return await _facts(facts, "attribute", "item", "in")


@scenario
async def host_and_origin(connect: Client) -> object:
    own = f"http://{connect.host}:{connect.port}"
    facts = await connect("/request/facts/", headers={"Origin": own})
    host, origin = await _facts(facts, "host", "origin")
    return [host == f"{connect.host}:{connect.port}", origin == own]


@scenario
async def cookies(connect: Client) -> object:
    answers = []
    for cookie in ("one=1", "one=1; two=2;three=3", "a=b=c; d==", 'empty=; q="x y"', "a=1; a=2"):
        facts = await connect("/request/facts/", headers={"Cookie": cookie})
        answers.append(await _facts(facts, "cookies", "cookie"))
    return answers


@scenario
async def no_cookies(connect: Client) -> object:
    return await _facts(await connect("/request/facts/"), "cookies", "cookie")


async def _query(connect: Client, query: str) -> Any:
    return (await _facts(await connect(f"/request/facts/{query}"), "query"))[0]


@scenario
async def query_params(connect: Client) -> object:
    return [await _query(connect, query) for query in ("", "?", "?a=1", "?a=1&b=two&c=3")]


@scenario
async def the_last_of_a_repeated_query_param_wins(connect: Client) -> object:
    return [await _query(connect, query) for query in ("?a=1&a=2", "?a=1&b=0&a=2&a=3")]


@scenario
async def blank_query_params_are_dropped(connect: Client) -> object:
    return [
        await _query(connect, query) for query in ("?a=&b=1", "?flag", "?a=1&a=", "?=x", "?&&a=1")
    ]


@scenario
async def query_params_are_decoded(connect: Client) -> object:
    queries = ("?q=a%20b+c%2B", "?q=%C3%A9%F0%9F%91%8B", "?%D1%8F=1", "?q=a%26b%3Dc", "?q=a;b=c")
    return [await _query(connect, query) for query in queries]


@scenario
async def broken_query_params_are_replaced(connect: Client) -> object:
    return [await _query(connect, query) for query in ("?q=%ff", "?q=%zz", "?q=100%")]


@scenario
async def the_path_is_as_requested(connect: Client) -> object:
    paths = ("/request/facts/", "/request/facts", "/request/facts/a%20b/", "/request/facts/%C3%A9")
    return [await _facts(await connect(path), "path", "scope") for path in paths]


@scenario
async def scheme_and_http_version(connect: Client) -> object:
    return await _facts(await connect("/request/facts/"), "scheme", "http version")


@scenario
async def the_clients_address(connect: Client) -> object:
    facts = await connect("/request/facts/")
    ip, port = facts.address
    (address,) = await _facts(facts, "client")
    return [address == [ip, port, f"{ip}:{port}"], ip]


@scenario
async def the_servers_address(connect: Client) -> object:
    facts = await connect("/request/facts/")
    (address,) = await _facts(facts, "server")
    ip, port = connect.host, connect.port
    return [address == [ip, port, f"{ip}:{port}"], ip]


@scenario
async def nobody_is_the_user(connect: Client) -> object:
    return await _facts(await connect("/request/facts/"), "user", "path variables")


@scenario
async def the_request_decides_in_connect(connect: Client) -> object:
    header = {"X-Contract": "yes"}
    return [
        await connect.first("/request/deciding/?key=right", headers=header),
        await connect.first("/request/deciding/?key=wrong", headers=header),
        await connect.first("/request/deciding/?key=right"),
        await connect.first("/request/deciding/", headers=header),
    ]
