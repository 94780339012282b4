"""What a class knows of its handshake request."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.client import Client, Headers
from tests.contracts.applications.package import GenericWebsocket, Websocket
from tests.contracts.scenarios.registry import Scenario, add, scenario

FACTS: dict[str, Callable[[Websocket], object]] = {
    "attribute": lambda connection: connection.headers.x_contract,
    "user agent": lambda connection: connection.headers.user_agent,
    "item": lambda connection: connection.headers["x-contract"],
    "item with underscores": lambda connection: connection.headers["x_contract"],
    "in": lambda connection: "x-contract" in connection.headers,
    "in with underscores": lambda connection: "x_contract" in connection.headers,
    "missing attribute": lambda connection: connection.headers.x_missing,
    "missing item": lambda connection: connection.headers["x-missing"],
    "not in": lambda connection: "x-missing" in connection.headers,
    "host": lambda connection: connection.headers.host,
    "origin": lambda connection: connection.headers.origin,
    "version": lambda connection: connection.headers.sec_websocket_version,
    "upgrade": lambda connection: connection.headers["upgrade"],
    "authorization": lambda connection: connection.headers.authorization,
    "cookies": lambda connection: connection.headers.get_cookies(),
    "cookie": lambda connection: connection.headers.cookie,
    "query": lambda connection: connection.query_params,
    "path": lambda connection: connection.path,
    "scheme": lambda connection: connection.scheme,
    "http version": lambda connection: connection.http_version,
    "client": lambda connection: _address(connection.client),
    "server": lambda connection: _address(connection.server),
    "user": lambda connection: connection.user,
    "path variables": lambda connection: connection.path_variables,
    "scope": lambda connection: [connection.scope["type"], connection.scope["path"]],
}


def _address(address: Any) -> list[object]:
    return [address.ip, address.port, str(address)]


class Facts(GenericWebsocket):
    async def connect(self, **kwargs: str):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send([FACTS[name](self) for name in str(data).split(", ")])


async def _facts(connect: Client, names: str, path: str = "", headers: Headers = ()) -> list[Any]:
    facts = await connect(path, headers=headers)
    found: list[Any] = json.loads(str(await facts.ask(names)))
    return found


async def _each(names: str, requests: list[Any], connect: Client) -> object:
    return [
        await _facts(connect, names, request)
        if isinstance(request, str)
        else await _facts(connect, names, headers=request)
        for request in requests
    ]


_COOKIES = ["one=1", "one=1; two=2;three=3", "a=b=c; d==", "empty=; q=x y", "a=1; a=2"]
TABLE: dict[str, tuple[str, list[Any]]] = {
    "headers": (
        "attribute, item, item with underscores, in, in with underscores, not in",
        [{}, {"X-Contract": "Kept As Is"}],
    ),
    "an_empty_header": ("attribute, item, in", [{"X-Contract": ""}]),
    "headers_of_every_request": ("user agent, version, upgrade, missing attribute", [""]),
    "headers_that_are_missing": ("missing attribute, missing item, authorization", [""]),
    "cookies": ("cookies, cookie", [{}, *({"Cookie": cookie} for cookie in _COOKIES)]),
    "query_params": ("query", ["", "?", "?a=1", "?a=1&b=two&c=3"]),
    "the_last_of_a_repeated_query_param_wins": ("query", ["?a=1&a=2", "?a=1&b=0&a=2&a=3"]),
    "blank_query_params_are_dropped": (
        "query",
        ["?a=&b=1", "?flag", "?a=1&a=", "?=x", "?&&a=1"],
    ),
    "query_params_are_decoded": (
        "query",
        ["?q=a%20b+c%2B", "?q=%C3%A9%F0%9F%91%8B", "?%D1%8F=1", "?q=a%26b%3Dc", "?q=a;b=c"],
    ),
    "broken_query_params_are_replaced": ("query", ["?q=%ff", "?q=%zz", "?q=100%"]),
    "the_rest_of_a_request": ("scheme, http version, user, path variables", [""]),
    "the_path_is_as_requested": ("path, scope", ["", "a%20b/", "a%20b", "%C3%A9"]),
}
for name, (names, requests) in TABLE.items():
    handlers = {"": Facts, "<name>": Facts}
    add(Scenario(name, partial(_each, names, requests), f"/{name}/"), handlers)


@scenario(
    Facts,
    because="repeated headers are joined, as daphne does before anybody can see them",
    ours=["1,2", "1,2"],
)
async def the_last_of_a_repeated_header_wins(connect: Client) -> object:
    return await _facts(connect, "attribute, item", "", [("X-Contract", "1"), ("X-Contract", "2")])


@scenario(
    Facts,
    because="cookies are read as Django reads them for HTTP",
    ours=[{"q": "x y"}],
)
async def cookies_with_quotes(connect: Client) -> object:
    return await _facts(connect, "cookies", "", {"Cookie": 'q="x y"'})


@scenario(Facts)
async def host_and_origin(connect: Client) -> object:
    own = f"http://{connect.host}:{connect.port}"
    host, origin = await _facts(connect, "host, origin", "", {"Origin": own})
    return [host == f"{connect.host}:{connect.port}", origin == own]


@scenario(Facts)
async def both_addresses(connect: Client) -> object:
    facts = await connect("")
    found = json.loads(str(await facts.ask("client, server")))
    ends = [facts.address, (connect.host, connect.port)]
    return found == [[ip, port, f"{ip}:{port}"] for ip, port in ends]


class Deciding(GenericWebsocket):
    """Accepts by a header or a parameter, before the connection is open."""

    async def connect(self):
        if self.query_params.get("key") == "right" and self.headers.x_contract:
            await self.accept()
            await self.send([self.path, self.query_params, self.headers["x-contract"]])


@scenario(Deciding)
async def the_request_decides_in_connect(connect: Client) -> object:
    header = {"X-Contract": "yes"}
    return [
        await connect.first("?key=right", headers=header),
        await connect.first("?key=wrong", headers=header),
        await connect.first("?key=right"),
        await connect.first("", headers=header),
    ]
