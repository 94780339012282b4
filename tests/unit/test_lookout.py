"""What is read ahead comes in order, once, and is bounded."""

import asyncio
from typing import Any

import pytest

from panther_channels import _lookout
from panther_channels._lookout import Lookout
from panther_channels._state import Socket

END = {"type": "websocket.disconnect", "code": 4001}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


class Server:
    """The server's side: a queue, and the socket that receives from it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.socket = Socket()
        self.socket.receive = self.receive
        self.asked = 0

    async def receive(self) -> Any:
        self.asked += 1
        message = await self.queue.get()
        if isinstance(message, Exception):
            raise message
        return message

    def put(self, *messages: Any) -> None:
        for message in messages:
            self.queue.put_nowait(message)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_end_is_seen_behind_messages_and_then_received_in_order():
    server = Server()
    messages = [text("a"), {"type": "websocket.receive", "bytes": b"b"}, END]
    server.put(*messages)
    lookout = Lookout(server.socket)
    lookout.look()
    await settled()
    assert lookout.end == END
    assert server.queue.empty()
    lookout.look()  # nothing comes after the end
    await settled()
    assert server.asked == 3
    assert [await server.socket.receive() for _ in messages] == messages


async def test_without_anything_ahead_the_server_is_asked_again():
    server = Server()
    lookout = Lookout(server.socket)
    lookout.look()
    await settled()
    lookout.look()
    await settled()
    assert server.asked == 1, "somebody looks already"
    server.put(text("a"))
    await settled()
    assert await server.socket.receive() == text("a")
    server.put(text("b"))  # the look went on
    assert await server.socket.receive() == text("b")
    server.put(text("c"))
    assert await server.socket.receive() == text("c")
    assert server.socket.receive == server.receive


async def test_a_look_that_is_awaited_goes_no_further():
    server = Server()
    lookout = Lookout(server.socket)
    lookout.look()
    receiving = asyncio.ensure_future(server.socket.receive())
    await settled()
    server.put(text("a"), text("b"))
    assert await receiving == text("a")
    await settled()
    assert server.queue.qsize() == 1
    # Once nobody awaits it, it goes on.
    lookout.look()
    server.put(text("c"), text("d"))
    await settled()
    assert server.queue.empty()
    assert [(await server.socket.receive())["text"] for _ in range(3)] == ["b", "c", "d"]


@pytest.mark.parametrize("message", [text("x" * 300), {**text(""), "bytes": b"x" * 300}])
async def test_no_more_is_read_ahead_than_a_bound(
    message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_lookout, "_AHEAD", 1000)
    server = Server()
    server.put(*[message] * 10)
    lookout = Lookout(server.socket)
    lookout.look()
    await settled()
    assert server.queue.qsize() == 8
    lookout.look()
    await settled()
    assert server.queue.qsize() == 8
    await server.socket.receive()
    lookout.look()
    await settled()
    assert server.queue.qsize() == 7


async def test_empty_messages_count():
    server = Server()
    server.put(*[text("")] * 1000)
    Lookout(server.socket).look()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert server.queue.qsize() == 1000 - 256


async def test_an_error_of_the_server_is_received(caplog: pytest.LogCaptureFixture):
    server = Server()
    server.put(text("a"), ZeroDivisionError("of the server"))
    lookout = Lookout(server.socket)
    lookout.look()
    await settled()
    assert await server.socket.receive() == text("a")
    with pytest.raises(ZeroDivisionError):
        await server.socket.receive()
    assert caplog.records == []


async def test_who_is_cancelled_takes_nothing_along():
    server = Server()
    lookout = Lookout(server.socket)
    lookout.look()
    receiving = asyncio.ensure_future(server.socket.receive())
    await settled()
    receiving.cancel()
    await asyncio.wait({receiving})
    server.put(text("a"))
    assert await server.socket.receive() == text("a")


async def test_closed(caplog: pytest.LogCaptureFixture):
    server = Server()
    lookout = Lookout(server.socket)
    lookout.close()
    lookout.look()
    await settled()
    lookout.close()
    await settled()
    server.put(text("a"))
    await settled()
    assert server.queue.qsize() == 1
    assert server.socket.receive == server.receive
    assert caplog.records == []
