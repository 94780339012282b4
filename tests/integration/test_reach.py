"""Four processes, 2,000 clients: all are reached and counted, and who doesn't answer is named."""

import asyncio
import logging
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from panther_channels import connections, sync
from panther_channels.exceptions import (
    ChannelLayerError,
    ConnectionNotFoundError,
    DeliveryTimeoutError,
)
from panther_channels.layers import LocalChannelLayer
from tests.broker import Broker
from tests.conftest import StartRedis, StartServer
from tests.layers import close_layer, default_layer, redis_layer
from tests.servers import Server, ServerName, suspended
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("unmeasured"), pytest.mark.timeout(120)]

SERVERS, USERS, TABS = 4, 50, 10  # of each user at each server
HERE = USERS * TABS
ALL = SERVERS * HERE
LONG, SHORT = 20.0, 0.5  # seconds that others have to answer: more than they need, or in vain
LATE = 1.0  # seconds after its deadline at which a call has ended, on a busy machine
END = "the end"

_quiet = logging.getLogger("quiet")
_quiet.setLevel(logging.ERROR)


class Tab(WSListener):
    """A client, which notes for its site what comes."""

    transport: WSTransport
    id = ""

    def __init__(self, site: "Site", server: int, user: str) -> None:
        self.site, self.server, self.user = site, server, user
        self.code: Any = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            self.code = frame.get_close_code()
            transport.send_close(self.code)
            transport.disconnect()
        elif not self.id:
            self.id = frame.get_payload_as_utf8_text()
            self.site.tabs[self.id] = self
        else:
            self.site.came[self.id, frame.get_payload_as_utf8_text()] += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.site.tabs.pop(self.id, None)


class Site:
    """Four servers with tabs of all users on each; those of every second user are in a group.

    Attributes:
        tabs: those that are open, by id.
        came: how often a text came, by the id and the text.
    """

    def __init__(self, servers: list[Server], layer: Any, broker: Broker | None) -> None:
        self.servers, self.layer, self.broker = servers, layer, broker
        self.tabs: dict[str, Tab] = {}
        self.came: Counter[tuple[str, str]] = Counter()

    async def open(self) -> None:
        async def some(number: int, server: Server) -> None:
            for user in range(USERS):
                url = f"{server.ws_url}/ws/member?user=u{user}"
                url += "&join=any%20text" if user % 2 else ""
                for _ in range(TABS):
                    await ws_connect(lambda: Tab(self, number, f"u{user}"), url, logger_name=_quiet)  # noqa: B023

        async with asyncio.timeout(2 * LONG):
            await asyncio.gather(*(some(*each) for each in enumerate(self.servers)))
            await until(lambda: len(self.tabs) == ALL)

    def ids(self, server: int) -> list[str]:
        return [each.id for each in self.tabs.values() if each.server == server]

    async def heard(self) -> Counter[tuple[str, str]]:
        """What has come since the last call, and has no other before it on its way."""
        for tab in self.tabs.values():
            tab.transport.send(WSMsgType.TEXT, END)
        await until(lambda: all(self.came[each, END] for each in self.tabs))
        came, self.came = self.came, Counter()
        return Counter({what: count for what, count in came.items() if what[1] != END})

    async def got(self, text: str) -> int:
        """How many clients got a text, once, and nothing but that."""
        came = await self.heard()
        assert {each for _, each in came} <= {text}
        assert set(came.values()) <= {1}
        return len(came)


