"""A server on one host and Redis on another: connections are reached, also after a cut."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import missing, unavailable
from tests.integration.deployment import Logged, read
from tests.integration.network import Network, NetworkError
from tests.servers import ROOT, manage
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("unmeasured")

SECONDS = 20.0
OF_REDIS, OF_SERVER = 0, 1
URL = "redis://:password@10.0.0.1:6379/0"
# As on the page, in a tenth of the time.
HURRY = {"IDLE: 5": "IDLE: 1", "INTVL: 2": "INTVL: 1", "10_000": "1_000"}
LOST = "The connection to Redis is lost"


class OnHost(Logged):
    """A program on a host."""

    def __init__(self, network: Network, host: int, *command: str, ready: str, **options: Any):
        self.ready = ready
        super().__init__(network.command(host, *command), **options)


class Hosts:
    """The server, Redis, and a client, connected from within its server's host."""

    def __init__(self, network: Network, folder: Path, settings: str) -> None:
        (folder / "hosts_settings.py").write_text(
            "from tests.project.settings import *\n" + settings
        )
        path = f"{ROOT}:{folder}"
        self.network = network
        self.env = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "hosts_settings"}
        redis = ("redis-server", "--bind", network.address(OF_REDIS), "--protected-mode", "no")
        self.redis = OnHost(
            *(network, OF_REDIS, *redis, "--save", ""),
            ready="Ready to accept connections",
            log_path=folder / "redis.log",
            cwd=folder,
        )
        self.server = OnHost(
            *(
                network,
                OF_SERVER,
                sys.executable,
                "-m",
                "uvicorn",
                "tests.project.asgi:application",
            ),
            ready="Uvicorn running on",
            log_path=folder / "server.log",
            env=self.env,
        )

    async def connected(self, stack: contextlib.AsyncExitStack) -> tuple[ClientConnection, str]:
        for process in (self.redis, self.server):
            stack.enter_context(process)
        sock = await asyncio.to_thread(self.network.connect, OF_SERVER, 8000)
        client = await stack.enter_async_context(connect("ws://127.0.0.1/ws/id", sock=sock))
        return client, await received(client)

    async def command(self, *arguments: str) -> None:
        """Runs `manage.py websocket ...` on the host of Redis."""
        words = ("websocket", *arguments)
        before = self.network.command(OF_REDIS)
        done = await asyncio.to_thread(manage, *words, env=self.env, before=before)
        assert (done.returncode, done.stderr) == (0, "")


async def received(client: ClientConnection) -> str:
    return str(await asyncio.wait_for(client.recv(), SECONDS))


@pytest.fixture
def network() -> Iterator[Network]:
    for program, package in (("ip", "iproute2"), ("redis-server", "redis-server")):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            missing(package)
    with contextlib.ExitStack() as stack:
        try:
            entered = stack.enter_context(Network())
        except NetworkError as error:
            unavailable(f"network namespaces can't be made here (root makes them): {error}")
        yield entered


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as opened:
        yield opened


async def test_a_short_cut_loses_nothing(
    network: Network, tmp_path: Path, stack: contextlib.AsyncExitStack
):
    url = f"redis://{network.address(OF_REDIS)}:6379/0"
    hosts = Hosts(network, tmp_path, read("rediss://", {URL: url}))
    client, connection_id = await hosts.connected(stack)
    network.cut()
    # Redis has it, and the kernel of its host tries to hand it on.
    await hosts.command("send", connection_id, "to the cut off", "--no-wait")
    network.mend()
    assert await received(client) == "to the cut off"
    await hosts.command("close", connection_id, "--code", "4000", "--reason", "bye")
    await asyncio.wait_for(client.wait_closed(), SECONDS)
    assert (client.close_code, client.close_reason) == (4000, "bye")
    assert "Traceback" not in hosts.server.log
    assert LOST not in hosts.server.log


async def test_a_cut_that_outlives_the_connection_to_redis(
    network: Network, tmp_path: Path, stack: contextlib.AsyncExitStack
):
    changes = {"10.0.0.1": network.address(OF_REDIS), **HURRY}
    hosts = Hosts(network, tmp_path, read("socket_keepalive", changes))
    client, connection_id = await hosts.connected(stack)
    network.cut()
    await until(lambda: LOST in hosts.server.log)
    await asyncio.wait_for(await client.ping(), SECONDS)  # its client goes on
    network.mend()
    await until(lambda: "Redis is back" in hosts.server.log)
    await hosts.command("send", connection_id, "are you there?")
    assert await received(client) == "are you there?"
    assert "Traceback" not in hosts.server.log
