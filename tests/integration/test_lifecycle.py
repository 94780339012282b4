"""Every end of a connection on real servers: disconnect() once, nothing left on the layer."""

import asyncio
import json
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode

from tests.conftest import StartServer
from tests.servers import RedisServer, Server, ServerName, manage
from tests.waiting import until

# On a loaded machine; an idle one needs a tenth of it.
SOON = 5.0


@pytest.fixture
def server(redis_backed_server: Server) -> Server:
    return redis_backed_server


@pytest.fixture
def channels(redis_server: RedisServer) -> Iterator[Callable[[], list[bytes]]]:
    """The groups in Redis that somebody has subscribed to."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield lambda: client.pubsub_channels("*__group__*")


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    await asyncio.wait_for(client.wait_closed(), SOON)
    return client.close_code, client.close_reason


class Watch:
    """What a server's log says from here on, and whether the layer is empty again."""

    def __init__(self, server: Server, channels: Callable[[], list[bytes]]) -> None:
        self.server = server
        self.channels = channels
        self.mark = server.mark()

    @property
    def log(self) -> str:
        return self.server.log[self.mark :]

    async def ended(self, connection_id: str, code: int) -> None:
        """Exactly one disconnect(), with this code, and nobody can be reached by this id."""
        line = f"disconnect called code={code} id={connection_id}"
        await until(lambda: "disconnect called" in self.log)
        assert line in self.log
        await until(lambda: self.channels() == [])
        async with connect(f"{self.server.ws_url}/ws/echo") as other:
            await other.send("still there")
            assert await other.recv() == "still there"
        assert self.log.count("disconnect called") == 1
        await until(lambda: self.channels() == [])


@pytest.fixture
def watch(server: Server, channels: Callable[[], list[bytes]]) -> Watch:
    return Watch(server, channels)


