"""Ends of a connection that only real servers have; the others are scenarios of tests/contracts."""

import asyncio
import json
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from websockets.frames import Frame, Opcode

from tests.client import Client, Closed, Connection
from tests.conftest import StartServer
from tests.servers import RedisServer, Server, ServerName, manage
from tests.waiting import until


@pytest.fixture
def server(redis_backed_server: Server) -> Server:
    return redis_backed_server


def channels(server: RedisServer | Server) -> list[bytes]:
    """The groups in Redis that somebody has subscribed to."""
    url = server.url if isinstance(server, RedisServer) else server.env["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        return sorted(client.pubsub_channels("*__group__*"))


class Watch:
    """What a server's log says from here on, and whether the layer is as it was."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.mark = server.mark()
        self.before = channels(server)

    @property
    def log(self) -> str:
        return self.server.log[self.mark :]

    async def ended(self, connection_id: str, code: int) -> None:
        """Exactly one disconnect(), with this code, and nothing of it is on the layer."""
        await until(lambda: "disconnect called" in self.log, 15)
        assert f"disconnect called code={code} id={connection_id}" in self.log
        await until(lambda: channels(self.server) == self.before)
        assert self.log.count("disconnect called") == 1
        assert self.log.count("ERROR") == self.log.count("Traceback") == 0


@pytest.fixture
async def watch(connect: Client, server: Server) -> Watch:
    await connect("/ws/id")  # what a process keeps as long as it has connections is there now
    return Watch(server)


async def obey(connect: Client, **order: Any) -> tuple[Connection, str]:
    ws = await connect("/ws/late" if "late" in order else "/ws/obey")
    connection_id = str(await ws.receive())
    if order:
        await ws.send(json.dumps(order))
    return ws, connection_id


async def close(ws: Connection) -> None:
    await ws.close(4001)


async def close_without_a_code(ws: Connection) -> None:
    ws.websocket.transport.write(Frame(Opcode.CLOSE, b"").serialize(mask=True))
    await ws.closed()


async def reset(ws: Connection) -> None:
    """End TCP by RST, without a close frame and without FIN."""
    raw = ws.websocket.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await ws.abort()


End = Callable[[Connection], Awaitable[None]]


@pytest.mark.parametrize(
    ("end", "code"), [(close, 4001), (close_without_a_code, 1005), (reset, 1006)]
)
async def test_the_client_goes(connect: Client, watch: Watch, end: End, code: int):
    ws, connection_id = await obey(connect)
    await end(ws)
    await watch.ended(connection_id, code)


@pytest.mark.parametrize(("end", "code"), [(close, 4001), (reset, 1006)])
async def test_the_client_goes_while_the_handler_is_busy_and_then_sends(
    connect: Client, watch: Watch, end: End, code: int
):
    ws, connection_id = await obey(connect, busy=0.3, late="too late")
    await until(lambda: "busy id=" in watch.log)
    await end(ws)
    await watch.ended(connection_id, code)
    assert "busy is over" in watch.log


async def test_the_client_does_not_answer_a_close_frame(connect: Client, watch: Watch):
    """It is dropped after a while, and what was sent is what disconnect() is told."""
    ws, connection_id = await obey(connect)
    ws.websocket.transport.pause_reading()
    await ws.send(json.dumps({"close": 4001}))
    await watch.ended(connection_id, 4001)


@pytest.mark.parametrize("hook", ["before-accept", "connect", "receive", "disconnect"])
async def test_an_exception_in_a_hook(connect: Client, watch: Watch, hook: str):
    ws = await connect(f"/ws/raise/{hook}")
    assert ws.status == (403 if hook == "before-accept" else 101)
    if hook == "disconnect":
        await ws.close(4001)
    elif ws.status == 101:
        started = time.monotonic()
        assert await ws.ask("hello") == (1011, "")
        assert time.monotonic() - started < 2  # at once, and not after a server's patience
    await until(lambda: f"RuntimeError: raised in {hook}" in watch.log)
    await until(lambda: channels(watch.server) == watch.before)
    assert watch.log.count("disconnect called") == (0 if hook == "before-accept" else 1)
    # Once, by us, and nothing of the server's.
    assert watch.log.count("Traceback (most recent call last)") == 1
    assert watch.log.count("ERROR") == watch.log.count("ERROR panther_channels") == 1


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (("send", "fail"), (1011, "")),
        (("close", "--code", "4999"), (1011, "")),
        (("close", "--code", "4001", "--reason", "bye é"), (4001, "bye é")),
    ],
)
async def test_outside_ends_it(
    connect: Client, watch: Watch, arguments: tuple[str, ...], end: Closed
):
    ws = await connect("/ws/failing")
    connection_id = str(await ws.receive())
    command = ("websocket", arguments[0], connection_id, *arguments[1:])
    env = {"REDIS_URL": watch.server.env["REDIS_URL"]}
    assert (await asyncio.to_thread(manage, *command, env=env)).returncode == 0
    assert await ws.closed() == end
    await until(lambda: f"disconnect called code={end[0]} id={connection_id}" in watch.log)
    assert watch.log.count("Traceback (most recent call last)") == (end[0] == 1011)


# The end of a server, or of its patience


async def test_daphne_gives_up_on_a_handler_whose_client_has_gone(start_server: StartServer):
    """It is cancelled after --application-close-timeout; the code is still the client's."""
    server = start_server("daphne", redis=True, args=("--application-close-timeout", "1"))
    async with Client(server) as connect:
        await connect("/ws/id")
        before = channels(server)
        ws, connection_id = await obey(connect, busy=30)
        await until(lambda: "busy id=" in server.log)
        await ws.close(4001)
        await until(lambda: "disconnect called" in server.log)
        assert f"disconnect called code=4001 id={connection_id}" in server.log
        await until(lambda: channels(server) == before)


async def test_uvicorn_stops_and_gives_up_on_a_handler(
    start_server: StartServer, redis_server: RedisServer
):
    """It is cancelled by uvicorn, which then waits for nothing but the lifespan."""
    server = start_server("uvicorn", redis=True, args=("--timeout-graceful-shutdown", "1"))
    before = channels(redis_server)
    async with Client(server) as connect:
        ws, connection_id = await obey(connect, busy=30)
        await until(lambda: "busy id=" in server.log)
        await asyncio.to_thread(server.terminate)
        assert (await ws.closed()).code == 1012
    assert "busy was cancelled" in server.log
    assert f"disconnect called code=1012 id={connection_id}" in server.log
    assert channels(redis_server) == before


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_sigterm(
    server_name: ServerName, start_server: StartServer, redis_server: RedisServer, busy: bool
):
    server = start_server(server_name, redis=True)
    before = channels(redis_server)
    async with Client(server) as connect:
        found = [await obey(connect, **({"busy": 2} if busy else {})) for _ in range(10)]
        await until(lambda: server.log.count("busy id=") == (10 if busy else 0))
        code = await asyncio.to_thread(server.terminate)
        # uvicorn raises the signal again when it has stopped.
        assert code == (-signal.SIGTERM if server_name == "uvicorn" else 0)
        assert {await ws.closed() for ws, _ in found} == {(1012, "service restart")}
    for _, connection_id in found:
        assert server.log.count(f"disconnect called code=1012 id={connection_id}") == 1
    assert server.log.count("disconnect called") == 10
    assert "Traceback" not in server.log
    assert channels(redis_server) == before
