import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis import ConnectionError as RedisConnectionError
from redis import MaxConnectionsError
from redis import TimeoutError as RedisTimeoutError

from panther_channels import _redis_core, _renewal
from panther_channels._inbox import Inbox
from panther_channels._redis_core import Memberships, hasty_hosts, is_core, memberships
from tests.conftest import StartRedis
from tests.names import name_of
from tests.servers import RedisServer, suspended
from tests.waiting import until

URL = "redis://127.0.0.1:6379/0"


class Own(RedisChannelLayer):
    brpop_timeout = 60


@pytest.fixture
async def core(redis_server: RedisServer) -> AsyncIterator[RedisChannelLayer]:
    """A layer under a prefix of its own, for all tests share the redis-server."""
    host = {"address": redis_server.url, "socket_timeout": None}
    found = RedisChannelLayer([host], prefix=uuid4().hex)
    yield found
    await found.flush()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_core, "_LOOK", 0.02)
    monkeypatch.setattr(_redis_core, "_LOOK_AGAIN", 0.02)


async def groups(core: RedisChannelLayer) -> int:
    return len(await core.connection(0).keys(f"{core.prefix}:group:*"))


# Without us. When one of these fails, channels_redis has learned it, and that part of ours may go.


async def test_channels_redis_loses_a_membership(core: RedisChannelLayer):
    channel = await core.new_channel()
    receiving = asyncio.create_task(core.receive(channel))
    await core.group_add("room", channel)
    await core.connection(0).delete(f"{core.prefix}:group:room")
    await core.group_send("room", {"type": "lost"})
    await core.send(channel, {"type": "arrives"})
    assert await asyncio.wait_for(receiving, 5) == {"type": "arrives"}


async def test_channels_redis_runs_out_of_connections(redis_server: RedisServer):
    core = RedisChannelLayer([redis_server.url], prefix=uuid4().hex)
    calls = (core.group_add(f"room.{number}", "specific.x!y") for number in range(300))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(result, MaxConnectionsError) for result in results)
    await core.flush()


def test_channels_redis_waits_as_long_as_redis_py():
    assert hasty_hosts(RedisChannelLayer([URL])) == [0]


# Who needs it


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (RedisChannelLayer, True),
        (Own, True),
        (RedisPubSubChannelLayer, False),
        (InMemoryChannelLayer, False),
        (object, False),
    ],
)
async def test_is_core(kind: type, expected: bool):
    assert is_core(kind) is expected
    assert (memberships(kind()) is not None) is expected


async def test_one_for_each_layer_and_event_loop(core: RedisChannelLayer):
    async def other() -> Memberships | None:
        return memberships(core)

    found = memberships(core)
    assert found is memberships(core)
    assert found is not memberships(RedisChannelLayer([URL]))
    assert found is not await asyncio.to_thread(lambda: asyncio.run(other()))


SENTINEL = {"sentinels": [("127.0.0.1", 26379)], "master_name": "mymaster"}


@pytest.mark.parametrize(
    ("hosts", "hasty"),
    [
        (None, [0]),
        ([URL], [0]),
        ([("127.0.0.1", 6379)], [0]),
        ([{"address": URL}], [0]),
        ([{"address": URL, "socket_timeout": None}], []),
        ([{"address": URL, "socket_timeout": 5}], [0]),
        ([{"address": URL, "socket_timeout": 5.5}], []),
        ([f"{URL}?socket_timeout=30"], []),
        ([f"{URL}?socket_timeout=3"], [0]),
        ([{"address": f"{URL}?socket_timeout=3", "socket_timeout": None}], [0]),
        ([{"host": "127.0.0.1", "port": 6379, "socket_timeout": None}], []),
        ([SENTINEL], [0]),
        ([{**SENTINEL, "sentinel_kwargs": {"socket_timeout": None}}], [0]),
        ([{**SENTINEL, "socket_timeout": None}], []),
        ([{"address": URL, "socket_timeout": None}, URL, {"address": URL}], [1, 2]),
    ],
    ids=name_of,
)
def test_hasty_hosts(hosts: Any, hasty: list[int]):
    assert hasty_hosts(RedisChannelLayer(hosts)) == hasty


def test_a_layer_that_waits_longer():
    assert hasty_hosts(Own([{"address": URL, "socket_timeout": 30}])) == [0]


# Memberships


@pytest.mark.usefixtures("_quick")
async def test_they_come_back_after_a_flush(core: RedisChannelLayer):
    kept = Memberships(core)
    await kept.add("room", "specific.x!y")
    await core.flush()
    await until(lambda: groups(core))
    await kept.discard("room", "specific.x!y")
    assert await groups(core) == 0


