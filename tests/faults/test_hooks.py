"""Hooks that never end, and that hold up the event loop, on real servers."""

import asyncio
import contextlib
import itertools
import json
import re
import signal
from collections.abc import Iterator

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.conftest import StartServer
from tests.servers import Server, ServerName

pytestmark = pytest.mark.faults

LIMITS = {"WS_CONNECT_TIMEOUT": 1, "WS_DISCONNECT_GRACE": 1}
ENVIRONMENT = {"DJANGO_SETTINGS_MODULE": "tests.faults.hooks_settings"}


@pytest.fixture
def hooks(server_name: ServerName, shared_server: StartServer) -> Server:
    return shared_server(server_name, env={**ENVIRONMENT, "LIMITS": json.dumps(LIMITS)})


async def logged(server: Server, pattern: str, since: int = 0) -> re.Match[str]:
    return await asyncio.to_thread(server.wait_log, pattern, since=since)


async def opened(client: ClientConnection) -> str:
    return str(await asyncio.wait_for(client.recv(), 10))


async def test_a_handshake_that_never_ends_is_refused(hooks: Server):
    since = hooks.mark()
    names = {"auth": "SlowAuth", "permission": "SlowPermission", "connect": "SlowConnect"}

    async def refused(path: str) -> int:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{hooks.ws_url}/{path}")
        return caught.value.response.status_code

    async def closed() -> int | None:
        async with connect(f"{hooks.ws_url}/code") as client:
            await asyncio.wait_for(client.wait_closed(), 10)
        return client.close_code

    codes = await asyncio.gather(*map(refused, names), closed())
    assert codes == [503, 503, 503, 4503]
    for path, name in names.items():
        who = rf"{name} \(WebSocket '/{path}', connection \(not accepted\)\)"
        await logged(hooks, rf"^WARNING panther_channels {who} did not accept within 1 s", since)
    assert "Traceback" not in hooks.log[since:]


async def test_connect_may_go_on_after_accept(hooks: Server):
    async with connect(f"{hooks.ws_url}/after?seconds=2") as client:
        await opened(client)
        assert await opened(client) == "connected"


async def test_a_hook_of_a_client_that_has_gone(hooks: Server):
    async def leave(path: str, abrupt: bool) -> None:
        since = hooks.mark()
        async with connect(f"{hooks.ws_url}/{path}") as client:
            connection_id = await opened(client)
            await client.send("100")
            if path == "receive":
                await logged(hooks, "busy with 100", since)
            if abrupt:
                client.transport.abort()
            else:
                await client.close(4001)
        code = 1006 if abrupt else 4001
        await logged(hooks, f"disconnect called code={code} id={connection_id}", since)
        log = hooks.log[since:]
        assert log.count(f"id={connection_id}") == 1
        assert re.search(rf"WARNING .*connection {connection_id}.* after the client", log)

    cases = itertools.product(["after", "receive"], [False, True])
    await asyncio.gather(*itertools.starmap(leave, cases))


async def test_what_waits_behind_a_hook_is_handled(hooks: Server):
    """Each hook has its time, however long ago the client went, and the order stays."""
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/receive") as client:
        connection_id = await opened(client)
        for text in ("1.2", "0.1", "0.2", "0.6", "0.7"):
            await client.send(text)
        await logged(hooks, "busy with 1.2", since)
        await client.close(4001)
    await logged(hooks, f"disconnect called code=4001 id={connection_id}", since)
    handled = re.findall(r"handled (\S+)$", hooks.log[since:], re.MULTILINE)
    assert handled == ["1.2", "0.1", "0.2", "0.6", "0.7"]


async def test_a_busy_hook_keeps_what_comes(hooks: Server):
    """A client that stays loses nothing by the look for its end."""
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/receive") as client:
        await opened(client)
        texts = ["2", *[f"0.00{number}" for number in range(9)]]
        for text in texts[:5]:
            await client.send(text)
        await logged(hooks, "handled 2$", since)
        for text in texts[5:]:
            await client.send(text)
        await logged(hooks, rf"handled {texts[-1]}$", since)
        assert re.findall(r"handled (\S+)$", hooks.log[since:], re.MULTILINE) == texts


async def test_a_hook_that_takes_no_notice(hooks: Server):
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/stubborn") as client:
        connection_id = await opened(client)
        await client.send("x")
        await logged(hooks, "busy with x", since)
    await logged(hooks, f"disconnect called code=1000 id={connection_id}", since)
    assert "goes on" in hooks.log[since:]


async def test_a_disconnect_that_never_ends(hooks: Server):
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/disconnect") as client:
        connection_id = await opened(client)
    await logged(hooks, rf"WARNING .* SlowDisconnect .*{connection_id}.* disconnect\(\)", since)
    assert hooks.log[since:].count("disconnect called") == 1


async def test_a_task_ends_with_its_connection(hooks: Server):
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/working") as client:
        connection_id = await opened(client)
        await logged(hooks, "work begins", since)
        await client.send("fail")
        failure = f"ERROR .*connection {connection_id}: a task of Working failed"
        await logged(hooks, failure, since)
        mark = hooks.mark()
        await client.send("fail again")  # the connection is open
        await logged(hooks, failure, mark)
        assert "work ends" not in hooks.log[since:]
    await logged(hooks, f"disconnect called code=1000 id={connection_id}", since)
    log = hooks.log[since:]
    assert log.index("work ends") < log.index("disconnect called")
    await logged(hooks, "ZeroDivisionError: raised in a task", since)


async def test_who_holds_up_the_event_loop(hooks: Server):
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/blocking") as client:
        connection_id = await opened(client)
        await client.send("2")
        assert await asyncio.wait_for(client.recv(), 10) == "2"
        await client.send("0.1")
        assert await asyncio.wait_for(client.recv(), 10) == "0.1"
    found = await logged(
        hooks,
        rf"^WARNING panther_channels Inherited .*{connection_id}.* event loop.*\n(.*)$",
        since,
    )
    assert re.search(r'hooks\.py", line \d+, in Blocking\.receive', found[1])
    assert hooks.log[since:].count("event loop") == 1


async def test_a_suspended_process_is_nobodys_fault(hooks: Server):
    since = hooks.mark()
    async with connect(f"{hooks.ws_url}/blocking") as client:
        await opened(client)
        await client.send("3.2")
        await asyncio.sleep(0.5)  # not long enough for an alarm, and neither is the rest
        with suspended(hooks):
            await asyncio.sleep(2)
        assert await opened(client) == "3.2"
        await client.send("2")
        assert await opened(client) == "2"
    # Of a true alarm; a false one would come before it.
    await logged(hooks, "holds up the event loop", since)
    assert hooks.log[since:].count("holds up the event loop") == 1


@contextlib.contextmanager
def suspended(server: Server) -> Iterator[None]:
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
