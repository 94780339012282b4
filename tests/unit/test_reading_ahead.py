"""What is read ahead comes in order, once, and is bounded."""

import asyncio
from typing import Any

import pytest

from panther_channels._socket.reading_ahead import ReadingAhead
from panther_channels._socket.state import Socket

END = {"type": "websocket.disconnect", "code": 4001}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


class Server:
    """The server's side: a queue, and a socket that receives from it."""

    def __init__(self, *messages: Any) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.socket = Socket("Any")
        self.socket.receive = self.receive
        self.asked = 0
        self.ahead = ReadingAhead(self.socket)
        self.put(*messages)

    async def receive(self) -> Any:
        self.asked += 1
        message = await self.queue.get()
        if isinstance(message, Exception):
            raise message
        return message

    def put(self, *messages: Any) -> None:
        for message in messages:
            self.queue.put_nowait(message)

    async def reads_on(self) -> None:
        self.ahead.go_on()
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_end_is_seen_behind_messages_and_then_received_in_order():
    messages = [text("a"), {"type": "websocket.receive", "bytes": b"b"}, END]
    server = Server(*messages)
    await server.reads_on()
    assert server.ahead.end == END
    assert server.queue.empty()
    await server.reads_on()  # nothing comes after the end
    assert server.asked == 3
    assert [await server.socket.receive() for _ in messages] == messages


async def test_without_anything_ahead_the_server_is_asked_again():
    server = Server()
    await server.reads_on()
    await server.reads_on()
    assert server.asked == 1, "somebody reads already"
    server.put(text("a"))
    await settled()
    assert await server.socket.receive() == text("a")
    for data in ("b", "c"):  # the first of which was being read
        server.put(text(data))
        assert await server.socket.receive() == text(data)
    assert server.socket.receive == server.receive


async def test_what_is_awaited_is_read_no_further():
    server = Server()
    server.ahead.go_on()
    receiving = asyncio.ensure_future(server.socket.receive())
    await settled()
    server.put(text("a"), text("b"))
    assert await receiving == text("a")
    await settled()
    assert server.queue.qsize() == 1
    server.put(text("c"), text("d"))  # once nobody awaits it, it goes on
    await server.reads_on()
    assert server.queue.empty()
    assert [(await server.socket.receive())["text"] for _ in range(3)] == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("message", "most"),
    # Empty ones cost memory, too.
    [(text("x" * 30_000), 3), ({**text(""), "bytes": b"x" * 30_000}, 3), (text(""), 256)],
)
async def test_no_more_is_read_ahead_than_a_bound(message: dict[str, Any], most: int):
    server = Server(*[message] * 300)
    server.ahead.go_on()
    for _ in range(600):
        await asyncio.sleep(0)
    assert server.queue.qsize() == 300 - most
    await server.reads_on()
    assert server.queue.qsize() == 300 - most
    await server.socket.receive()
    await server.reads_on()
    assert server.queue.qsize() == 300 - most - 1


async def test_an_error_of_the_server_is_received(caplog: pytest.LogCaptureFixture):
    server = Server(text("a"), ZeroDivisionError("of the server"))
    await server.reads_on()
    assert await server.socket.receive() == text("a")
    with pytest.raises(ZeroDivisionError):
        await server.socket.receive()
    assert caplog.records == []


async def test_who_is_cancelled_takes_nothing_along():
    server = Server()
    server.ahead.go_on()
    receiving = asyncio.ensure_future(server.socket.receive())
    await settled()
    receiving.cancel()
    await asyncio.wait({receiving})
    server.put(text("a"))
    assert await server.socket.receive() == text("a")


async def test_closed():
    server = Server()
    server.ahead.close()
    await server.reads_on()
    server.ahead.close()
    await settled()
    server.put(text("a"))
    await settled()
    assert server.queue.qsize() == 1
    assert server.socket.receive == server.receive