@pytest.mark.usefixtures("_quick")
async def test_one_task_while_there_are_members(core: RedisChannelLayer):
    kept, before = Memberships(core), asyncio.all_tasks()
    await asyncio.gather(*(kept.add("room", f"specific.x!{number}") for number in range(50)))
    (task,) = {item for item in asyncio.all_tasks() - before if "_keep" in repr(item)}
    for number in range(50):
        assert not task.cancelling()
        await kept.discard("room", f"specific.x!{number}")
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    await kept.add("room", "specific.x!y")
    assert kept._task is not None
    await kept.discard("room", "specific.x!y")
    assert kept._task is None


async def test_a_redis_that_was_away_is_looked_at_sooner(
    core: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_redis_core, "_LOOK", 1000)
    kept = Memberships(core)
    kept._shards[0].fail(RedisConnectionError("x"))
    await kept.add("room", "specific.x!y")
    await until(lambda: not kept._shards[0].is_away)
    await kept.discard("room", "specific.x!y")


@pytest.mark.usefixtures("_quick")
async def test_a_task_that_was_cancelled_by_others_starts_again(core: RedisChannelLayer):
    kept = Memberships(core)
    await kept.add("room", "specific.x!y")
    assert kept._task is not None
    kept._task.cancel()
    await asyncio.wait({kept._task})
    await kept.add("hall", "specific.x!y")
    assert not kept._task.done()
    await kept.discard("room", "specific.x!y")
    await kept.discard("hall", "specific.x!y")


async def test_crowds_fit_into_the_pool(redis_server: RedisServer):
    """redis-py's default is 100 connections."""
    core = RedisChannelLayer([redis_server.url], prefix=uuid4().hex)
    kept = Memberships(core)
    rooms = [f"room.{number}" for number in range(400)]
    await asyncio.gather(*(kept.add(room, "specific.x!y") for room in rooms))
    assert await groups(core) == 400
    await asyncio.gather(*(kept.discard(room, "specific.x!y") for room in rooms))
    assert await groups(core) == 0
    await core.flush()


async def test_a_connection_of_the_pool_that_redis_has_closed(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
):
    core = RedisChannelLayer([{"address": start_redis().url, "socket_timeout": None}])
    kept, rooms = Memberships(core), [f"room.{number}" for number in range(20)]
    await asyncio.gather(*(kept.add(room, "specific.x!y") for room in rooms))
    await core.connection(0).client_kill_filter(_type="normal", skipme=True)
    await asyncio.gather(*(kept.discard(room, "specific.x!y") for room in rooms))
    assert await groups(core) == 0
    assert not caplog.records
    await core.close_pools()


@pytest.mark.usefixtures("_quick")
async def test_who_leaves_during_an_outage_is_removed_after_it(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    look, lock = _renewal.Shard.look, asyncio.Lock()

    async def look_alone(shard: _renewal.Shard) -> None:
        async with lock:
            await look(shard)

    monkeypatch.setattr(_renewal.Shard, "look", look_alone)
    redis = start_redis()
    core = RedisChannelLayer([{"address": redis.url, "socket_timeout": None}])
    kept = Memberships(core)
    await kept.add("room", "specific.x!y")
    await kept.add("hall", "specific.x!y")
    redis.kill()
    await kept.discard("room", "specific.x!y")
    assert kept._shards[0].is_away
    await kept.discard("hall", "specific.x!y")
    assert kept._task is not None
    await asyncio.sleep(0.2)  # several looks in vain
    assert not kept._task.done()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].exc_info is None
    async with lock:
        start_redis(port=redis.port)
        for room in ("room", "hall"):
            await core.group_add(room, "specific.x!y")  # as from the disk
    await until(lambda: not kept._shards[0].gone)
    assert await groups(core) == 0
    await until(kept._task.done)
    await core.close_pools()


async def test_a_silent_redis_is_not_waited_for(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_redis_core, "_LIMIT", 0.2)
    redis = start_redis()
    core = RedisChannelLayer([{"address": redis.url, "socket_timeout": None}])
    kept, rooms = Memberships(core), [f"room.{number}" for number in range(100)]
    with suspended(redis):
        calls = (kept.add(room, "specific.x!y") for room in rooms)
        async with asyncio.timeout(5):
            results = await asyncio.gather(*calls, return_exceptions=True)
            for room in rooms:
                await kept.discard(room, "specific.x!y")
    assert {type(result) for result in results} == {TimeoutError}
    await core.close_pools()
    assert kept._task is not None
    kept._task.cancel()


async def test_what_the_layer_refuses_is_told(core: RedisChannelLayer):
    kept = Memberships(core)
    for method in (kept.add, kept.discard):
        with pytest.raises(TypeError, match="Channel name"):
            await method("room", "no channel")
    assert kept._task is not None
    kept._task.cancel()


