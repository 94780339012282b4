"""Several processes: who comes and goes is told once to each, whatever becomes of a process."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from panther_channels import connections
from panther_channels.layers import LocalChannelLayer
from tests.broker import Broker
from tests.conftest import StartRedis, StartServer
from tests.layers import close_layer, default_layer, redis_layer
from tests.servers import Server, suspended
from tests.waiting import until
from tests.wire import request

pytestmark = [pytest.mark.usefixtures("unmeasured"), pytest.mark.timeout(120)]

LONG = 20.0
PATH = "/ws/present?join=lobby&user="
QUIET: Any = {"open_timeout": LONG, "close_timeout": 0.1, "ping_interval": None}
WITHIN = 20.0  # seconds until who was in a process that was killed has left


class Site:
    """Servers, connections to them, and what each connection hears."""

    def __init__(self, stack: AsyncExitStack, servers: list[Server], broker: Broker | None) -> None:
        self.servers = servers
        self.broker = broker
        self._stack = stack
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def tab(self, server: int, user: str) -> ClientConnection:
        url = f"{self.servers[server].ws_url}{PATH}{user}"
        return await self._stack.enter_async_context(connect(url, **QUIET))

    async def brief_tab(self, server: int, user: str) -> asyncio.WriteTransport:
        """One that doesn't listen, and costs the test less."""
        reader, writer = await asyncio.open_connection(
            self.servers[server].host, self.servers[server].port
        )
        writer.write(request(f"{PATH}{user}".encode()))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        self._writers.append(writer)  # it would close
        return writer.transport

    async def hear(self, server: int, user: str) -> list[str]:
        """What a connection hears, as it comes."""
        tab, heard = await self.tab(server, user), list[str]()

        async def listen() -> None:
            try:
                async for message in tab:
                    heard.append(str(message).removesuffix(" lobby"))
            except ConnectionClosed:
                pass

        self._tasks.add(asyncio.create_task(listen()))
        return heard


NewSite = Callable[..., Site]


@pytest.fixture
async def new_site(
    folder: Path, start_redis: StartRedis, start_server: StartServer
) -> AsyncIterator[NewSite]:
    async with AsyncExitStack() as stack:

        def new(kind: str, *names: Any) -> Site:
            broker = Broker(start_redis) if kind == "redis" else None
            layer: Any = LocalChannelLayer(folder)
            env = {"LOCAL_LAYER": str(folder), "REDIS_URL": "", "PRESENCE_BEAT": "1"}
            if broker is not None:
                layer = redis_layer("redis", broker.url)
                env["REDIS_URL"] = broker.url
            stack.enter_context(default_layer(layer))
            stack.push_async_callback(close_layer, layer)
            return Site(stack, [start_server(name, env=env) for name in names], broker)

        yield new


BOTH = pytest.mark.parametrize(("kind", "name"), [("local", "daphne"), ("redis", "uvicorn")])


@BOTH
async def test_two_tabs_in_two_processes_at_once(new_site: NewSite, kind: str, name: str):
    site, users, at_once = new_site(kind, name, name), 1000, asyncio.Semaphore(10)
    observers = [await site.hear(0, "one"), await site.hear(1, "two")]
    await until(lambda: "+two!" in observers[0] and "+two!" in observers[1])

    async def come(user: str) -> None:
        async with at_once:
            tabs = await asyncio.gather(site.brief_tab(0, user), site.brief_tab(1, user))
            for tab in tabs:
                tab.abort()

    names = [f"u{number}" for number in range(users)]
    await asyncio.gather(*map(come, names))
    (await site.brief_tab(0, "back")).abort()
    back = await site.brief_tab(1, "back")  # as after a reload
    (await site.brief_tab(1, "end")).abort()
    await until(lambda: all("-end!" in heard for heard in observers))
    expected = Counter(f"{sign}{user}!" for user in [*names, "end"] for sign in "+-")
    expected.update(["+two!", "+back!"])
    assert Counter(observers[1]) == expected
    assert Counter(observers[0]) == expected + Counter(["+one!"])
    back.abort()


@BOTH
async def test_a_process_is_killed_and_another_suspended(new_site: NewSite, kind: str, name: str):
    site = new_site(kind, name, name, name)
    here, there = await site.hear(0, "one"), await site.hear(2, "two")
    for server, user in ((1, "killed"), (1, "both"), (0, "both")):
        await site.tab(server, user)
    await until(lambda: all({"+killed!", "+both!"} <= {*heard} for heard in (here, there)))
    site.servers[1].process.kill()
    site.servers[1].process.wait()
    found = await connections.online_users("lobby", within=LONG)
    assert {(each.user_id, each.connections) for each in found} == {
        ("one", 1), ("two", 1), ("both", 1),
    }  # fmt: skip
    with suspended(site.servers[2]):
        await site.tab(0, "new")
        await until(lambda: {"-killed!", "-two!"} <= {*here}, WITHIN)
    await until(lambda: here.count("+two!") == 2, WITHIN)
    await until(lambda: {"-killed!", "+new!"} <= {*there}, WITHIN)
    await site.tab(0, "end")
    await until(lambda: here[-1] == there[-1] == "+end!")
    seen = ["+both!", "+killed!", "-killed!", "+new!", "+end!", "+two!"]
    assert sorted(there) == sorted(seen)
    assert sorted(here) == sorted([*seen, "+one!", "-two!", "+two!"])


async def test_redis_is_restarted(new_site: NewSite):
    site = new_site("redis", "daphne", "uvicorn")
    here, there = await site.hear(0, "one"), await site.hear(1, "two")
    gone = await site.tab(1, "gone")
    await until(lambda: "+gone!" in here and "+gone!" in there)
    assert site.broker is not None
    site.broker.kill()
    gone.transport.abort()
    await until(lambda: "-gone!" in there)
    site.broker.start()
    await until(lambda: "-gone!" in here, WITHIN)

    async def enter() -> bool:
        try:
            await site.tab(1, "new")
        except InvalidStatus:  # until Redis is found again
            return False
        return True

    await until(enter)
    await until(lambda: "+new!" in here and "+new!" in there)
    seen = ["+two!", "+gone!", "-gone!", "+new!"]
    assert (here, there) == (["+one!", *seen], seen)
