"""SIGTERM: what the clients see, what is cleaned up, and that the server comes to an end."""

import asyncio
import contextlib
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.client import Client, Connection
from tests.conftest import StartRedis, StartServer
from tests.servers import Server, ServerName, misbehaving
from tests.waiting import until
from tests.wire import request

pytestmark = pytest.mark.faults

LIMIT = 2.5
SLACK = 6.0  # seconds that a loaded machine may take besides
LIMITS: dict[str, Any] = {"WS_SHUTDOWN_TIMEOUT": LIMIT, "WS_DISCONNECT_GRACE": 60}
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "tests.project.settings", **misbehaving(**LIMITS)}
BUSY = {"receive", "stubborn", "deaf", "threaded", "blocking"}


@contextlib.asynccontextmanager
async def clients(server: Server, *paths: str) -> AsyncIterator[list[Connection]]:
    """Connected, and busy where the hook is one that sleeps."""
    async with Client(server) as connect:
        opened = []
        for path in paths:
            opened.append(await connect(f"/{path}"))
            await opened[-1].receive()
            if path in BUSY:
                await opened[-1].send("100")
        busy = sum(paths.count(path) for path in BUSY)
        await until(lambda: server.log.count("busy with 100") == busy)
        yield opened


def entries(folder: Path) -> list[Path]:
    """What the channel layer has there."""
    return list(folder.iterdir())


async def stop(server: Server, number: int = signal.SIGTERM) -> float:
    """Stops a server by a signal; how many seconds it took."""
    started = time.monotonic()
    server.process.send_signal(number)
    code = await asyncio.to_thread(server.process.wait, LIMIT + 5 + SLACK)
    assert code in {0, -number, -signal.SIGTERM}  # uvicorn raises it again when it has stopped
    return time.monotonic() - started


async def check_all_ended(server: Server, opened: list[Connection]) -> None:
    """All were closed in the same way, and have had their disconnect()."""
    assert {await client.closed() for client in opened} == {(1012, "service restart")}
    assert server.log.count("disconnect called code=1012") == len(opened)
    assert "Traceback" not in server.log


MIXED = [path for path in ("hooks", "receive", "stubborn", "disconnect") for _ in range(5)]


async def test_every_kind_of_connection_ends(
    server_name: ServerName, start_server: StartServer, folder: Path
):
    """Idle, busy, deaf to a cancellation, and with a disconnect() that never ends."""
    server = start_server(server_name, env={**ENVIRONMENT, "LOCAL_LAYER": str(folder)})
    async with clients(server, *MIXED) as opened:
        assert entries(folder) != []
        assert await stop(server) < LIMIT + SLACK
        await check_all_ended(server, opened)
    assert entries(folder) == []


async def test_groups_in_redis_are_left(
    server_name: ServerName, start_server: StartServer, start_redis: StartRedis
):
    """Those of core are keys, which nobody else would remove."""
    redis = start_redis()
    hosts = [{"address": redis.url, "socket_timeout": None}]
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": hosts}}
    env = misbehaving(**LIMITS, CHANNEL_LAYERS={"default": layer})
    server = start_server(server_name, env=env)
    with Redis.from_url(redis.url) as asked:

        def groups() -> int:
            return len(asked.keys("*group*"))

        async with clients(server, *MIXED) as opened:
            assert groups() == len(MIXED)
            assert await stop(server) < LIMIT + SLACK
            await check_all_ended(server, opened)
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
            assert (await opened[0].closed()).code == 1012
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(server.host, server.port)
            early.sendall(request(b"/hooks"))
            assert early.recv(4096).startswith(b"HTTP/1.1 503")
            assert await opened[-1].ask("served to the end") == "served to the end"
        assert await stopping < LIMIT + SLACK
        await check_all_ended(server, opened)


HANGS = {
    "deaf": r"Deaf \(WebSocket '/deaf', connection \w+\)",
    "blocking": r"Inherited \(WebSocket '/blocking', connection \w+\)",
    "threaded": r"Thread ThreadPoolExecutor-0_0\n(.*\n)*.* in Threaded.wait",
}


@pytest.mark.parametrize(
    ("path", "number"),
    [("deaf", signal.SIGTERM), ("blocking", signal.SIGINT), ("threaded", signal.SIGTERM)],
)
async def test_the_process_ends_whatever_hangs(
    path: str, number: int, server_name: ServerName, start_server: StartServer, folder: Path
):
    """After WS_SHUTDOWN_TIMEOUT and five seconds, where it doesn't by itself."""
    server = start_server(server_name, env={**ENVIRONMENT, "LOCAL_LAYER": str(folder)})
    async with clients(server, "hooks", path):
        assert entries(folder) != []
        await stop(server, number)
    # daphne cancels once, and doesn't wait for the answer; uvicorn doesn't wait for threads.
    if (server_name, path) not in {("daphne", "deaf"), ("uvicorn", "threaded")}:
        assert server.process.returncode == -signal.SIGTERM
        server.wait_log(rf"CRITICAL panther_channels Still there 7.5 s .*:\n{HANGS[path]}")
    assert entries(folder) == []


class Program(Server):
    """A program of one's own that serves the project, with uvicorn."""

    def __init__(self, *command: str, log_path: Path, env: dict[str, str]) -> None:
        super().__init__("uvicorn", "", log_path=log_path, env=env)
        self.command = (sys.executable, "-m", *command)


AFTERWARDS = {
    "atexit": (-signal.SIGTERM, "Still there .*, in hang$"),
    "a thread": (-signal.SIGTERM, r"Still there .*\nThread T\n.*, in hang$"),
    "a log": (-signal.SIGALRM, ""),
    "the program": (0, ""),
    "in its loop": (0, ""),  # as a request over HTTP, which may take its time
    "a daemon": (0, ""),
}


async def test_a_program_that_goes_on_after_its_server(tmp_path: Path):
    """It may, as long as it doesn't hang at its end."""
    env = {**ENVIRONMENT, **misbehaving(WS_SHUTDOWN_TIMEOUT=0.2)}
    with contextlib.ExitStack() as stack:
        programs = {}
        for number, what in enumerate(AFTERWARDS):
            log_path = tmp_path / f"{number}.log"
            programs[what] = Program("tests.faults.after", what, log_path=log_path, env=env)
            stack.enter_context(programs[what])
            async with clients(programs[what], "hooks"):
                programs[what].process.terminate()
        for what, (code, text) in AFTERWARDS.items():
            assert await asyncio.to_thread(programs[what].process.wait, 30) == code, what
            log = programs[what].log
            assert re.search(text, log, re.DOTALL | re.MULTILINE), log
            assert ("Still there" in log) is bool(text), log