async def test_redis_is_not_looked_at_all_the_time(
    core: RedisChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    looks: list[object] = []

    async def look(shard: object) -> None:
        looks.append(shard)

    monkeypatch.setattr(_renewal.Shard, "look", look)
    monkeypatch.setattr(_redis_core, "_LOOK", 1000)
    kept = Memberships(core)
    await kept.add("room", "specific.x!y")
    await asyncio.sleep(2 * _redis_core._LOOK_AGAIN)
    assert looks == []
    await kept.discard("room", "specific.x!y")


async def test_what_is_cleaned_up_in_vain_is_no_error(start_redis: StartRedis):
    redis = start_redis()
    core = RedisChannelLayer([{"address": redis.url, "socket_timeout": None}])
    redis.kill()
    with pytest.raises(RedisConnectionError):
        await core._clean_receive_backup(0, "specific.x!")
    Memberships(core)
    await core._clean_receive_backup(0, "specific.x!")
    await core.close_pools()


# Failures of receive()


def test_which_are_noted(caplog: pytest.LogCaptureFixture):
    kept = Memberships(RedisChannelLayer([URL]))
    channel = "specific.x!y"
    assert not kept.has_noted(ValueError("poison"), channel)
    for _ in range(5):
        assert kept.has_noted(RedisTimeoutError("Timeout reading"), channel)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert '"socket_timeout": None' in caplog.text
    assert not kept._shards[0].is_away
    for _ in range(5):
        assert kept.has_noted(RedisConnectionError("Connection closed"), channel)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert kept._shards[0].is_away


async def test_a_pause_ends_when_redis_is_back(core: RedisChannelLayer):
    kept = Memberships(core)
    await kept._shards[0].look()
    start = time.monotonic()
    await kept.pause(0.05, "specific.x!y")
    assert time.monotonic() - start >= 0.04
    kept._shards[0].fail(RedisConnectionError("x"))
    await kept.pause(0.05, "specific.x!y")
    assert kept._shards[0].is_away
    pausing = asyncio.create_task(kept.pause(1000, "specific.x!y"))
    await kept._shards[0].look()
    await asyncio.wait_for(pausing, 5)


# Receivers


class Listener:
    def __init__(self) -> None:
        self.events: list[Any] = []

    async def handle(self, event: Any) -> None:
        self.events.append(event["n"])


async def build(core: RedisChannelLayer, group: str) -> tuple[Inbox, Listener]:
    inbox, listener = Inbox(core, await core.new_channel()), Listener()
    await inbox.join([group])
    inbox.start(listener.handle, lambda: True)
    await asyncio.sleep(0)
    return inbox, listener


async def test_the_one_at_redis_leaves_no_neighbour_alone(
    core: RedisChannelLayer, caplog: pytest.LogCaptureFixture
):
    one, heard = await build(core, "one")
    two, heard_two = await build(core, "two")
    three, heard_three = await build(core, "three")
    await asyncio.sleep(0.05)  # the first of them waits at Redis now
    assert one._task is not None
    assert two._task is not None
    await one.leave()
    await two.leave()
    await until(two._task.done)
    assert not one._task.done()
    for number in range(20):
        await core.group_send("three", {"type": "x", "n": number})
    await until(lambda: len(heard_three.events) == 20)
    await until(one._task.done)
    assert not one._task.cancelled()
    assert (heard.events, heard_two.events) == ([], [])
    await three.leave()
    await until(three._task.done)  # type: ignore[union-attr]
    assert dict(core.receive_buffer) == {}
    assert await groups(core) == 0
    assert not caplog.records


async def test_the_last_one_does_not_stay(core: RedisChannelLayer):
    inboxes = [await build(core, f"room.{number}") for number in range(10)]
    await asyncio.sleep(0.05)
    await asyncio.gather(*(inbox.leave() for inbox, _listener in inboxes))
    for inbox, _listener in inboxes:
        assert inbox._task is not None
        await until(inbox._task.done)
    await asyncio.sleep(0)
    assert (dict(core.receive_buffer), core.receive_count) == ({}, 0)


async def test_neighbours_that_come_and_go_cost_no_message(core: RedisChannelLayer):
    """Without `dismiss()`, about one of fifty is lost."""
    core.capacity = 1000  # a busy machine may receive later than it sends
    inbox, listener = await build(core, "room")
    is_over = False

    async def come_and_go() -> None:
        while not is_over:
            other, _listener = await build(core, "others")
            await other.leave()

    others = [asyncio.create_task(come_and_go()) for _ in range(3)]
    for number in range(500):
        await core.group_send("room", {"type": "x", "n": number})
    is_over = True
    await asyncio.gather(*others)
    await until(lambda: listener.events == list(range(500)))
    await inbox.leave()


def test_the_constants():
    """An outage ends for a connection within two seconds of Redis' return."""
    assert _redis_core._LOOK_AGAIN + _renewal._PATIENCE < 2
    assert _redis_core._LOOK + _renewal._PATIENCE <= 2
