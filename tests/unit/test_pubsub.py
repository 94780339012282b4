"""channels_redis's pub/sub layer on a real Redis, whose connection is lost in several ways."""

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import channels_redis.pubsub
import pytest
import uvloop
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels import _pubsub
from tests.conftest import StartRedis
from tests.layers import calls, install_pubsub
from tests.servers import RedisServer, suspended
from tests.waiting import until

SECONDS = 20.0


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install_pubsub(monkeypatch)


def build(server: RedisServer, query: str = "") -> Any:
    """A layer under a prefix of its own, for all tests share the redis-server."""
    return RedisPubSubChannelLayer(hosts=[f"{server.url}{query}"], prefix=uuid4().hex)


@pytest.fixture
async def pubsub(redis_server: RedisServer) -> AsyncIterator[Any]:
    layer = build(redis_server)
    yield layer
    await layer.flush()


def shard(layer: Any) -> Any:
    return layer._get_layer()._shards[0]


async def member(layer: Any, group: str = "room") -> str:
    """A new channel in a group."""
    channel: str = await layer.new_channel()
    await layer.group_add(group, channel)
    return channel


async def received(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), SECONDS)


def subscriptions(server: RedisServer, layer: Any) -> int:
    with Redis(host=server.host, port=server.port) as client:
        return len(client.pubsub_channels(f"{layer.prefix}*"))


async def test_messages_of_groups_and_channels(pubsub: Any):
    channel = await member(pubsub)
    await pubsub.group_send("room", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}
    await pubsub.send(channel, {"n": 2})
    assert await received(pubsub, channel) == {"n": 2}


@pytest.mark.parametrize("query", ["?protocol=2", "?protocol=3", "?health_check_interval=1"])
async def test_settings_of_redis_py(redis_server: RedisServer, query: str, monkeypatch):
    monkeypatch.setattr(_pubsub, "_READ", 0.01)
    layer = build(redis_server, query)
    channel = await member(layer)
    if "health" in query:
        connection = shard(layer)._connection
        checked = connection.next_health_check
        await until(lambda: connection.next_health_check > checked)
    await layer.group_send("room", {"n": 1})
    assert await received(layer, channel) == {"n": 1}
    await layer.flush()


async def test_redis_knows_a_subscription_when_it_counts(pubsub: Any, redis_server: RedisServer):
    for number in range(1, 50):
        await member(pubsub, f"room-{number}")
        assert subscriptions(redis_server, pubsub) == 2 * number


async def test_who_leaves_leaves_nothing(pubsub: Any, redis_server: RedisServer):
    channel = await member(pubsub)
    await pubsub.group_discard("room", channel)
    receiving = asyncio.create_task(pubsub.receive(channel))
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait({receiving})
    await until(lambda: subscriptions(redis_server, pubsub) == 0)
    found = pubsub._get_layer()
    assert (found.channels, found.groups, shard(pubsub)._wanted) == ({}, {}, {})


def give_up(connection: Any) -> None:
    """What the kernel does when keepalive is not answered, and asyncio with that."""
    error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    connection._writer.transport._fatal_error(error, "read error")