def reset(client: ClientConnection) -> None:
    """End TCP by RST, without a close frame and without FIN."""
    raw = client.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 1000), ((4001, "bye"), 4001), ((1001,), 1001), ((3000,), 3000)]
)
async def test_the_client_closes(watch: Watch, arguments: tuple[Any, ...], code: int):
    async with connect(f"{watch.server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        assert len(watch.channels()) == 1
        await client.close(*arguments)
    await watch.ended(connection_id, code)
    assert "ERROR" not in watch.log


async def test_the_client_closes_without_a_code(watch: Watch):
    async with connect(f"{watch.server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        client.transport.write(Frame(Opcode.CLOSE, b"").serialize(mask=True))
        await closed(client)
    await watch.ended(connection_id, 1005)


async def test_the_client_is_lost(watch: Watch):
    async with connect(f"{watch.server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        reset(client)
    await watch.ended(connection_id, 1006)
    assert "ERROR" not in watch.log


async def test_the_client_is_lost_while_the_handler_is_busy_and_then_sends(watch: Watch):
    async with connect(f"{watch.server.ws_url}/ws/late") as client:
        connection_id = str(await client.recv())
        await client.send(json.dumps({"busy": 0.3, "late": "too late"}))
        await until(lambda: "busy id=" in watch.log)
        reset(client)
    await watch.ended(connection_id, 1006)
    assert "busy is over" in watch.log
    assert "ERROR" not in watch.log
    assert "Traceback" not in watch.log


async def test_the_client_closes_while_the_handler_is_busy_and_then_sends(watch: Watch):
    async with connect(f"{watch.server.ws_url}/ws/late") as client:
        connection_id = str(await client.recv())
        await client.send(json.dumps({"busy": 0.3, "late": "too late"}))
        await until(lambda: "busy id=" in watch.log)
        await client.close(4001)
    await watch.ended(connection_id, 4001)
    assert "Traceback" not in watch.log


async def test_the_handler_closes(watch: Watch):
    async with connect(f"{watch.server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        await client.send(json.dumps({"close": 4001, "reason": "bye é"}))
        assert await closed(client) == (4001, "bye é")
    await watch.ended(connection_id, 4001)


async def test_outside_closes(watch: Watch):
    env = {"REDIS_URL": watch.server.env["REDIS_URL"]}
    async with connect(f"{watch.server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        command = ("websocket", "close", connection_id, "--code", "4001", "--reason", "bye")
        assert (await asyncio.to_thread(manage, *command, env=env)).returncode == 0
        assert await closed(client) == (4001, "bye")
    await watch.ended(connection_id, 4001)


async def test_the_client_does_not_answer_a_close_frame(watch: Watch):
    """It is dropped after a while, and what was sent is what disconnect() is told."""
    async with connect(f"{watch.server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        await client.send(json.dumps({"close": 4001}))
        client.transport.pause_reading()
        await until(lambda: "disconnect called" in watch.log, 15)
        reset(client)
    await watch.ended(connection_id, 4001)


@pytest.mark.parametrize("hook", ["connect", "receive", "disconnect", "before-accept"])
async def test_an_exception_in_a_hook(watch: Watch, hook: str):
    target = f"{watch.server.ws_url}/ws/raise/{hook}"
    if hook == "before-accept":
        with pytest.raises(InvalidStatus) as caught:
            await connect(target).__aenter__()
        assert caught.value.response.status_code == 403
    else:
        async with connect(target) as client:
            if hook != "connect":
                await client.send("hello")
            if hook == "disconnect":
                assert await client.recv() == "hello"
                await client.close(4001)
            else:
                assert (await closed(client))[0] == 1011
        await until(lambda: "disconnect called" in watch.log)
    await until(lambda: watch.channels() == [])
    await until(lambda: f"RuntimeError: raised in {hook}" in watch.log)
    assert watch.log.count("disconnect called") == (0 if hook == "before-accept" else 1)
    # Once, by us, and nothing of the server's.
    assert watch.log.count("Traceback (most recent call last)") == 1
    assert watch.log.count("ERROR") == watch.log.count("ERROR panther_channels") == 1


@pytest.mark.parametrize(
    "arguments", [("send", "fail"), ("close", "--code", "4999")], ids=["send", "close"]
)
async def test_an_exception_in_what_outside_calls(watch: Watch, arguments: tuple[str, ...]):
    env = {"REDIS_URL": watch.server.env["REDIS_URL"]}
    async with connect(f"{watch.server.ws_url}/ws/failing") as client:
        connection_id = str(await client.recv())
        command = ("websocket", arguments[0], connection_id, *arguments[1:])
        assert (await asyncio.to_thread(manage, *command, env=env)).returncode == 0
        assert (await closed(client))[0] == 1011
    await watch.ended(connection_id, 1011)
    assert watch.log.count("Traceback (most recent call last)") == 1


async def test_1011_comes_at_once(server: Server):
    delays = []
    for _ in range(3):
        async with connect(f"{server.ws_url}/ws/raise/receive") as client:
            await client.send("hello")
            started = time.monotonic()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            delays.append(time.monotonic() - started)
            assert caught.value.rcvd == Close(1011, "")
    assert max(delays) < 0.5


async def test_the_server_gives_up_on_a_handler_whose_client_has_gone(
    start_server: StartServer, channels: Callable[[], list[bytes]]
):
    """It is cancelled after --application-close-timeout; the code is still the client's."""
    server = start_server("daphne", redis=True, args=("--application-close-timeout", "1"))
    async with connect(f"{server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        await client.send(json.dumps({"busy": 30}))
        await until(lambda: "busy id=" in server.log)
        await client.close(4001)
    await until(lambda: "disconnect called" in server.log)
    assert f"disconnect called code=4001 id={connection_id}" in server.log
    await until(lambda: channels() == [])


async def test_the_server_stops_and_gives_up_on_a_handler(
    start_server: StartServer, channels: Callable[[], list[bytes]]
):
    """It is cancelled by uvicorn, which then waits for nothing but the lifespan."""
    server = start_server("uvicorn", redis=True, args=("--timeout-graceful-shutdown", "1"))
    async with connect(f"{server.ws_url}/ws/obey") as client:
        connection_id = str(await client.recv())
        await client.send(json.dumps({"busy": 30}))
        await until(lambda: "busy id=" in server.log)
        await asyncio.to_thread(server.terminate)
        assert (await closed(client))[0] == 1012
    assert "busy was cancelled" in server.log
    assert f"disconnect called code=1012 id={connection_id}" in server.log
    assert channels() == []


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_sigterm(
    server_name: ServerName,
    start_server: StartServer,
    channels: Callable[[], list[bytes]],
    busy: bool,
):
    server = start_server(server_name, redis=True)
    clients = [await connect(f"{server.ws_url}/ws/obey") for _ in range(10)]
    ids = [str(await client.recv()) for client in clients]
    assert len(channels()) == 1
    if busy:
        for client in clients:
            await client.send(json.dumps({"busy": 2}))
        await until(lambda: server.log.count("busy id=") == 10)
    code = await asyncio.to_thread(server.terminate)
    # uvicorn raises the signal again when it has stopped.
    assert code == (-signal.SIGTERM if server_name == "uvicorn" else 0)
    for client in clients:
        assert (await closed(client))[0] == 1012
    for connection_id in ids:
        assert server.log.count(f"disconnect called code=1012 id={connection_id}") == 1
    assert server.log.count("disconnect called") == 10
    assert "Traceback" not in server.log
    assert channels() == []
