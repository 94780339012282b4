"""`manage.py websocket` as somebody uses it: at a terminal, and in a script."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from panther_channels.management.terminal import width_of
from tests.conftest import GetRedis, StartRedis, StartServer
from tests.servers import ROOT, SERVER_NAMES, Server, manage, suspended
from tests.waiting import SECONDS, until

pytestmark = [pytest.mark.timeout(180)]

COLUMNS, ROWS = 80, 24


class Terminal:
    """The command at a terminal, and what stands there."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process, self.end = process, end
        self.written = ""

    def _read(self) -> bool:
        try:
            data = os.read(self.end, 65536)
        except BlockingIOError:
            return True
        except OSError:  # as Linux tells that nobody has the other end open
            return False
        self.written += data.decode().replace("\r\n", "\n")
        return bool(data)

    async def shows(self, pattern: str) -> None:
        """Wait for a text, from now on."""
        self.written = ""
        await until(lambda: self._read() and re.search(pattern, self.written))

    def types(self, text: str) -> None:
        os.write(self.end, text.encode())

    async def ended(self) -> int:
        """The exit status, once all is read."""
        await until(lambda: not self._read())
        return await asyncio.to_thread(self.process.wait, SECONDS)


@contextmanager
def terminal(server: Server, *words: str) -> Iterator[Terminal]:
    """Runs `manage.py websocket` at a terminal, where ^C is a signal."""
    end, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.set_blocking(end, False)
    script = "import fcntl, os, runpy, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    script += "sys.argv = sys.argv[1:]; runpy.run_path('manage.py', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "manage.py", "websocket", *words],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.project.settings", **server.env},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    )
    os.close(other)
    try:
        yield Terminal(process, end)
    finally:
        process.kill()
        process.wait()
        os.close(end)


class Site:
    """Two servers, one of each kind, and on each of them three connections of three users."""

    def __init__(self, servers: list[Server], stack: AsyncExitStack) -> None:
        self.servers = servers
        self.stack = stack
        self.clients: dict[str, ClientConnection] = {}

    async def open(self, *users: str) -> None:
        for server in self.servers:
            for user in users:
                url = f"{server.ws_url}/ws/member?user={user}&join=room-7"
                client = await self.stack.enter_async_context(connect(url, open_timeout=SECONDS))
                self.clients[str(await client.recv())] = client

    async def run(self, *words: str, **options: Any) -> tuple[int, str, str]:
        options["env"] = self.servers[0].env
        done = await asyncio.to_thread(manage, "websocket", *words, **options)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    async def codes(self) -> Counter[int | None]:
        """How many clients were closed with which code."""
        for client in self.clients.values():
            await asyncio.wait_for(client.wait_closed(), SECONDS)
        return Counter(client.close_code for client in self.clients.values())


@pytest.fixture(params=["local", "redis"])
async def site(
    request: pytest.FixtureRequest, folder: Path, get_redis: GetRedis, start_server: StartServer
) -> AsyncIterator[Site]:
    env = {"LOCAL_LAYER": str(folder), "REDIS_URL": ""}
    if request.param == "redis":
        env["REDIS_URL"] = get_redis().url
    async with AsyncExitStack() as stack:
        starting = (asyncio.to_thread(start_server, name, env=env) for name in SERVER_NAMES)
        found = Site(await asyncio.gather(*starting), stack)
        await found.open("ada", "bob", "eve")
        yield found
        for client in found.clients.values():
            client.transport.abort()


