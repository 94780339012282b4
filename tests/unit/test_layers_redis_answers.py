"""The numbers that a PUBLISH is answered with, and what else may come over its connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from panther_channels.layers.redis.answers import Answers
from tests.waiting import SECONDS, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Ends:
    """Both ends of a connection: what has the answers and a stream, and what stands for Redis."""

    def __init__(self, stream: Streams, redis: Streams) -> None:
        self.stream, self.writer = stream
        self.asked, self.redis = redis
        transport: Any = self.writer.transport
        self.answers = Answers(transport)

    def ask(self, count: int) -> "asyncio.Future[list[int] | None]":
        return self.answers.ask(b"commands", count)

    async def left(self) -> bytes:
        """What the stream has, once Redis has closed the connection."""
        self.redis.close()
        return await asyncio.wait_for(self.stream.read(), SECONDS)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    server = await asyncio.start_server(lambda *redis: accepted.put_nowait(redis), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        ends = Ends(await asyncio.open_connection(host, port), await accepted.get())
        yield ends
        for writer in (ends.writer, ends.redis):
            writer.close()


async def test_numbers_are_taken_and_nothing_is_left(ends: Ends):
    for numbers in ([0], [1, 23, 4], [5] * 10_000):
        asking = ends.ask(len(numbers))
        assert await ends.asked.readexactly(8) == b"commands"
        ends.redis.write(b"".join(b":%d\r\n" % number for number in numbers))
        assert await asyncio.wait_for(asking, SECONDS) == numbers
    assert await ends.left() == b""


async def test_numbers_in_pieces(ends: Ends):
    asking = ends.ask(2)
    for piece in (b":", b"1\r", b"\n:2", b"3\r\n"):
        ends.redis.write(piece)
        await until(lambda: ends.answers._received.endswith(piece))  # noqa: B023 - it is awaited
    assert await asking == [1, 23]


@pytest.mark.parametrize(
    "answer",
    [
        *(b":1\r\n-READONLY 1\r\n", b"-NOPERM\r\n:1\r\n", b"+OK\r\n:1\r\n", b":x\r\n:1\r\n"),
        *(b">2\r\n+moving\r\n", b":1\r\n:2\r\n:3\r\n", b"$-1\r\n$-1\r\n"),
    ],
)
async def test_what_is_no_number_is_for_the_stream(ends: Ends, answer: bytes):
    asking = ends.ask(2)
    ends.redis.write(answer)
    assert await asyncio.wait_for(asking, SECONDS) is None
    ends.redis.write(b"the rest")
    assert await ends.left() == answer + b"the rest"


async def test_what_nobody_has_asked_for(ends: Ends):
    ends.redis.write(b"+PONG\r\n")
    assert await asyncio.wait_for(ends.stream.readline(), SECONDS) == b"+PONG\r\n"
    asking = ends.ask(1)
    ends.redis.write(b":1\r\n")
    assert await asyncio.wait_for(asking, SECONDS) == [1]


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_connection_is_lost(ends: Ends, how: str):
    asking = ends.ask(2)
    ends.redis.write(b":1\r\n")
    await until(lambda: ends.answers._received)
    getattr(ends.redis.transport, how)()
    assert await asyncio.wait_for(asking, SECONDS) is None
    if how == "close":
        assert await asyncio.wait_for(ends.stream.read(), SECONDS) == b":1\r\n"
    assert await asyncio.wait_for(ends.ask(1), SECONDS) is None


async def test_our_own_end_is_closed(ends: Ends):
    ends.writer.close()
    assert await asyncio.wait_for(ends.ask(1), SECONDS) is None
    await asyncio.wait_for(ends.writer.wait_closed(), SECONDS)


async def test_who_asks_gives_up(ends: Ends):
    asking = ends.ask(1)
    asking.cancel()
    ends.redis.write(b":1\r\n")
    await until(lambda: ends.answers._waiter is None)
    asking = ends.ask(1)
    ends.redis.write(b":2\r\n")
    assert await asyncio.wait_for(asking, SECONDS) == [2]


async def test_the_stream_waits_where_too_much_is_written(ends: Ends):
    ends.writer.write(bytes(50_000_000))
    draining = asyncio.create_task(ends.writer.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    await asyncio.wait_for(ends.asked.readexactly(50_000_000), SECONDS)
    await asyncio.wait_for(draining, SECONDS)
