from websockets.asyncio.client import connect


async def read_feed(url: str, token: str) -> str | bytes:
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers) as ws:
        return await ws.recv()
