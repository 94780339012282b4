"""Redis is down, silent, emptied or hangs up: connections stay, and what is lost is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from panther_channels import sync
from panther_channels.exceptions import ChannelLayerError
from panther_channels.websocket import close_websocket_connection, send_message_to_websocket
from tests.broker import Broker
from tests.conftest import StartServer
from tests.integration.reach import SECONDS, Ids, opened, received, until_reached
from tests.layers import close_layer, default_layer, redis_layer
from tests.servers import SERVER_NAMES, Server, ServerName
from tests.waiting import until

pytestmark = pytest.mark.faults

SOON = 5.0  # generous for what is said to take two seconds
ORDERS: list[Callable[[Broker], object]] = [
    lambda broker: broker.command("FLUSHALL"),
    lambda broker: broker.cut("normal"),
    lambda broker: broker.cut("pubsub"),
    lambda broker: broker.pause(1000),
]


@pytest.fixture(params=SERVER_NAMES)
def server_name(request: pytest.FixtureRequest) -> ServerName:
    """What breaks here is behind the server: its protocol for frames makes no difference."""
    name: ServerName = request.param
    return name


@pytest.fixture
def server(server_name: ServerName, start_server: StartServer, broker: Broker) -> Server:
    return start_server(server_name, env={"REDIS_URL": broker.url})


@pytest.fixture(autouse=True)
async def sender(broker: Broker) -> AsyncIterator[None]:
    """Lets this process send, and learn within a second that it can't."""
    layer = redis_layer("redis", f"{broker.url}?socket_timeout=1")
    with default_layer(layer):
        yield
        await close_layer(layer)


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def answers(ids: Ids) -> None:
    """The connections are open, and echo."""
    for client in ids.values():
        await client.send("echo")
        while await received(client) != "echo":
            pass


async def is_refused(server: Server) -> None:
    """Handshakes are refused soon, each in the way of its class."""

    async def status() -> None:
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{server.ws_url}/ws/id", open_timeout=SECONDS)
        assert caught.value.response.status_code == 503
        assert caught.value.response.body == b'{"detail": "Service Unavailable"}'

    async def code() -> None:
        async with connect(f"{server.ws_url}/ws/coded", open_timeout=SECONDS) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (1013, "try again later")

    async with asyncio.timeout(SOON):
        await asyncio.gather(*(status() for _ in range(10)), code())


async def is_told(ids: Ids) -> None:
    """Whoever sends or closes learns soon that it failed.

    A silent Redis may do it yet when it speaks again: so this is for the one that :func:`leaves`.
    """
    connection_id = next(reversed(ids))
    calls: list[Callable[[], Awaitable[None]]] = [
        lambda: send_message_to_websocket(connection_id, "lost"),
        lambda: close_websocket_connection(connection_id),
        lambda: asyncio.to_thread(sync.send_message_to_websocket, connection_id, "lost"),
    ]

    async def fails(call: Callable[[], Awaitable[None]]) -> None:
        with pytest.raises(ChannelLayerError):
            await call()

    async with asyncio.timeout(2 * SOON):
        await asyncio.gather(*map(fails, calls))


def is_quiet(server: Server, outages: int = 1) -> None:
    """Each outage takes a few lines of the log, and none of its causes' tracebacks."""
    assert "Traceback" not in server.log, server.log
    lines = [line for line in server.log.splitlines() if line.startswith(("ERROR", "WARNING"))]
    for text in ("is lost", "was refused", "Redis is back"):
        assert sum(text in line for line in lines) <= outages, server.log
    assert sum("is lost" in line for line in lines) == sum(
        "Redis is back" in line for line in lines
    )
    assert len(lines) <= 3 * outages, server.log


async def is_back(ids: Ids, server: Server, clients: AsyncExitStack) -> None:
    """Old and new connections are soon within reach."""
    start = time.monotonic()
    await until_reached(ids)
    assert time.monotonic() - start < SOON
    ids |= await opened(clients, server, 1)
    await until_reached(ids)
    await answers(ids)
    is_quiet(server)


