"""Limits per client hold over processes of both servers, whatever happens to one of them."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import GetRedis, StartRedis, StartServer
from tests.servers import Server, ServerName, misbehaving

pytestmark = pytest.mark.faults

SECONDS = 20.0
TOO_MANY = (1008, "too many connections")
NAMES: tuple[ServerName, ...] = ("daphne", "uvicorn", "daphne", "uvicorn")

# The seats of a user, and those of an address.
SEATS, OF_ADDRESS = 2, 4

_addresses = itertools.cycle(range(10, 250))
_users = itertools.count(100)

Come = Callable[..., Awaitable[Any]]

LOCAL = "panther_channels.layers.LocalChannelLayer"
REDIS = "panther_channels.layers.RedisChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"  # as any layer that doesn't tell who is there


@pytest.fixture(scope="module")
def directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as path:
        yield path


@pytest.fixture(params=["local", "redis"])
def layer(request: pytest.FixtureRequest, directory: str, get_redis: GetRedis) -> dict[str, Any]:
    """The setting of each layer in turn."""
    if request.param == "local":
        return {"BACKEND": LOCAL, "CONFIG": {"directory": directory}}
    backend = REDIS if request.param == "redis" else CORE
    return {"BACKEND": backend, "CONFIG": {"hosts": [get_redis().url]}}


def environment(layer: dict[str, Any], **limits: Any) -> dict[str, str]:
    limits = {"WS_MAX_CONNECTIONS_PER_USER": SEATS, **limits}
    return misbehaving(CHANNEL_LAYERS={"default": layer}, **limits)


@pytest.fixture
def four(layer: dict[str, Any], shared_server: StartServer) -> Callable[..., list[Server]]:
    """Starts four processes with settings; shared."""

    def start(**limits: Any) -> list[Server]:
        env = environment(layer, **limits)
        return [shared_server(name, env={**env, "NUMBER": str(n)}) for n, name in enumerate(NAMES)]

    return start


@pytest.fixture
def refusing(four: Callable[..., list[Server]]) -> list[Server]:
    """They refuse whom there is no seat for."""
    return four(WS_MAX_CONNECTIONS_PER_CLIENT=OF_ADDRESS)


@pytest.fixture
def closing_oldest(four: Callable[..., list[Server]]) -> list[Server]:
    """They close the oldest one."""
    return four(WS_CONNECTION_LIMIT_ACTION="close_oldest")


@pytest.fixture
async def come() -> AsyncIterator[Come]:
    """Opens a connection, by default from an address and with a user of the test's own.

    Gives the status of its refusal instead.
    """
    users_number = str(next(_users))
    async with AsyncExitStack() as stack:

        async def open_(
            server: Server, path: str = "limited", user: str = users_number, address: str = ""
        ) -> Any:
            url = f"{server.ws_url}/{path}?user={user}"
            local = address or f"127.0.0.{next(_addresses)}"  # on Linux all of them are this host
            connecting = connect(url, open_timeout=SECONDS, local_addr=(local, 0))
            try:
                return await stack.enter_async_context(connecting)
            except InvalidStatus as error:
                return error.response.status_code

        yield open_


async def ended(client: ClientConnection, *, echo: bool = True) -> tuple[int, str] | None:
    """How a connection was closed, by answering an echo; `None` if it is open."""
    try:
        if echo:
            await client.send("?")
        await asyncio.wait_for(client.recv(), SECONDS)
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
    return None


async def refused(come: Come, server: Server, **options: Any) -> int:
    """By 429; or by 1008 after it was open, where a process is so busy that it answers late."""
    found = await come(server, **options)
    if found != 429:
        assert await ended(found, echo=False) == TOO_MANY
        return 1008
    return 429


@pytest.mark.parametrize("layer", ["local", "redis", "core"], indirect=True)
async def test_the_new_one_is_refused_in_every_process(refusing: list[Server], come: Come):
    first, second = [await come(server) for server in refusing[:2]]
    assert 429 in [await refused(come, server) for server in refusing]
    assert [await ended(first), await ended(second)] == [None, None]
    assert not isinstance(await come(refusing[2], user="somebody-else"), int)
    with_code = await come(refusing[2], "limited-with-code")
    assert await ended(with_code, echo=False) in {(4429, "Too many connections"), TOO_MANY}
    await first.close()
    async with asyncio.timeout(SECONDS):  # until its server has noticed
        while isinstance(found := await come(refusing[3]), int) or await ended(found):
            pass
    address = {"address": "127.0.0.2"}
    opened = [await come(item, user=item.env["NUMBER"], **address) for item in refusing]
    assert [await ended(item) for item in opened] == [None] * OF_ADDRESS
    for server in refusing:
        assert await refused(come, server, user="one-more", **address)


async def test_the_oldest_one_goes_in_every_process(closing_oldest: list[Server], come: Come):
    opened = []
    for server in (*closing_oldest, closing_oldest[0]):
        opened.append(await come(server))
        if len(opened) > SEATS:
            assert await ended(opened[-1 - SEATS], echo=False) == TOO_MANY
    assert [await ended(item) for item in opened[-SEATS:]] == [None] * SEATS


async def test_who_was_killed_counts_no_more(
    start_server: StartServer, refusing: list[Server], come: Come
):
    doomed = start_server("uvicorn", env=refusing[0].env)
    for _ in range(SEATS):
        await come(doomed)
    for server in refusing[:2]:
        assert await refused(come, server)
    doomed.kill()
    for server in refusing[:SEATS]:
        assert await ended(await come(server)) is None
    assert await refused(come, refusing[2])


async def test_a_limit_outlives_a_restart_of_redis(
    start_redis: StartRedis, start_server: StartServer, come: Come
):
    redis = start_redis()
    env = environment({"BACKEND": REDIS, "CONFIG": {"hosts": [redis.url]}})
    servers = [start_server(name, env=env) for name in NAMES[:2]]
    opened = [await come(servers[0]) for _ in range(SEATS)]
    redis.kill()
    start_redis(port=redis.port)
    # Until both processes have subscribed again, they don't hear each other.
    async with asyncio.timeout(SECONDS):
        while (newcomer := await come(servers[1])) != 429:
            if not isinstance(newcomer, int):
                await newcomer.close()
            await asyncio.sleep(0.1)
    assert [await ended(item) for item in opened] == [None] * SEATS
