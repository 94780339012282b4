"""Four hosts and one Redis: connections are reached across them, also after a cut."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import missing, unavailable
from tests.integration.deployment import Logged, read
from tests.integration.network import Network, NetworkError
from tests.servers import ROOT, Process
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("unmeasured")

SECONDS = 20.0
PORT = 8000
NAMES = ("daphne", "uvicorn", "daphne", "uvicorn")
HOSTS = range(1, len(NAMES) + 1)
CUT = 4
OTHERS = range(1, CUT)
COMMANDS = {
    "daphne": ("-m", "daphne", "-b", "127.0.0.1", "-p", str(PORT)),
    "uvicorn": ("-m", "uvicorn", "--port", str(PORT)),
}
READY = {"daphne": "Listening on TCP address", "uvicorn": "Uvicorn running on"}
LOST = "The connection to Redis is lost"

SETTINGS = "from tests.project.settings import *\n"
# As on the page, in a tenth of the time.
HURRY = {"IDLE: 5": "IDLE: 1", "INTVL: 2": "INTVL: 1", "10_000": "1_000"}


class OnHost(Logged):
    """A program on a host."""

    def __init__(self, network: Network, host: int, command: tuple[str, ...], **options: Any):
        self.ready = options.pop("ready")
        super().__init__(network.command(host, *command), **options)


class Hosts:
    """The servers, one on each host, and a client of each, connected from within its host."""

    def __init__(self, network: Network, servers: dict[int, Process], env: dict[str, str]) -> None:
        self.network = network
        self.servers = servers
        self.clients: dict[int, ClientConnection] = {}
        self.ids: dict[int, str] = {}
        self._env = env

    async def connect(self, stack: contextlib.AsyncExitStack) -> None:
        for host in HOSTS:
            sock = await asyncio.to_thread(self.network.connect, host, PORT)
            client = await stack.enter_async_context(connect("ws://127.0.0.1/ws/relay", sock=sock))
            self.clients[host] = client
            self.ids[host] = str(await received(client))

    async def send(self, here: int, there: int, text: str) -> None:
        """Lets the server of one host send to the client of another."""
        order = {"to": self.ids[there], "data": text}
        await self.clients[here].send(json.dumps(order))

    async def exchange(self, text: str, hosts: range) -> None:
        """Each host sends to each, itself too, and all of that arrives."""
        for here in hosts:
            for there in hosts:
                await self.send(here, there, f"{text} from {here}")
        for there in hosts:
            arrived = {str(await received(self.clients[there])) for _ in hosts}
            assert arrived == {f"{text} from {here}" for here in hosts}

    async def command(self, host: int, *arguments: str) -> None:
        """Runs `manage.py websocket ...` on a host."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.network.command(host, sys.executable, "manage.py", "websocket", *arguments),
            cwd=ROOT,
            env={**os.environ, **self._env},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr.decode()) == (0, "")


async def received(client: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(client.recv(), SECONDS)


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        missing("iproute2")
    if shutil.which("redis-server") is None:
        missing("redis-server")
    with contextlib.ExitStack() as stack:
        try:
            entered = stack.enter_context(Network(len(NAMES)))
        except NetworkError as error:
            unavailable(f"network namespaces can't be made here (root makes them): {error}")
        yield entered


@pytest.fixture
def start_hosts(network: Network, tmp_path: Path) -> Iterator[Callable[[str], Hosts]]:
    """Starts a redis-server at the switch, and with these settings a server on each host."""
    with contextlib.ExitStack() as stack:

        def start(settings: str) -> Hosts:
            (tmp_path / "hosts_settings.py").write_text(SETTINGS + settings)
            path = f"{ROOT}:{tmp_path}"
            env = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "hosts_settings"}
            servers = {host: _server(network, host, tmp_path, env) for host in HOSTS}
            for process in (_redis(network, tmp_path), *servers.values()):
                stack.enter_context(process)
            return Hosts(network, servers, env)

        yield start


def _redis(network: Network, folder: Path) -> Process:
    command = ("redis-server", "--bind", network.address(0), "--protected-mode", "no")
    ready = "Ready to accept connections"
    options = ("--save", "", "--port", "6379")
    return OnHost(
        network, 0, (*command, *options), ready=ready, log_path=folder / "redis.log", cwd=folder
    )


def _server(network: Network, host: int, folder: Path, env: dict[str, str]) -> Process:
    name = NAMES[host - 1]
    command = (sys.executable, *COMMANDS[name], "tests.project.asgi:application")
    log_path = folder / f"host-{host}.log"
    return OnHost(network, host, command, ready=READY[name], log_path=log_path, env=env)


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as opened:
        yield opened


def address(network: Network) -> dict[str, str]:
    return {"10.0.0.1": network.address(0)}


async def test_across_hosts(
    network: Network, start_hosts: Callable[[str], Hosts], stack: contextlib.AsyncExitStack
):
    url = {":password@": "", **address(network)}
    hosts = start_hosts(read("settings_redis.py", url))
    await hosts.connect(stack)
    await hosts.exchange("hello", HOSTS)

    network.cut(CUT)
    await hosts.exchange("without you", OTHERS)
    # Redis has it, and the kernel of its host tries to hand it on.
    await hosts.send(1, CUT, "to the cut off")
    network.mend(CUT)
    assert await received(hosts.clients[CUT]) == "to the cut off"
    await hosts.exchange("welcome back", HOSTS)

    await hosts.command(2, "send", hosts.ids[CUT], "from a terminal")
    assert await received(hosts.clients[CUT]) == "from a terminal"
    await hosts.command(3, "close", hosts.ids[CUT], "--code", "4000", "--reason", "bye")
    await asyncio.wait_for(hosts.clients[CUT].wait_closed(), SECONDS)
    assert (hosts.clients[CUT].close_code, hosts.clients[CUT].close_reason) == (4000, "bye")
    for host in OTHERS:
        assert "Traceback" not in hosts.servers[host].log
        assert LOST not in hosts.servers[host].log


async def test_a_cut_that_outlives_the_connection_to_redis(
    network: Network, start_hosts: Callable[[str], Hosts], stack: contextlib.AsyncExitStack
):
    hosts = start_hosts(read("settings_keepalive.py", {**address(network), **HURRY}))
    await hosts.connect(stack)
    network.cut(CUT)
    cut_off = hosts.servers[CUT]
    await until(lambda: LOST in cut_off.log)
    # Its own client goes on, and so do the others.
    await asyncio.wait_for(await hosts.clients[CUT].ping(), SECONDS)
    await hosts.exchange("without you", OTHERS)
    network.mend(CUT)

    async def knock() -> None:
        while True:
            await hosts.send(1, CUT, "are you there?")
            await asyncio.sleep(0.1)

    knocking = asyncio.create_task(knock())
    assert await received(hosts.clients[CUT]) == "are you there?"
    knocking.cancel()
    for host in OTHERS:
        assert LOST not in hosts.servers[host].log
