import asyncio
from typing import Any

import pytest

from panther_channels.asgi import get_asgi_application
from panther_channels.connections import send_message_to_websocket
from panther_channels.test import (
    ConnectionClosed,
    HandshakeRejected,
    TestConnection,
    WebsocketClient,
)
from panther_channels.websocket import GenericWebsocket
from tests.waiting import until

ENDED: list[int] = []


class Echo(GenericWebsocket):
    async def connect(self, **kwargs):
        offered = self.scope["subprotocols"]
        await self.accept(subprotocol=offered[-1] if offered else None, headers={"x-a": "1"})

    async def receive(self, data: str | bytes):
        if data == "describe":
            facts = (self.path, self.query_params, self.headers.host, self.headers.user_agent)
            await self.send([*facts, str(self.client), self.scheme])
        elif data == "id":
            await self.send(self.connection_id)
        elif data == "close":
            await self.close(4001, "bye")
        elif data != "silence":
            await self.send(data)

    async def disconnect(self, code: int):
        ENDED.append(code)


class Refusing(GenericWebsocket):
    async def connect(self):
        await self.close(4001)


class Slow(GenericWebsocket):
    async def connect(self):
        await asyncio.Event().wait()


async def mute(scope: Any, receive: Any, send: Any) -> None:
    """Ends without a word."""


@pytest.fixture
def client() -> WebsocketClient:
    ENDED.clear()
    urls = {"ws/<name>": Echo, "refusing": Refusing}
    return WebsocketClient(get_asgi_application(urls))


async def closed(ws: TestConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await ws.receive()
    assert f"{caught.value.code} {caught.value.reason!r}" in str(caught.value)
    assert (ws.close_code, ws.close_reason) == (caught.value.code, caught.value.reason)
    return caught.value.code, caught.value.reason


async def test_messages(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        for value, answer in (("a", "a"), (b"b", b"b"), ("", ""), (b"", b""), ([1, 2], "[1,2]")):
            await ws.send(value)
            assert await ws.receive() == answer
        await ws.send("id")
        await send_message_to_websocket(str(await ws.receive()), {"from": "outside"})
        assert await ws.receive() == '{"from":"outside"}'
    assert ENDED == [1000]


async def test_the_request_and_its_answer(client: WebsocketClient):
    options: Any = {"headers": {"User-Agent": "é"}, "query_params": {"a": "1 &", "b": "é"}}
    async with client.connect("/ws/%C3%A9", subprotocols=["chat", "news"], **options) as ws:
        await ws.send("describe")
        assert await ws.receive() == (
            '["/ws/é",{"a":"1 &","b":"é"},"testserver","é","127.0.0.1:50000","ws"]'
        )
        assert (ws.subprotocol, ws.headers) == ("news", [(b"x-a", b"1")])
    async with client.connect("/ws/a") as ws:
        assert ws.subprotocol is None


async def test_the_application_closes(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        assert (ws.close_code, ws.close_reason) == (None, "")
        await ws.send("close")
        for _ in range(2):
            assert await closed(ws) == (4001, "bye")
            assert ENDED == [4001]
        await ws.close()
    assert (ws.close_code, ENDED) == (4001, [4001])


async def test_the_client_closes(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        await ws.close(4002, "bye")
        assert (ws.close_code, ws.close_reason) == (4002, "bye")
        # The application has ended.
        assert ENDED == [4002]
        await ws.close()
    assert ENDED == [4002]


async def test_a_close_that_nobody_read_is_still_known(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        await ws.send("close")
        await until(lambda: not ws._communicator.output_queue.empty())
    assert (ws.close_code, ENDED) == (4001, [4001])


@pytest.mark.parametrize(("target", "status"), [("/refusing", 403), ("/nowhere", 404)])
async def test_a_refused_handshake(client: WebsocketClient, target: str, status: int):
    with pytest.raises(HandshakeRejected, match=str(status)) as caught:
        async with client.connect(target):
            pytest.fail("it is open")
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("application", "error"), [(Slow.as_asgi(), TimeoutError), (mute, RuntimeError)]
)
async def test_no_answer(application: Any, error: type[Exception]):
    client = WebsocketClient(application, timeout=0.05)
    with pytest.raises(error):
        async with client.connect("/"):
            pytest.fail("it is open")


async def test_nothing_in_time_leaves_the_connection_open():
    async with WebsocketClient(Echo.as_asgi(), timeout=0.05).connect("/anything") as ws:
        await ws.send("silence")
        with pytest.raises(TimeoutError):
            await ws.receive()
        await ws.send("hello")
        assert await ws.receive() == "hello"


async def test_an_exception_of_the_test_gets_out_and_ends_the_connection(client: WebsocketClient):
    with pytest.raises(ZeroDivisionError):
        async with client.connect("/ws/a") as ws:
            raise ZeroDivisionError
    assert ws._communicator.future.cancelling()
    await until(lambda: ENDED)
