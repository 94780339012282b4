"""channels_redis's pub/sub layer on a real Redis, whose connection is lost in several ways."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from channels_redis.pubsub import (
    RedisPubSubChannelLayer,
    RedisPubSubLoopLayer,
    RedisSingleShardConnection,
)
from redis import Redis

from panther_channels import _pubsub
from tests.servers import RedisServer

SECONDS = 20.0


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # monkeypatch puts back what was there.
    monkeypatch.setattr(RedisPubSubLoopLayer, "bound_channel", None, raising=False)
    for name in ("_do_receiving", "_ensure_receiver"):
        original = getattr(RedisSingleShardConnection, name)
        monkeypatch.setattr(RedisSingleShardConnection, name, original)
    _pubsub.install()


@pytest.fixture
async def pubsub(redis_server: RedisServer) -> AsyncIterator[Any]:
    layer: Any = RedisPubSubChannelLayer(hosts=[redis_server.url])
    yield layer
    await layer.flush()


def connection(layer: Any) -> Any:
    return layer._get_layer()._shards[0]._pubsub.connection


def give_up(connection: Any) -> None:
    """What the kernel does when keepalive is not answered, and asyncio with that."""
    error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    connection._writer.transport._fatal_error(error, "read error")


async def received(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), SECONDS)


async def subscribed(server: RedisServer, *groups: str) -> None:
    """Waits until Redis has a subscriber for each group."""
    names = [f"asgi__group__{group}" for group in groups]
    with Redis(host=server.host, port=server.port) as client:
        await until(lambda: all(count for _, count in client.pubsub_numsub(*names)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event for that
            await asyncio.sleep(0)


async def test_messages_of_groups_and_channels(pubsub: Any):
    channel = await pubsub.new_channel()
    await pubsub.group_add("pubsub-1", channel)
    await pubsub.group_send("pubsub-1", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}
    await pubsub.send(channel, {"n": 2})
    assert await received(pubsub, channel) == {"n": 2}


async def test_a_connection_that_the_kernel_gave_up(pubsub: Any, redis_server: RedisServer):
    channel = await pubsub.new_channel()
    await pubsub.group_add("pubsub-2", channel)
    await subscribed(redis_server, "pubsub-2")
    lost = connection(pubsub)._reader
    give_up(connection(pubsub))
    await until(lambda: connection(pubsub)._reader not in (lost, None))
    await subscribed(redis_server, "pubsub-2")
    await pubsub.group_send("pubsub-2", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}


async def test_redis_py_takes_the_end_for_silence(pubsub: Any):
    """Once this fails, redis-py raises here, and half of the mend may go."""
    channel = await pubsub.new_channel()
    await pubsub.send(channel, {})
    await received(pubsub, channel)  # and with it the answer to the subscription
    shard = pubsub._get_layer()._shards[0]
    shard._receive_task.cancel()
    await asyncio.wait([shard._receive_task])
    give_up(connection(pubsub))
    assert await shard._pubsub.get_message(timeout=0.1) is None
    assert connection(pubsub).is_connected


async def test_new_connections_while_an_old_one_is_made_again(
    pubsub: Any, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
):
    channel = await pubsub.new_channel()
    await pubsub.group_add("pubsub-3", channel)
    await subscribed(redis_server, "pubsub-3")
    with Redis(host=redis_server.host, port=redis_server.port) as client:
        client.client_pause(500)
    connection(pubsub)._writer.transport.abort()
    await until(lambda: _pubsub._is_lost(connection(pubsub)))
    groups = [f"pubsub-3-{number}" for number in range(20)]

    async def join(group: str) -> None:
        await pubsub.group_add(group, await pubsub.new_channel())

    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*map(join, groups))
    await subscribed(redis_server, "pubsub-3", *groups)
    await pubsub.group_send("pubsub-3", {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}
    assert "There is no connection" not in caplog.text


async def test_a_queue_with_a_limit_in_bytes():
    overflows: list[int] = []
    queue = _pubsub.BoundedQueue(10, lambda: overflows.append(1))
    queue.put_nowait(b"x" * 20)  # a single message may have any size
    assert await queue.get() == b"x" * 20
    for _ in range(5):
        queue.put_nowait(b"xx")
    assert overflows == []
    for _ in range(5):
        queue.put_nowait(b"xx")
    assert overflows == [1]
    assert queue.empty()


async def test_who_waits_at_a_queue_that_overflowed_goes_on_waiting():
    queue = _pubsub.BoundedQueue(1, lambda: None)
    for _ in range(2):
        queue.put_nowait(b"xx")
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(b"xx")
    await asyncio.wait({getting}, timeout=0.05)
    assert not getting.done()
    getting.cancel()


async def test_a_bound_channel(pubsub: Any):
    channel = await pubsub.new_channel()
    overflow = asyncio.Event()
    pubsub.bound_channel(channel, 1000, overflow.set)
    await pubsub.send(channel, {"n": 1})
    assert await received(pubsub, channel) == {"n": 1}
    for _ in range(2):
        await pubsub.send(channel, {"text": "x" * 600})
    await asyncio.wait_for(overflow.wait(), SECONDS)
