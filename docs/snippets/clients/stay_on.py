import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection


async def stay_on(ws: ClientConnection, fresh_token: Callable[[], Awaitable[str]]) -> None:
    """Sends a fresh token one second before the old one expires."""
    async for message in ws:
        expires = json.loads(message)["expires"]
        await asyncio.sleep(max(expires - time.time() - 1, 0))
        await ws.send(json.dumps({"token": await fresh_token()}))
