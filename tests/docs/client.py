"""A client of the classes that the documentation shows."""

from typing import Any

import pytest

from panther_channels.asgi import get_asgi_application
from panther_channels.test import (
    ConnectionClosed,
    HandshakeRejected,
    TestConnection,
    WebsocketClient,
)


def serve(urls: Any) -> WebsocketClient:
    """The client of a dict of URLs, or of one class at any path."""
    is_dict = isinstance(urls, dict)
    return WebsocketClient(get_asgi_application(urls) if is_dict else urls.as_asgi())


async def check(client: WebsocketClient, path: str, expected: int | str, **options: Any) -> None:
    """A connection is greeted by a message, or has an HTTP status; 101 where it opens."""
    found: Any = 101
    try:
        async with client.connect(path, **options) as ws:
            if isinstance(expected, str):
                found = await ws.receive()
    except HandshakeRejected as refusal:
        found = refusal.status
    assert found == expected


async def ending(ws: TestConnection) -> tuple[int, str]:
    """Code and reason of the close that comes next."""
    with pytest.raises(ConnectionClosed) as caught:
        await ws.receive()
    return caught.value.code, caught.value.reason
