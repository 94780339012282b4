# ruff: noqa: S101
import pytest

from panther_channels.asgi import get_asgi_application
from panther_channels.test import ConnectionClosed, HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket


class Counter(GenericWebsocket):
    """Counts letters for those who give a name; closes at "stop"."""

    async def connect(self):
        if "name" in self.query_params:
            await self.accept()

    async def receive(self, data: str | bytes):
        if data == "stop":
            await self.close(code=4000, reason="You said so.")
        else:
            await self.send({"length": len(data)})


client = WebsocketClient(get_asgi_application({"ws/count": Counter}))


@pytest.mark.asyncio
async def test_it_counts():
    async with client.connect("/ws/count", query_params={"name": "Ann"}) as ws:
        await ws.send("four")
        assert await ws.receive() == '{"length":4}'
        await ws.send(b"\x00\x01")
        assert await ws.receive() == '{"length":2}'


@pytest.mark.asyncio
async def test_it_stops():
    async with client.connect("/ws/count", query_params={"name": "Ann"}) as ws:
        await ws.send("stop")
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        assert (ws.close_code, ws.close_reason) == (4000, "You said so.")


@pytest.mark.asyncio
async def test_it_wants_a_name():
    with pytest.raises(HandshakeRejected) as caught:
        async with client.connect("/ws/count"):
            pass
    assert caught.value.status == 403
