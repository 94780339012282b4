"""Many processes of one host: every message arrives once, and in the order of its sender."""

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from tests.conftest import GetRedis, StartServer
from tests.servers import ROOT, ServerName, manage

pytestmark = pytest.mark.usefixtures("unmeasured")

SECONDS = 50.0
CONNECTIONS = 100

Environment = dict[str, str]


class Clients:
    """Connections, and all that they receive."""

    def __init__(self) -> None:
        self.connections: dict[str, ClientConnection] = {}
        self.received: dict[str, list[str]] = {}
        self._count = 0
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, url: str) -> str:
        client = await connect(f"{url}/ws/id", open_timeout=SECONDS)
        connection_id = str(await client.recv())
        self.connections[connection_id] = client
        self.received[connection_id] = []
        self._tasks.add(asyncio.create_task(self._listen(connection_id)))
        return connection_id

    async def _listen(self, connection_id: str) -> None:
        with contextlib.suppress(ConnectionClosedError):  # by another code than 1000
            async for message in self.connections[connection_id]:
                self.received[connection_id].append(str(message))
                self._count += 1
                self._arrived.set()

    async def wait_for(self, count: int) -> None:
        """Wait until so many messages have come in all."""
        async with asyncio.timeout(SECONDS):
            while self._count < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def nothing_more(self) -> None:
        """Wait until every connection has answered: what was sent to it before has come."""
        before = self._count
        for client in self.connections.values():
            await client.send("the end")
        await self.wait_for(before + len(self.connections))
        for messages in self.received.values():
            assert messages.pop() == "the end"
        self._count = before

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.connections.values()))
        await asyncio.gather(*self._tasks)

    def check(self, senders: dict[str, int]) -> None:
        """Every message of every sender has come once, to its connection, in its order."""
        ids = list(self.connections)
        found: Counter[str] = Counter()
        for position, connection_id in enumerate(ids):
            last: dict[str, int] = {}
            for message in self.received[connection_id]:
                sender, _, number = message.partition(":")
                assert int(number) % len(ids) == position
                assert int(number) > last.get(sender, -1), f"{message} after {last[sender]}"
                last[sender] = int(number)
                found[sender] += 1
        assert found == senders


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    clients = Clients()
    yield clients
    await clients.close()


@pytest.fixture
def layer(server_name: ServerName, folder: Path, get_redis: GetRedis) -> Environment:
    """What tells a process of tests/project its channel layer: each server has another."""
    if server_name == "uvicorn":
        return {"LOCAL_LAYER": str(folder), "REDIS_URL": ""}
    return {"REDIS_URL": get_redis().url}


async def send(environment: Environment, kind: str, name: str, count: int, ids: Iterable[str]):
    """A sender of its own process; it has nothing to say, and ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.integration.senders"),
        *(kind, name, str(count)),
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.project.settings", **environment},
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate("\n".join(ids).encode())
    assert (process.returncode, errors.decode()) == (0, "")


@pytest.mark.timeout(120)
async def test_four_servers_and_senders_of_all_kinds(
    server_name: ServerName, layer: Environment, start_server: StartServer, clients: Clients
):
    servers = [start_server(server_name, env=layer) for _ in range(4)]
    for number in range(CONNECTIONS):
        await clients.open(servers[number % 4].ws_url)
    ids = list(clients.connections)
    await asyncio.gather(
        send(layer, "script", "script", 2000, ids),
        send(layer, "pool", "pool", 2000, ids),
        send(layer, "many", "many", 1000, ids),
        *(
            asyncio.to_thread(manage, "websocket", "send", ids[number], f"m:{number}", env=layer)
            for number in range(3)
        ),
    )
    await clients.wait_for(5_003)
    await clients.nothing_more()
    clients.check(
        {
            "script": 2000,
            **{f"pool.{number}": 250 for number in range(8)},
            **{f"many.{number}": 10 for number in range(100)},
            "m": 3,
        }
    )
    completed = await asyncio.to_thread(
        manage, "websocket", "close", ids[1], "--code", "4001", "--reason", "bye", env=layer
    )
    assert completed.returncode == 0
    closed = clients.connections[ids[1]]
    await asyncio.wait_for(closed.wait_closed(), SECONDS)
    assert (closed.close_code, closed.close_reason) == (4001, "bye")


async def test_a_killed_process_costs_the_others_nothing(
    folder: Path, start_server: StartServer, clients: Clients
):
    environment = {"LOCAL_LAYER": str(folder), "REDIS_URL": ""}
    names = ("uvicorn", "daphne", "uvicorn", "daphne")
    victim, *servers = [start_server(name, env=environment) for name in names]
    survivors = [await clients.open(servers[number % 3].ws_url) for number in range(30)]
    doomed = [await connect(f"{victim.ws_url}/ws/id") for _ in range(10)]
    ids = [*survivors, *[str(await client.recv()) for client in doomed]]
    before = set(sockets(folder))
    assert len(before) == 4
    sending = asyncio.create_task(send(environment, "script", "script", 8_000, ids))
    await clients.wait_for(1000)
    victim.process.kill()
    await clients.wait_for(6_000)
    await sending
    await clients.nothing_more()
    for position, connection_id in enumerate(survivors):
        expected = [f"script:{number}" for number in range(position, 8_000, 40)]
        assert clients.received[connection_id] == expected
    for client in doomed:
        client.transport.abort()
    # Whoever comes next needs nobody to tell it, and clears up, if no send has met the dead one.
    late = await clients.open(start_server("daphne", env=environment).ws_url)
    assert len(before & set(sockets(folder))) == 3
    await send(environment, "script", "late", 1, [late])
    await clients.wait_for(6_001)


def sockets(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]
