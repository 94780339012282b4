"""Connections over a Redis that belongs to one test, and whether they are within reach."""

import asyncio
from contextlib import AsyncExitStack, suppress
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect

from panther_channels.exceptions import ChannelLayerError
from panther_channels.websocket import send_message_to_websocket
from tests.servers import Server

SECONDS = 20.0

Ids = dict[str, ClientConnection]


async def opened(stack: AsyncExitStack, server: Server, count: int) -> Ids:
    """Opens connections at once, each with its id."""
    url = f"{server.ws_url}/ws/id"
    connecting = (
        stack.enter_async_context(connect(url, open_timeout=SECONDS)) for _ in range(count)
    )
    return {await received(client): client for client in await asyncio.gather(*connecting)}


async def received(client: ClientConnection) -> str:
    return str(await asyncio.wait_for(client.recv(), SECONDS))


async def until_reached(ids: Ids) -> None:
    """Sends to all until each has heard of it."""
    waiting = dict(ids)
    async with asyncio.timeout(SECONDS):
        while waiting:
            for connection_id, client in list(waiting.items()):
                text = uuid4().hex  # none that came late counts
                with suppress(ChannelLayerError, TimeoutError):
                    await send_message_to_websocket(connection_id, text)
                    async with asyncio.timeout(0.2):
                        while await client.recv() != text:
                            pass
                    del waiting[connection_id]