async def test_a_connection_that_the_kernel_gave_up(pubsub: Any):
    channel = await member(pubsub)
    lost = shard(pubsub)._connection
    give_up(lost)
    await until(lambda: shard(pubsub)._connection not in (lost, None))
    await pubsub.group_send("room", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_leaving_and_joining_while_the_connection_is_lost(
    new_loop: Any, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
):
    layer = build(redis_server)

    async def main() -> None:
        await member(layer)
        lost = shard(layer)._connection
        lost._writer.transport.abort()
        joining: list[asyncio.Task[str]] = []
        while shard(layer)._connection is lost:
            joining.append(asyncio.create_task(member(layer, f"room-{len(joining)}")))
            await shard(layer).unsubscribe(f"{layer.prefix}__group__room")
            await asyncio.sleep(0)
        channel = (await asyncio.gather(*joining))[0]
        await layer.group_send("room-0", {"n": 1})
        assert await received(layer, channel) == {"n": 1}
        await layer.flush()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_the_first_attempt_to_connect_again_is_at_once(
    pubsub: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_pubsub, "_PAUSE", 1.0)
    await member(pubsub)
    await asyncio.sleep(1.0)  # between two attempts is the pause, not between a loss and the next
    lost, start = shard(pubsub)._connection, time.monotonic()
    lost._writer.transport.abort()
    await until(lambda: shard(pubsub)._connection not in (lost, None))
    assert time.monotonic() - start < 1.0


async def test_between_two_attempts_is_a_pause(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_pubsub, "_PAUSE", 1000)
    redis = start_redis()
    layer = build(redis)
    attempts: list[object] = []
    connect = _pubsub.Shard._connect

    async def counting(shard: _pubsub.Shard) -> None:
        attempts.append(shard)
        await connect(shard)

    monkeypatch.setattr(_pubsub.Shard, "_connect", counting)
    await member(layer)
    redis.kill()
    await until(lambda: shard(layer)._is_away)
    await asyncio.sleep(0.2)
    assert len(attempts) == 1
    await layer.flush()


async def test_redis_py_takes_the_end_for_silence(pubsub: Any):
    """Once this fails, redis-py raises here, and a part of the mend may go."""
    await member(pubsub)
    task, connection = shard(pubsub)._receive_task, shard(pubsub)._connection
    shard(pubsub)._connection = None  # so that it stays
    task.cancel()
    await asyncio.wait({task})
    give_up(connection)
    assert await connection.read_response(timeout=0.1, disconnect_on_error=False) is None
    assert connection.is_connected
    await connection.disconnect(nowait=True)


async def test_an_outage_is_two_lines(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(_pubsub, "_PAUSE", 0.01)
    redis = start_redis()
    layer = build(redis)
    channel = await member(layer)
    redis.kill()
    await until(lambda: len(caplog.records) == 1)
    assert shard(layer)._failed_at > 0, "senders of this process know of it, too"
    for _ in range(20):
        with pytest.raises(RedisConnectionError):
            await layer.group_send("room", {"n": 0})
    redis = start_redis(port=redis.port)
    await until(lambda: len(caplog.records) == 2)
    await layer.group_send("room", {"n": 1})
    assert await received(layer, channel) == {"n": 1}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "2 subscriptions" in caplog.text
    await layer.flush()


async def test_leaving_needs_no_redis(start_redis: StartRedis, caplog: pytest.LogCaptureFixture):
    redis = start_redis()
    layer = build(redis)
    channels = [await member(layer, f"room-{number}") for number in range(20)]
    redis.kill()
    await until(lambda: shard(layer)._is_away)
    caplog.clear()
    for number, channel in enumerate(channels):
        await layer.group_discard(f"room-{number}", channel)
        await shard(layer).unsubscribe(channel)
    assert caplog.records == []
    redis = start_redis(port=redis.port)
    await until(lambda: not shard(layer)._is_away)
    assert subscriptions(redis, layer) == 0
    await layer.flush()


@pytest.mark.parametrize("was_there", [True, False])
async def test_nothing_is_kept_of_who_could_not_come(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch, was_there: bool
):
    monkeypatch.setattr(_pubsub, "_CONFIRM", 0.1)
    redis = start_redis()
    layer = build(redis)
    if was_there:
        await layer.group_discard("room", await member(layer))
        await shard(layer).unsubscribe(next(iter(layer._get_layer().channels)))
        layer._get_layer().channels.clear()
    with suspended(redis):
        for _ in range(3):
            with pytest.raises(RedisTimeoutError):
                await layer.new_channel()
    assert (layer._get_layer().channels, shard(layer)._wanted) == ({}, {})
    await until(lambda: subscriptions(redis, layer) == 0)
    monkeypatch.setattr(_pubsub, "_CONFIRM", SECONDS)
    await member(layer)
    await layer.flush()


async def test_who_gives_up_leaves_a_group_to_the_others(pubsub: Any, redis_server: RedisServer):
    first, second = await pubsub.new_channel(), await pubsub.new_channel()
    with Redis(host=redis_server.host, port=redis_server.port) as client:
        client.client_pause(300)
    joining = [asyncio.create_task(pubsub.group_add("room", each)) for each in (first, second)]
    await asyncio.sleep(0.01)
    joining[0].cancel()
    await asyncio.wait(joining)
    assert joining[0].cancelled()
    await pubsub.group_discard("room", first)
    await joining[1]
    await pubsub.group_send("room", {"n": 1})
    assert await received(pubsub, second) == {"n": 1}


async def test_many_subscriptions_are_made_again(
    pubsub: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_pubsub, "_CHUNK", 7)
    for number in range(20):
        await member(pubsub, f"room-{number}")
    lost = shard(pubsub)._connection
    lost._writer.transport.abort()
    await until(lambda: shard(pubsub)._connection not in (lost, None))
    await until(lambda: subscriptions(redis_server, pubsub) == 40)


async def test_new_connections_while_an_old_one_is_made_again(
    pubsub: Any, redis_server: RedisServer
):
    channel = await member(pubsub)
    with Redis(host=redis_server.host, port=redis_server.port) as client:
        client.client_pause(500)
    shard(pubsub)._connection._writer.transport.abort()
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(member(pubsub, f"room-{number}") for number in range(20)))
    await until(lambda: subscriptions(redis_server, pubsub) == 42)
    await pubsub.group_send("room", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}


async def test_a_receiver_that_others_have_cancelled_starts_again(pubsub: Any):
    await member(pubsub)
    task = shard(pubsub)._receive_task
    task.cancel()
    await asyncio.wait({task})
    channel = await member(pubsub, "hall")
    await pubsub.group_send("hall", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}


async def test_after_a_flush_it_goes_on(pubsub: Any, redis_server: RedisServer):
    await member(pubsub)
    await pubsub.flush()
    await until(lambda: subscriptions(redis_server, pubsub) == 0)
    channel = await member(pubsub)
    await pubsub.group_send("room", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}
    assert subscriptions(redis_server, pubsub) == 2, "those from before are forgotten"


async def test_two_who_subscribe_at_once(start_redis: StartRedis):
    redis = start_redis()
    layer = build(redis)
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(shard(layer).subscribe("room") for _ in range(2)))
    assert calls(redis, "subscribe") == 1
    await layer.flush()


def test_twice_is_once():
    _pubsub.install()
    assert channels_redis.pubsub.RedisSingleShardConnection is _pubsub.Shard


async def test_a_bound_channel(pubsub: Any):
    channel = await pubsub.new_channel()
    overflow = asyncio.Event()
    pubsub.bound_channel(channel, 1000, overflow.set)
    await pubsub.send(channel, {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}
    for _ in range(2):
        await pubsub.send(channel, {"text": "x" * 600})
    await asyncio.wait_for(overflow.wait(), SECONDS)