async def leaves(ids: Ids) -> None:
    """One of the clients, which needs no Redis."""
    _, client = ids.popitem()
    await asyncio.wait_for(client.close(), SOON)


async def test_down(server: Server, broker: Broker, clients):
    ids = await opened(clients, server, 10)
    await until_reached(ids)
    broker.kill()
    await answers(ids)
    await is_refused(server)
    server.wait_log("was refused: .*: Error 111 connecting to ")
    await is_told(ids)
    await leaves(ids)
    broker.start()
    await is_back(ids, server, clients)


async def test_silent(server: Server, broker: Broker, clients):
    """Who comes meanwhile is let in, and heard of when it speaks again: no loss is known yet."""
    ids = await opened(clients, server, 10)
    await until_reached(ids)
    with broker.silent():
        await answers(ids)
        ids |= await opened(clients, server, 2)
        await answers(ids)
        await is_told(ids)
        await leaves(ids)
    await is_back(ids, server, clients)


async def test_nobody_is_dropped_or_deaf(server: Server, broker: Broker, clients):
    ids = await opened(clients, server, 10)
    await until_reached(ids)
    for order in ORDERS:
        order(broker)
        await answers(ids)
        await until_reached(ids)
        ids |= await opened(clients, server, 2)
        await until_reached(ids)
        await answers(ids)
    assert len(ids) == 10 + 2 * len(ORDERS)
    is_quiet(server, outages=len(ORDERS))


async def test_what_was_sent_without_an_error_arrives(server: Server, broker: Broker, clients):
    """An outage of a second, in the midst of a series."""
    ids = await opened(clients, server, 5)
    await until_reached(ids)
    sent: dict[str, list[str]] = {connection_id: [] for connection_id in ids}
    is_over = asyncio.Event()

    async def series(connection_id: str) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            with suppress(ChannelLayerError):
                await send_message_to_websocket(connection_id, f"n{number}")
                sent[connection_id].append(f"n{number}")
            await asyncio.sleep(0.02)  # the rate of the series

    sending = [asyncio.create_task(series(connection_id)) for connection_id in ids]
    await asyncio.sleep(0.3)  # the rate is what is tested
    broker.kill()
    await asyncio.sleep(1)
    broker.start()
    await asyncio.sleep(1.5)
    is_over.set()
    await asyncio.gather(*sending)
    for connection_id, client in ids.items():
        await send_message_to_websocket(connection_id, "last")
        got = []
        while (text := await received(client)) != "last":
            got.append(text)
        assert [text for text in sent[connection_id] if text not in got] == []
        assert len(got) == len(set(got))
    assert all(len(numbers) > 20 for numbers in sent.values())
    is_quiet(server)


async def test_redis_is_down_from_the_start(
    server_name: ServerName, start_server: StartServer, broker: Broker, clients
):
    broker.kill()
    server = start_server(server_name, env={"REDIS_URL": broker.url})
    await is_refused(server)
    broker.start()
    await opened(clients, server, 1)
    is_quiet(server)


async def test_an_acl_forbids_the_channels(
    server_name: ServerName, start_server: StartServer, broker: Broker, clients
):
    """From the start, and again: who is there stays, and the log says what to grant."""
    broker.command("ACL", "SETUSER", "guest", "on", ">secret", "+@all", "resetchannels")
    url = broker.url.replace("://", "://guest:secret@")
    server = start_server(server_name, env={"REDIS_URL": url})
    ids: Ids = {}
    for number in range(1, 3):
        await is_refused(server)
        await answers(ids)
        server.wait_log(r"was refused: .*: Redis at .* refuses the channel layer something: ")
        told = server.wait_log(r"^ERROR panther_channels Redis at .* ACL SETUSER (.*)\.$")
        broker.command("ACL", "SETUSER", *told[1].split())
        await until(lambda: server.log.count("Redis is back") == number)  # noqa: B023
        ids |= await opened(clients, server, 2)
        await until_reached(ids)
        broker.command("ACL", "SETUSER", "guest", "resetchannels")  # Redis hangs up, too
    assert server.log.count("is lost") <= 2
    assert server.log.count("ERROR panther_channels Redis at") == 1  # in a minute
    assert "Traceback" not in server.log
