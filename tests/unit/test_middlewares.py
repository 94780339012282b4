from typing import Any

from panther_channels.middlewares import WebsocketMiddleware


async def test_it_passes_the_connection_on_by_name_and_returns_it():
    passed: list[Any] = []

    async def dispatch(*, connection):
        passed.append(connection)
        return connection

    connection: Any = object()
    assert await WebsocketMiddleware(dispatch)(connection) is connection
    assert passed == [connection]
