"""Hooks that never end, and that hold up the event loop, on real servers."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.client import Client, Connection
from tests.conftest import StartServer
from tests.servers import Server, ServerName, misbehaving, suspended

pytestmark = pytest.mark.faults

ENVIRONMENT = misbehaving(WS_CONNECT_TIMEOUT=1, WS_DISCONNECT_GRACE=1)

Open = Callable[[str], Awaitable[tuple[Connection, str]]]


class Log:
    """What a server logs from the beginning of a test on."""

    def __init__(self, server: Server) -> None:
        self._server, self._since = server, server.mark()

    def __str__(self) -> str:
        return self._server.log[self._since :]

    async def wait(self, pattern: str, since: int = 0) -> re.Match[str]:
        since += self._since
        return await asyncio.to_thread(self._server.wait_log, pattern, since=since)


@pytest.fixture
def hooks(server_name: ServerName, shared_server: StartServer) -> Server:
    return shared_server(server_name, env=ENVIRONMENT)


@pytest.fixture
def log(hooks: Server) -> Log:
    return Log(hooks)


@pytest.fixture
async def connect(hooks: Server) -> AsyncIterator[Client]:
    async with Client(hooks) as found:
        yield found


@pytest.fixture
def opened(connect: Client) -> Open:
    async def run(path: str) -> tuple[Connection, str]:
        """A connection, and its id."""
        client = await connect(path)
        return client, str(await client.receive())

    return run


async def test_a_handshake_that_never_ends_is_refused(connect: Client, log: Log):
    names = {"/auth": "SlowAuth", "/permission": "SlowPermission", "/connect": "SlowConnect"}

    async def code() -> int:
        return (await (await connect("/code")).closed()).code

    assert await asyncio.gather(*map(connect.status, names), code()) == [503, 503, 503, 4503]
    for path, name in names.items():
        who = rf"{name} \(WebSocket '{path}', connection \(not accepted\)\)"
        await log.wait(rf"^WARNING panther_channels {who} did not accept within 1 s")
    assert "Traceback" not in str(log)


async def test_the_limit_of_daphne_comes_after_ours(start_server: StartServer):
    """Alone, daphne cuts a handshake off, or refuses it with 403, every two seconds."""
    args = ("--websocket_connect_timeout", "1")
    server = start_server("daphne", env=misbehaving(WS_CONNECT_TIMEOUT=3), args=args)
    async with Client(server) as connect:
        found = await asyncio.gather(*map(connect.status, ["/auth", "/connect"] * 12))
        assert found == [503] * 24
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("path", "is_abrupt"), list(itertools.product(["/after", "/receive"], [False, True]))
)
async def test_a_hook_of_a_client_that_has_gone(path: str, is_abrupt: bool, opened: Open, log: Log):
    client, connection_id = await opened(path)
    await client.send("100")
    if path == "/receive":
        await log.wait("busy with 100")
    await (client.abort() if is_abrupt else client.close(4001))
    await log.wait(f"disconnect called code={1006 if is_abrupt else 4001} id={connection_id}")
    assert str(log).count(f"id={connection_id}") == 1
    assert re.search(rf"WARNING .*connection {connection_id}.* after the client", str(log))


def handled(log: Log) -> list[str]:
    return re.findall(r"handled (\S+)$", str(log), re.MULTILINE)


async def test_what_waits_behind_a_hook_is_handled(opened: Open, log: Log):
    """Each hook has its time, however long ago the client went, and the order stays."""
    client, connection_id = await opened("/receive")
    texts = ["1.2", "0.1", "0.2", "0.6", "0.7"]
    for text in texts:
        await client.send(text)
    await log.wait("busy with 1.2")
    await client.close(4001)
    await log.wait(f"disconnect called code=4001 id={connection_id}")
    assert handled(log) == texts


async def test_a_hook_that_takes_no_notice(opened: Open, log: Log):
    client, connection_id = await opened("/stubborn")
    await client.send("100")
    await log.wait("busy with 100")
    await client.close()
    await log.wait(f"disconnect called code=1000 id={connection_id}")
    assert "goes on" in str(log)


async def test_a_disconnect_that_never_ends(opened: Open, log: Log):
    client, connection_id = await opened("/disconnect")
    await client.close()
    await log.wait(rf"WARNING .* SlowDisconnect .*{connection_id}.* disconnect\(\)")
    assert str(log).count("disconnect called") == 1


async def test_connect_may_go_on_after_accept(opened: Open):
    client, _ = await opened("/after?seconds=2")
    assert await client.receive() == "connected"


ALARM = "holds up the event loop"


async def test_who_holds_up_the_event_loop(opened: Open, log: Log):
    client, connection_id = await opened("/blocking")
    assert await client.ask("2") == "2"
    assert await client.ask("0.1") == "0.1"
    line = rf"^WARNING panther_channels Inherited .*{connection_id}.* event loop.*\n(.*)$"
    found = await log.wait(line)
    assert re.search(r'websockets\.py", line \d+, in Blocking\.receive', found[1])
    assert str(log).count(ALARM) == 1


@pytest.mark.parametrize("server_name", ["uvicorn"])
async def test_a_suspended_process_is_nobodys_fault(hooks: Server, opened: Open, log: Log):
    client, _ = await opened("/blocking")
    await client.send("3.2")
    await asyncio.sleep(0.5)  # not long enough for an alarm, and neither is the rest
    with suspended(hooks):
        await asyncio.sleep(2)
    assert await client.receive() == "3.2"
    assert await client.ask("2") == "2"
    # Of a true alarm; a false one would come before it.
    await log.wait(ALARM)
    assert str(log).count(ALARM) == 1
