"""Connections over channels_redis.core as it is: none is ended by it, and none goes deaf."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from panther_channels.layers.backplane import backplane
from panther_channels.websocket import send_message_to_websocket
from tests.broker import Broker
from tests.conftest import StartServer
from tests.integration.reach import Ids, opened, received, until_reached
from tests.layers import close_layer, default_layer, redis_layer
from tests.servers import SERVER_NAMES, Server, ServerName, over_core

pytestmark = pytest.mark.usefixtures("unmeasured", "sender")

StartCore = Callable[..., Server]


@pytest.fixture
def start_core(start_server: StartServer, broker: Broker) -> StartCore:
    """Starts a server over core and `broker`: `start_core("daphne", group_expiry=3)`."""

    def start(name: ServerName, **config: Any) -> Server:
        return start_server(name, env=over_core(broker.url, **config))

    return start


@pytest.fixture
async def sender(broker: Broker) -> AsyncIterator[None]:
    """Lets this process send over `broker`."""
    layer = redis_layer("core", broker.url)
    with default_layer(layer):
        yield
        await close_layer(layer)


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def survived(server: Server, ids: Ids) -> None:
    """All connections are open, and what failed is a line of the log."""
    assert [client.close_code for client in ids.values()] == [None] * len(ids)
    # What core itself leaves in the log in an outage is its own affair.
    assert server.log.count("ERROR panther_channels") == 1, server.log
    assert "The channel layer failed" in server.log


async def test_as_the_documentation_of_channels_has_it(
    start_core: StartCore, broker: Broker, clients
):
    """With redis-py 8 the layer raises every five seconds, whatever it is asked for."""
    servers = [start_core(name, hosts=[broker.url]) for name in SERVER_NAMES]
    ids = [await opened(clients, server, 5) for server in servers]
    await asyncio.sleep(6.5)  # what is tested is that time passes
    for opened_there in ids:
        for connection_id, client in opened_there.items():
            await send_message_to_websocket(connection_id, connection_id)
            assert await received(client) == connection_id
    for server, opened_there in zip(servers, ids, strict=True):
        survived(server, opened_there)


async def test_an_outage_that_empties_redis(
    start_core: StartCore, server_name: ServerName, broker: Broker, clients
):
    server = start_core(server_name, group_expiry=9)
    ids = await opened(clients, server, 20)
    await until_reached(ids)
    broker.kill()
    await asyncio.to_thread(server.wait_log, "The channel layer failed")
    for client in ids.values():
        await client.send("echo")
        assert await received(client) == "echo"
    await ids.popitem()[1].close()
    broker.start()
    await until_reached(ids)
    ids |= await opened(clients, server, 1)
    await until_reached(ids)
    survived(server, ids)


async def test_what_a_restart_of_redis_leaves_in_the_pool(broker: Broker):
    layer = redis_layer("core", broker.url)
    inboxes = [await backplane(layer).open_channel() for _ in range(30)]

    async def join(join_one: Callable[[Any], Any]) -> list[Any]:
        joining = (join_one(inbox) for inbox in inboxes)
        return await asyncio.gather(*joining, return_exceptions=True)

    def ours(inbox: Any) -> Any:
        return inbox.join("room")

    def alone(inbox: Any) -> Any:
        return layer.group_add("room", inbox.name)

    for join_one, is_well in ((ours, True), (alone, False)):
        assert await join(ours) == [None] * len(inboxes)  # each with a connection of its own
        broker.restart()
        failed = [error for error in await join(join_one) if error is not None]
        assert (not failed) == is_well, "redis-py checks its pool: Backplane's _add() may go"
    for inbox in inboxes:
        await inbox.leave_all()
    await close_layer(layer)
