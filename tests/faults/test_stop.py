"""SIGTERM: what the clients see, what is cleaned up, and that the server comes to an end."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import StartRedis, StartServer
from tests.servers import Server, ServerName
from tests.waiting import until

pytestmark = pytest.mark.faults

LIMIT = 2.5
SLACK = 6.0  # seconds that a loaded machine may take besides
LIMITS = {"WS_SHUTDOWN_TIMEOUT": LIMIT, "WS_DISCONNECT_GRACE": 60}
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "tests.faults.hooks_settings",
    "LIMITS": json.dumps(LIMITS),
}
WORKERS = 2
BUSY = {"receive", "stubborn", "deaf", "threaded", "blocking"}
UPGRADE = (
    "GET /hooks HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@contextlib.asynccontextmanager
async def clients(server: Server, *paths: str) -> AsyncIterator[list[ClientConnection]]:
    """Connected, and busy where the hook is one that sleeps."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for path in paths:
            client = await stack.enter_async_context(connect(f"{server.ws_url}/{path}"))
            await asyncio.wait_for(client.recv(), 10)
            opened.append(client)
            if path in BUSY:
                await client.send("100")
        busy = sum(paths.count(path) for path in BUSY)
        await until(lambda: server.log.count("busy with 100") == busy)
        yield opened


def entries(folder: Path) -> list[Path]:
    """What the channel layer has there."""
    return list(folder.iterdir())


async def stop(server: Server) -> float:
    """Stops a server with SIGTERM; how many seconds it took."""
    started = time.monotonic()
    code = await asyncio.to_thread(server.terminate)
    assert code in {0, -signal.SIGTERM}  # uvicorn raises the signal again when it has stopped
    return time.monotonic() - started


async def ends(opened: list[ClientConnection]) -> Counter[int | None]:
    for client in opened:
        await asyncio.wait_for(client.wait_closed(), 10)
    return Counter(client.close_code for client in opened)


MIXED = [path for path in ("hooks", "receive", "stubborn", "disconnect") for _ in range(5)]


async def test_every_kind_of_connection_ends(
    server_name: ServerName, start_server: StartServer, folder: Path
):
    """Idle, busy, deaf to a cancellation, and with a disconnect() that never ends."""
    server = start_server(server_name, env={**ENVIRONMENT, "LOCAL_LAYER": str(folder)})
    async with clients(server, *MIXED) as opened:
        assert entries(folder) != []
        assert await stop(server) < LIMIT + SLACK
        assert await ends(opened) == {1012: len(MIXED)}
    assert server.log.count("disconnect called code=1012") == len(MIXED)
    assert "Traceback" not in server.log
    assert entries(folder) == []


async def test_groups_in_redis_are_left(
    server_name: ServerName, start_server: StartServer, start_redis: StartRedis
):
    """Those of core are keys, which nobody else would remove."""
    redis = start_redis()
    hosts = [{"address": redis.url, "socket_timeout": None}]
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": hosts}}
    limits = json.dumps({**LIMITS, "CHANNEL_LAYERS": {"default": layer}})
    server = start_server(server_name, env={**ENVIRONMENT, "LIMITS": limits})
    with Redis.from_url(redis.url) as asked:

        def groups() -> int:
            return len(asked.keys("*group*"))

        async with clients(server, *MIXED) as opened:
            assert groups() == len(MIXED)
            assert await stop(server) < LIMIT + SLACK
            assert await ends(opened) == {1012: len(MIXED)}
        assert server.log.count("disconnect called code=1012") == len(MIXED)
        assert "Traceback" not in server.log
        assert groups() == 0


