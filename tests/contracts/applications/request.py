"""One class that tells what it knows of its handshake request."""

from collections.abc import Callable
from typing import Any

from tests.contracts.applications.package import GenericWebsocket, Websocket

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
        await self.send([FACTS[str(data)](self)])


class Deciding(GenericWebsocket):
    """Accepts by a header or a parameter, before the connection is open."""

    async def connect(self):
        if self.query_params.get("key") == "right" and self.headers.x_contract:
            await self.accept()
            await self.send([self.path, self.query_params, self.headers["x-contract"]])


URLS = {"facts": Facts, "facts/<name>": Facts, "deciding": Deciding}
