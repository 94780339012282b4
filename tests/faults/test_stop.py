"""SIGTERM: what the clients see, what is cleaned up, and that the server comes to an end."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from panther_channels.layers import LocalChannelLayer
from panther_channels.websocket import send_message_to_websocket
from tests.client import Client, Connection
from tests.conftest import StartRedis, StartServer
from tests.layers import default_layer
from tests.servers import ROOT, Server, ServerName, misbehaving
from tests.waiting import until
from tests.wire import close, raw_client, request

pytestmark = pytest.mark.faults

LIMIT = 2.5
SLACK = 6.0  # seconds that a loaded machine may take besides
LIMITS: dict[str, Any] = {"WS_SHUTDOWN_TIMEOUT": LIMIT, "WS_DISCONNECT_GRACE": 60}
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "tests.project.settings", **misbehaving(**LIMITS)}
BUSY = {"receive", "events", "stubborn", "deaf", "threaded", "blocking"}


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
            # And that of everybody, and three by which the event loop is asked.
            assert groups() == len(MIXED) + 4
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


async def test_the_answer_to_a_close_frame_is_waited_for(
    server_name: ServerName, start_server: StartServer
):
    """Alone, both reset the connection, and a proxy has an error in its log."""
    server = start_server(server_name, env=ENVIRONMENT)
    with raw_client(server, "/hooks") as client:
        client.receive()
        server.process.terminate()
        assert client.closed() == (1012, "service restart")
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(SLACK)
        client.socket.sendall(close(1012))
        assert client.socket.recv(1) == b""


async def test_a_hook_and_an_event_that_never_end_share_their_time(
    server_name: ServerName, start_server: StartServer, folder: Path
):
    limit = 6.0
    env = {**ENVIRONMENT, **misbehaving(WS_SHUTDOWN_TIMEOUT=limit, WS_DISCONNECT_GRACE=60)}
    server = start_server(server_name, env={**env, "LOCAL_LAYER": str(folder)})
    async with Client(server) as connect:
        client = await connect("/events")
        with default_layer(LocalChannelLayer(directory=str(folder))):
            await send_message_to_websocket(str(await client.receive()), "sleep")
        await client.send("100")
        await until(lambda: server.log.count("busy with") == 2)
        assert await stop(server) < limit * 0.8
        await check_all_ended(server, [client])


HANGS = {
    ("deaf", signal.SIGTERM): r"Deaf \(WebSocket '/deaf', connection \w+\)",
    ("blocking", signal.SIGINT): r"Inherited \(WebSocket '/blocking', connection \w+\)",
    ("threaded", signal.SIGTERM): r"Thread ThreadPoolExecutor-0_0\n(.*\n)*.* in Threaded.wait",
}


async def test_the_process_ends_whatever_hangs(
    server_name: ServerName, start_server: StartServer, folder: Path
):
    """After WS_SHUTDOWN_TIMEOUT and five seconds, where it doesn't by itself."""

    async def check(path: str, number: int, pattern: str) -> None:
        own = folder / path
        own.mkdir(0o700)
        env = {**ENVIRONMENT, "LOCAL_LAYER": str(own)}
        server = await asyncio.to_thread(start_server, server_name, env=env)
        async with clients(server, "hooks", path):
            assert entries(own) != []
            await stop(server, number)
        # daphne cancels once, and doesn't wait for the answer; uvicorn doesn't wait for threads.
        if (server_name == "daphne", path) not in {(True, "deaf"), (False, "threaded")}:
            assert server.process.returncode == -signal.SIGTERM
            server.wait_log(rf"CRITICAL panther_channels Still there 7.5 s .*:\n{pattern}")
        assert entries(own) == []

    await asyncio.gather(*(check(*how, pattern) for how, pattern in HANGS.items()))


class Program(Server):
    """A program of one's own that serves the project, with uvicorn."""

    def __init__(self, *command: str, log_path: Path, env: dict[str, str]) -> None:
        super().__init__("uvicorn", "", log_path=log_path, env=env)
        self.command = (sys.executable, "-m", *command)


@pytest.mark.parametrize("how", ["a change", "as it reloads", "^C", "SIGTERM", "to both"])
async def test_the_autoreloader_of_runserver(how: str, tmp_path: Path):
    """Alone, its end takes daphne with it: 1006, and no disconnect()."""
    settings = tmp_path / "reloaded.py"
    settings.write_text("from tests.project.settings import *")
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    env = {**ENVIRONMENT, "DJANGO_SETTINGS_MODULE": "reloaded", "PYTHONPATH": path}
    command = ("django", "runserver", "127.0.0.1:0")
    with Program(*command, log_path=tmp_path / "log", env=env) as server:
        async with clients(server, "hooks", "receive") as opened:

            def is_reloading() -> bool:
                settings.touch()  # it looks once a second
                return "reloading" in server.log

            if how == "^C":
                (child,) = psutil.Process(server.pid).children()
                for process in (server.process, child):
                    process.send_signal(signal.SIGINT)
            elif how == "as it reloads":
                await until(is_reloading)
                server.process.terminate()
            elif how == "SIGTERM":
                server.process.terminate()
            elif how == "to both":
                os.killpg(server.pid, signal.SIGTERM)

            def is_over() -> bool:
                if how == "a change":
                    is_reloading()
                return server.log.count("disconnect called") == len(opened)

            await until(is_over)
            await check_all_ended(server, opened)
            if how != "a change":
                assert await asyncio.to_thread(server.process.wait, 10) == 0


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

    async def check(what: str, code: int, text: str) -> None:
        log_path = tmp_path / f"{what}.log"
        program = Program("tests.faults.after", what, log_path=log_path, env=env)
        await asyncio.to_thread(stack.enter_context, program)
        async with clients(program, "hooks"):
            program.process.terminate()
        assert await asyncio.to_thread(program.process.wait, 30) == code, what
        assert re.search(text, program.log, re.DOTALL | re.MULTILINE), program.log
        assert ("Still there" in program.log) is bool(text), program.log

    with contextlib.ExitStack() as stack:
        await asyncio.gather(*(check(what, *told) for what, told in AFTERWARDS.items()))