@pytest.fixture(params=["local", "redis"])
async def site(
    request: pytest.FixtureRequest,
    folder: Path,
    start_redis: StartRedis,
    start_server: StartServer,
) -> AsyncIterator[Site]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    broker = Broker(start_redis) if request.param == "redis" else None
    layer: Any
    # Of each kind two, and another one last, which is suspended and killed.
    names: list[ServerName] = ["daphne", "uvicorn"] * (SERVERS // 2)
    if broker is None:
        env = {"LOCAL_LAYER": str(folder), "REDIS_URL": ""}
        layer = LocalChannelLayer(folder)
    else:
        env = {"REDIS_URL": broker.url}
        layer = redis_layer("redis", broker.url)
        names.reverse()
    starting = (asyncio.to_thread(start_server, name, env=env) for name in names)
    servers = await asyncio.gather(*starting)
    with default_layer(layer):
        found = Site(servers, layer, broker)
        await found.open()
        yield found
        for tab in [*found.tabs.values()]:
            tab.transport.disconnect()
        await close_layer(layer)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds + LATE


async def test_two_thousand_connections(site: Site) -> None:
    await who_never_asks_never_listens(site)
    await all_are_reached_and_counted(site)
    await a_suspended_process_is_named(site)
    if site.broker is not None:
        await what_fails_in_a_restart_is_not_confirmed(site, site.broker)
    await a_killed_process_is_gone_at_once(site)
    await all_are_closed(site)


async def who_never_asks_never_listens(site: Site) -> None:
    await connections.send_message_to_all("a")
    await connections.send_message_to_user("u1", "b")
    await connections.send_messages([(each, "c") for each in site.tabs])
    if isinstance(site.layer, LocalChannelLayer):
        assert site.layer._nodes()._listener is None
    else:
        assert not site.layer._get_layer()._shards[0]._wanted
    expected = {"a": ALL, "b": SERVERS * TABS, "c": ALL}
    await until(lambda: site.came.total() >= sum(expected.values()))
    assert Counter(text for _, text in await site.heard()) == expected


async def all_are_reached_and_counted(site: Site) -> None:
    ids = list(site.tabs)
    # By an event loop of its own, which asks for nothing else, and has no connections to tell of.
    sending = asyncio.to_thread(sync.send_message_to_websocket, ids[1], "a", confirm_within=LONG)
    await sending
    assert await site.got("a") == 1
    for connection_id in ids[::20]:
        await connections.send_message_to_websocket(connection_id, "a", confirm_within=LONG)
        assert await connections.websocket_exists(connection_id, within=LONG)
    assert await site.got("a") == len(ids[::20])
    assert await connections.send_message_to_user("u3", "b", confirm_within=LONG) == 40
    assert await site.got("b") == 40
    out = [each.id for each in site.tabs.values() if each.user in ("u3", "u4")]
    sent = await connections.send_message_to_group(
        "any text", "c", exclude=out, confirm_within=LONG
    )
    assert sent == await site.got("c") == ALL // 2 - 40
    assert await connections.send_message_to_all("d", confirm_within=LONG) == ALL
    assert await site.got("d") == ALL
    everybody = asyncio.to_thread(sync.send_message_to_all, "e", confirm_within=LONG)
    assert await everybody == await site.got("e") == ALL
    many = [(each, "f") for each in [*ids, "f" * 32]]
    assert await connections.send_messages(many, confirm_within=LONG) == ALL
    assert await site.got("f") == ALL
    found = await connections.list_connections(within=LONG)
    assert found.missing == ()
    assert {each.id: each.user_id for each in found} == {
        each.id: each.user for each in site.tabs.values()
    }
    assert Counter(each.process for each in found) == {each.pid: HERE for each in site.servers}
    users = await connections.online_users(within=LONG)
    assert {(each.user_id, each.user_name, each.connections) for each in users} == {
        (f"u{number}", f"u{number}!", 40) for number in range(USERS)
    }
    assert await connections.count_connections(within=LONG) == ALL
    assert await connections.count_connections(group="any text", within=LONG) == ALL // 2
    counting = asyncio.to_thread(sync.count_connections, user="u3", group="any text", within=LONG)
    assert await counting == 40
    assert (await connections.get_connection(ids[13])).user_id == site.tabs[ids[13]].user


async def a_suspended_process_is_named(site: Site) -> None:
    others, there = site.ids(0), site.ids(3)
    node = there[0][:8]
    with suspended(site.servers[3]):
        for sending, delivered in (
            (connections.send_message_to_user("u1", "a", confirm_within=SHORT), 30),
            (connections.send_message_to_user("u1", "a", confirm_within=SHORT), 30),
            (connections.send_message_to_group("any text", "a", confirm_within=2), HERE * 3 // 2),
            (connections.send_message_to_all("a", confirm_within=2), HERE * 3),
            (
                connections.send_messages(
                    [(each, "a") for each in (*others[:3], *there[:2])], confirm_within=SHORT
                ),
                3,
            ),
        ):
            with ends_within(2), pytest.raises(DeliveryTimeoutError) as caught:
                await sending
            assert (caught.value.delivered, caught.value.missing) == (delivered, (node,))
        for asking in (
            connections.send_message_to_websocket(there[0], "a", confirm_within=SHORT),
            connections.websocket_exists(there[0], within=SHORT),
            connections.get_connection(there[0], within=SHORT),
        ):
            with ends_within(SHORT), pytest.raises(DeliveryTimeoutError, match=f"from {node}"):
                await asking
        with ends_within(2):
            found = await connections.list_connections(within=2)
        assert (len(found), found.missing) == (3 * HERE, (node,))
        with ends_within(SHORT):
            count = await connections.count_connections(user="u1", within=SHORT)
        assert (count, count.missing) == (30, (node,))
        await connections.send_message_to_websocket(others[0], "b", confirm_within=LONG)
    assert await connections.send_message_to_all("c", confirm_within=LONG) == ALL
    assert max((await site.heard()).values()) < 7


async def what_fails_in_a_restart_is_not_confirmed(site: Site, broker: Broker) -> None:
    """Sends to each in turn, until all are reached again."""
    outcomes: dict[tuple[str, str], Exception | None] = {}
    is_back = asyncio.Event()

    async def send(ids: list[str]) -> None:
        """Sends to each, until it is reached after the restart."""
        for connection_id in ids:
            while True:
                is_last, text, error = is_back.is_set(), uuid4().hex, None
                with ends_within(2):
                    try:
                        await connections.send_message_to_websocket(
                            connection_id, text, confirm_within=2
                        )
                    except (ChannelLayerError, DeliveryTimeoutError) as caught:
                        error = caught
                outcomes[connection_id, text] = error
                if error is None:
                    break
                await asyncio.sleep(0.02)
            if not is_last:
                ids.append(connection_id)

    sending = [asyncio.create_task(send([*site.tabs][n::50])) for n in range(50)]
    await until(lambda: len(outcomes) > 500)
    broker.kill()
    await until(lambda: any(outcomes.values()))
    broker.start()
    is_back.set()
    async with asyncio.timeout(LONG):
        await asyncio.gather(*sending)
    came = await site.heard()
    assert {what for what, error in outcomes.items() if error is None} <= set(came)
    assert set(came) <= set(outcomes)
    assert set(came.values()) == {1}
    assert await connections.send_message_to_all("a", confirm_within=LONG) == ALL
    assert await site.got("a") == ALL


async def a_killed_process_is_gone_at_once(site: Site) -> None:
    gone = site.ids(3)
    site.servers[3].kill()
    with ends_within(2):
        with pytest.raises(ConnectionNotFoundError):
            await connections.send_message_to_websocket(gone[0], "a", confirm_within=LONG)
        assert not await connections.websocket_exists(gone[0], within=LONG)
        for text in "bc":
            assert await connections.send_message_to_all(text, confirm_within=LONG) == 3 * HERE
        assert await connections.send_message_to_user("u3", "d", confirm_within=LONG) == 30
        found = await connections.list_connections(within=LONG)
        assert (len(found), found.missing) == (3 * HERE, ())
    await until(lambda: len(site.tabs) == 3 * HERE)
    assert Counter(text for _, text in await site.heard()) == {
        "b": 3 * HERE,
        "c": 3 * HERE,
        "d": 30,
    }


async def all_are_closed(site: Site) -> None:
    tabs = list(site.tabs.values())
    first = next(each for each in tabs if each.user == "u2")
    await connections.close_websocket_connection(first.id, 4001, confirm_within=LONG)
    await until(lambda: len(site.tabs) == 3 * HERE - 1)
    for closing, number in (
        (connections.close_user_websockets("u2", 4001, confirm_within=LONG), 29),
        (connections.close_group_websockets("any text", 4001, confirm_within=LONG), 750),
        (connections.close_all_websockets(4001, confirm_within=LONG), 720),
    ):
        before = len(site.tabs)
        assert await closing == number
        await until(lambda: len(site.tabs) == before - number)  # noqa: B023
    assert {each.code for each in tabs} == {4001}
    assert await connections.count_connections(within=LONG) == 0
    assert not await connections.websocket_exists(first.id)