async def test_at_a_terminal(site: Site):
    with terminal(site.servers[0], "list") as screen:
        assert await screen.ended() == 0
    heading, *rows, empty, totals = screen.written.splitlines()
    assert re.split(" {2,}", heading) == ["ID", "USER", "PATH", "SINCE", "LAST", "PROCESS"]
    assert {row.split()[0] for row in rows} == {*site.clients}
    assert all(width_of(row) <= COLUMNS for row in (heading, *rows))
    assert (empty, totals) == ("", "6 connections, 3 users, 2 processes")

    with terminal(site.servers[0], "list", "--user", "pk:zoe", "--watch", "0.1") as screen:
        await screen.shows(r"No such connection is open\.\x1b\[K")
        await site.open("zoe")
        await screen.shows(r"2 connections, 1 user, 2 processes\x1b\[K")
        assert "zoe! (zoe)" in screen.written
        screen.types("\x03")
        assert await screen.ended() == 0

    for typed, status in (("n\n", 1), ("\x03", 130), ("\x04", 1)):
        with terminal(site.servers[0], "close", "--all") as screen:
            await screen.shows(r"^Close 8 connections of this project\? \[y/N\] ")
            screen.types(typed)
            assert await screen.ended() == status
    assert (await site.run("count"))[1] == "8\n"

    process = str(site.servers[0].pid)
    with terminal(site.servers[0], "drain", "--process", process, "--batch", "1") as screen:
        await screen.shows(rf"^Close 4 connections of process {process}\? \[y/N\] ")
        screen.types("y\n")
        assert await screen.ended() == 0
    bar = re.escape(f"\r[{'#' * 15}{'.' * 15}] 2/4\x1b[K")
    assert re.search(rf"{bar}(.|\n)*{'#' * 30}\] 4/4.*\nClosed 4 connections\.\n$", screen.written)

    with terminal(site.servers[0], "drain", "--yes", "--batch", "1", "--every", "60") as screen:
        await screen.shows("1/4")
        screen.types("\x03")
        assert await screen.ended() == 130
    assert "Closed 1 connection; 3 are left." in screen.written

    with terminal(site.servers[0], "close", "--group", "room-7", "--code", "4001") as screen:
        await screen.shows(r"^Close 3 connections of group room-7\? \[y/N\] ")
        screen.types("yes\n")
        assert await screen.ended() == 0
    assert await site.codes() == {1012: 5, 4001: 3}


async def test_in_a_script(site: Site):
    (one, client), *others = site.clients.items()
    for words in ((one,), ("--user", "pk:ada"), ("--group", "room-7"), ("--all",)):
        assert (await site.run("send", *words, "x"))[0] == 0
    for other in (client, others[-1][1]):
        await other.send("the end")
    assert [await client.recv() for _ in range(5)] == [*["x"] * 4, "the end"]
    assert [await others[-1][1].recv() for _ in range(3)] == [*["x"] * 2, "the end"]
    for nobody in (f"send {one[:-4]}0000 x", "send --group x x", f"close {'f' * 32}"):
        assert (await site.run(*nobody.split()))[0] == 1
    gone, pipe = os.pipe()  # as before `head`, which has what it wants
    os.close(gone)
    status, told, error = await site.run("list", stdout=pipe)
    assert (status, error) == (141, "")

    silent = others[-1][0]
    with suspended(site.servers[1]):
        for line in ("list", "send --all x", "drain --yes --every 0.01"):
            status, told, error = await site.run(*line.split())
            assert (status, silent[:8] in error) == (3, True), (line, told, error)
            if line == "list":
                assert told.count("\n") == 3
        assert (await site.run("send", silent, "x", "--no-wait"))[0] == 0


async def test_without_redis(start_redis: StartRedis, start_server: StartServer):
    redis = start_redis()
    server = start_server("daphne", env={"REDIS_URL": redis.url})
    async with AsyncExitStack() as stack:
        site = Site([server], stack)
        await site.open("ada", "bob")
        with terminal(server, "list", "--watch", "0.1") as screen:
            await screen.shows("2 connections")
            draining = site.run("drain", "--yes", "--batch", "1", "--every", "3")
            drained = asyncio.create_task(draining)
            await screen.shows("1 connection,")
            redis.kill()
            await screen.shows("channel layer failed.* It is asked again")
            screen.types("\x03")
            assert await screen.ended() == 0
        status, told, error = await drained
        assert (status, "Closed 1 connection; 1 is left." in told) == (3, True), (told, error)
        lines = ("list", "count", "send --all x", "close --all --yes")
        for status, _, error in await asyncio.gather(*(site.run(*line.split()) for line in lines)):
            assert (status, "CommandError: The channel layer failed" in error) == (3, True), error
