"""Two projects on one Redis, each with a database number of its own, never meet."""

import asyncio
import json
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from panther_channels.websocket import close_user_websockets, send_message_to_websocket
from tests.conftest import StartServer
from tests.layers import default_layer, redis_layer
from tests.servers import RedisServer, Server, ServerName
from tests.waiting import SECONDS

USER = SimpleNamespace(pk=1)  # of whom each project has one


async def asked(client: ClientConnection, text: str) -> str:
    await client.send(text)
    return str(await asyncio.wait_for(client.recv(), SECONDS))


async def test_neither_send_nor_close_nor_count_crosses(
    redis_server: RedisServer, start_server: StartServer
):
    urls = [redis_server.url.removesuffix("/0") + number for number in ("", "/1")]

    def project(name: ServerName, url: str) -> Server:
        backend = "panther_channels.layers.RedisChannelLayer"
        layers: dict[str, Any] = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}}
        limits = {"CHANNEL_LAYERS": layers, "WS_MAX_CONNECTIONS_PER_USER": 1}
        settings = "tests.faults.limited_settings"
        env = {"DJANGO_SETTINGS_MODULE": settings, "LIMITS": json.dumps(limits)}
        return start_server(name, env=env)

    servers = [project("daphne", urls[0]), project("uvicorn", urls[1])]
    async with AsyncExitStack() as stack:
        clients = []
        for server in servers:
            url = f"{server.ws_url}/ws/limited?user={USER.pk}"
            clients.append(await stack.enter_async_context(connect(url)))
            with pytest.raises(InvalidStatus, match="429"):  # the one before counts, here
                await connect(url)
        other = await asked(clients[1], "id")
        layer = redis_layer("redis", urls[0])
        with default_layer(layer):
            await send_message_to_websocket(other, "not for you")
            await close_user_websockets(USER)
            await layer.flush()
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(clients[0].recv(), SECONDS)
        assert clients[0].close_code == 1008
        assert await asked(clients[1], "still here") == "still here"
        layer = redis_layer("redis", urls[1])
        with default_layer(layer):
            await send_message_to_websocket(other, "for you")
            await layer.flush()
        assert await asyncio.wait_for(clients[1].recv(), SECONDS) == "for you"
