import json

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def why_not(url: str) -> tuple[int, str]:
    """The status and the detail of a handshake that is refused."""
    try:
        async with connect(url):
            return 101, ""
    except InvalidStatus as error:
        response = error.response
        return response.status_code, json.loads(response.body)["detail"]