async def test_daphne_closes_many_a_few_at_a_time(start_server: StartServer):
    """And lets nobody in meanwhile, also not over a TCP connection that was open before."""
    server = start_server("daphne", env=ENVIRONMENT)
    async with clients(server, *["hooks"] * 300) as opened:
        with socket.create_connection((server.host, server.port)) as early:
            # Answered, and kept open: daphne has taken it on.
            early.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert early.recv(4096).startswith(b"HTTP/1.1 200")
            stopping = asyncio.create_task(stop(server))
            await opened[0].wait_closed()
            assert opened[-1].state.name == "OPEN"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(server.host, server.port)
            early.sendall(UPGRADE.encode())
            assert early.recv(4096).startswith(b"HTTP/1.1 503")
            await opened[-1].send("served to the end")
            assert await opened[-1].recv() == "served to the end"
        assert await stopping < LIMIT + SLACK
        assert await ends(opened) == {1012: 300}
        assert {client.close_reason for client in opened} == {"service restart"}
    assert server.log.count("disconnect called code=1012") == 300


async def closing(client: ClientConnection) -> float:
    await client.wait_closed()
    return time.monotonic()


async def test_uvicorn_closes_many_a_few_at_a_time(start_server: StartServer):
    server = start_server("uvicorn", env=ENVIRONMENT)
    async with clients(server, *["hooks"] * 300) as opened:
        closings = [asyncio.create_task(closing(client)) for client in opened]
        assert await stop(server) < LIMIT + SLACK
        moments = sorted(await asyncio.gather(*closings))
        assert moments[-1] - moments[0] > 0.3  # all of them take a second
        assert await ends(opened) == {1012: 300}
    assert server.log.count("disconnect called code=1012") == 300
    assert "Traceback" not in server.log


HANGS = {
    "deaf": r"Deaf \(WebSocket '/deaf', connection \w+\)",
    "blocking": r"Inherited \(WebSocket '/blocking', connection \w+\)",
    "threaded": r"Thread ThreadPoolExecutor-0_0\n(.*\n)*.* in Threaded.wait",
}


@pytest.mark.parametrize("path", HANGS)
async def test_the_process_ends_whatever_hangs(
    path: str, server_name: ServerName, start_server: StartServer, folder: Path
):
    """After WS_SHUTDOWN_TIMEOUT and five seconds, where it doesn't by itself."""
    server = start_server(server_name, env={**ENVIRONMENT, "LOCAL_LAYER": str(folder)})
    async with clients(server, "hooks", path):
        assert entries(folder) != []
        assert await stop(server) < LIMIT + 5 + SLACK
    # daphne cancels once, and doesn't wait for the answer; uvicorn doesn't wait for threads.
    if (server_name, path) not in {("daphne", "deaf"), ("uvicorn", "threaded")}:
        assert server.process.returncode == -signal.SIGTERM
        server.wait_log(rf"CRITICAL panther_channels Still there 7.5 s .*:\n{HANGS[path]}")
    assert entries(folder) == []


class Gunicorn(Server):
    """gunicorn with the worker of uvicorn-worker."""

    def __init__(self, *, log_path: Path, env: dict[str, str]) -> None:
        application = "tests.project.asgi:application"
        super().__init__("uvicorn", application, log_path=log_path, env=env)
        options = ["--worker-class", "uvicorn_worker.UvicornWorker", "--workers", str(WORKERS)]
        bind = ["--bind", "127.0.0.1:0", "--no-control-socket"]
        self.command = (sys.executable, "-m", "gunicorn", *options, *bind, application)


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn"])
async def test_workers(kind: str, start_server: StartServer, folder: Path, tmp_path: Path):
    env = {**ENVIRONMENT, "LOCAL_LAYER": str(folder / "layer")}
    with contextlib.ExitStack() as stack:
        if kind == "gunicorn":
            server: Server = stack.enter_context(
                Gunicorn(log_path=tmp_path / "gunicorn.log", env=env)
            )
        else:
            server = start_server("uvicorn", env=env, args=("--workers", str(WORKERS)))
        await until(lambda: server.log.count("Started server process") == WORKERS)
        async with clients(server, *MIXED) as opened:
            assert await stop(server) < LIMIT + SLACK
            assert await ends(opened) == {1012: len(MIXED)}
        assert server.log.count("disconnect called code=1012") == len(MIXED)
        assert "Traceback" not in server.log
        assert server.log.count("Finished server process") == WORKERS
