"""Senders over a real Redis, of whose messages nobody hears at first."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels import _publisher, _pubsub, _second_try
from panther_channels.connections import group_name
from tests.conftest import StartRedis
from tests.layers import calls, install_pubsub
from tests.servers import RedisServer, suspended
from tests.waiting import until

SECONDS = 20.0


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install_pubsub(monkeypatch)


@pytest.fixture
def redis(start_redis: StartRedis) -> RedisServer:
    return start_redis()


def build(redis: RedisServer) -> Any:
    return RedisPubSubChannelLayer(hosts=[redis.url])


@pytest.fixture
async def layer(redis: RedisServer) -> AsyncIterator[Any]:
    layer = build(redis)
    yield layer
    await layer.flush()


@pytest.fixture
async def sender(redis: RedisServer) -> AsyncIterator[Any]:
    layer = build(redis)
    yield layer
    await layer.flush()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try comes when a test has done the rest."""
    monkeypatch.setattr(_second_try, "_DELAY", 0.5)


def shard(layer: Any) -> Any:
    return layer._get_layer()._shards[0]


async def member(layer: Any, group: str) -> str:
    channel: str = await layer.new_channel()
    await layer.group_add(group, channel)
    return channel


async def received(layer: Any, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), SECONDS)


async def numbers(layer: Any, channel: str, count: int) -> list[int]:
    return [(await received(layer, channel))["n"] for _ in range(count)]


async def test_a_sender_waits_for_those_who_subscribe_again(
    sender: Any,
    layer: Any,
    redis: RedisServer,
    start_redis: StartRedis,
    monkeypatch: pytest.MonkeyPatch,
):
    """It learns of the outage by its own stale connection, and by nobody's having got it."""
    channel = await member(layer, "room")
    await sender.group_send("room", {"n": 1})
    assert await received(layer, channel) == {"n": 1}
    monkeypatch.setattr(_pubsub, "_PAUSE", 0.5)  # of the receiver, which the sender waits for
    redis.kill()
    start_redis(port=redis.port)
    await sender.group_send("room", {"n": 2})
    assert await received(layer, channel) == {"n": 2}
    assert 1 < calls(redis, "publish") <= 1 + _publisher._GRACE / _publisher._PAUSE
    await sender.group_send("room", {"n": 3})
    assert await received(layer, channel) == {"n": 3}, "what somebody got isn't sent again"


async def test_redis_starts_anew_between_large_messages(
    sender: Any, layer: Any, redis: RedisServer, start_redis: StartRedis
):
    """Which takes another connection, by which the sender asks how much waits."""
    channel = await member(layer, "room")
    for number in range(3):
        await sender.group_send("room", {"n": number, "text": "x" * 1_100_000})
    assert await numbers(layer, channel, 3) == [0, 1, 2]
    redis.kill()
    start_redis(port=redis.port)
    await sender.group_send("room", {"n": 3, "text": "x" * 1_100_000})
    assert await numbers(layer, channel, 1) == [3]


async def test_nobody_is_waited_for_in_good_times(layer: Any):
    start = time.monotonic()
    for _ in range(50):
        await layer.group_send(group_name(uuid4().hex), {"n": 1})
    assert time.monotonic() - start < _publisher._GRACE


@pytest.mark.usefixtures("late")
async def test_what_nobody_got_is_sent_once_more(sender: Any, layer: Any):
    """As if a process had not subscribed again yet; in order, also with what comes meanwhile."""
    group = group_name(uuid4().hex)
    for number in range(3):
        await sender.group_send(group, {"n": number})
    channel = await member(layer, group)
    await sender.group_send(group, {"n": 3})
    assert await numbers(layer, channel, 4) == [0, 1, 2, 3]
    assert shard(sender)._second_try._count == 0


@pytest.mark.usefixtures("late")
async def test_the_last_messages_of_an_event_loop(
    redis: RedisServer, layer: Any, monkeypatch: pytest.MonkeyPatch
):
    """As of `manage.py websocket send`, which ends at once."""
    monkeypatch.setattr(_second_try, "_next_end", 0.0)
    group = group_name(uuid4().hex)
    has_sent = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def script() -> None:
        await build(redis).group_send(group, {"n": 1})
        loop.call_soon_threadsafe(has_sent.set)

    ending = asyncio.create_task(asyncio.to_thread(asyncio.run, script()))
    await asyncio.wait_for(has_sent.wait(), SECONDS)
    channel = await member(layer, group)
    assert await numbers(layer, channel, 1) == [1]
    await ending


@pytest.mark.usefixtures("late")
async def test_who_joins_a_group_hears_nothing_older(sender: Any, layer: Any):
    """A user who has come back must not be closed for what was before."""
    await sender.group_send("user.1", {"n": 1})
    assert shard(sender)._second_try._count == 0
    channel = await member(layer, "user.1")
    await sender.group_send("user.1", {"n": 2})
    assert await numbers(layer, channel, 1) == [2]


async def test_many_to_one_who_comes_late(sender: Any, layer: Any, monkeypatch: pytest.MonkeyPatch):
    """No more may wait: who sends without end waits himself, and nothing is sent too early."""
    monkeypatch.setattr(_second_try, "_COUNT", 100)
    monkeypatch.setattr(_second_try, "_DELAY", 0.3)
    group = group_name(uuid4().hex)

    async def send() -> None:
        for number in range(1000):
            await sender.group_send(group, {"n": number})
            assert shard(sender)._second_try._count <= _second_try._COUNT

    sending = asyncio.create_task(send())
    channel = await member(layer, group)
    assert await numbers(layer, channel, 1000) == list(range(1000))
    await sending


async def test_who_waits_leaves_the_event_loop_to_others(
    sender: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_second_try, "_COUNT", 10)
    takes: list[int] = []
    take = _second_try.SecondTry.take

    def counting(second_try: Any) -> Any:
        taken = take(second_try)
        takes.append(len(taken))
        return taken

    monkeypatch.setattr(_second_try.SecondTry, "take", counting)
    group = group_name(uuid4().hex)
    await sender.group_send(group, {"n": 0})
    has_run = asyncio.Event()
    asyncio.get_running_loop().call_soon(has_run.set)
    await sender.group_send(group, {"n": 1})
    assert has_run.is_set()
    for number in range(20):
        await sender.group_send(group, {"n": number})
    assert len(takes) < 10


async def test_a_second_try_that_takes_too_long(
    sender: Any, redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    await sender.group_send(group_name(uuid4().hex), {"n": 1})
    shard(sender)._limit = 0.1
    with Redis(host=redis.host, port=redis.port) as client:
        client.client_pause(60_000, all=False)
        await asyncio.wait_for(shard(sender)._second_try.finish(), SECONDS)
        client.client_unpause()
    assert "can't be sent once more: TimeoutError" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("size", [1, 1_100_000])
async def test_sending_while_the_layer_is_flushed(sender: Any, layer: Any, size: int):
    channel = await member(layer, "room")
    await sender.group_send("room", {"n": 0, "text": ""})
    async with shard(sender)._lock:
        flushing = asyncio.create_task(sender.flush())
        await until(lambda: len(shard(sender)._lock._waiters or ()) == 1)
        sending = asyncio.create_task(sender.group_send("room", {"n": 1, "text": "x" * size}))
        await until(lambda: len(shard(sender)._lock._waiters) == 2)
    await flushing
    await sending
    assert await numbers(layer, channel, 2) == [0, 1]


async def test_a_silent_redis_is_told_in_time(redis: RedisServer):
    hasty = RedisPubSubChannelLayer(hosts=[f"{redis.url}?socket_timeout=0.3"])
    with suspended(redis):
        with pytest.raises(RedisTimeoutError, match=r"^no answer within 0\.3 s$"):
            await asyncio.wait_for(hasty.group_send("room", {"n": 1}), SECONDS)
        assert shard(hasty)._failed_at > 0
    shard(hasty)._limit = SECONDS
    await hasty.group_send("room", {"n": 1})
    await hasty.flush()


async def test_no_second_try_without_redis(
    sender: Any, redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    await sender.group_send(group_name(uuid4().hex), {"n": 1})
    redis.kill()
    await asyncio.wait_for(shard(sender)._second_try.finish(), SECONDS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "that nobody got" in caplog.text


async def test_who_gives_up_leaves_no_answer_to_the_next(
    sender: Any, layer: Any, redis: RedisServer
):
    """Or each would take the answer to the one before him, and send twice what has arrived."""
    channel = await member(layer, group := group_name(uuid4().hex))
    await sender.group_send(group, {"n": 0})
    with Redis(host=redis.host, port=redis.port) as client:
        client.client_pause(300)
    leaving = asyncio.create_task(sender.group_send(group_name(uuid4().hex), {"n": -1}))
    with suppress(TimeoutError):
        await asyncio.wait_for(leaving, 0.05)
    assert leaving.cancelled()
    for number in range(1, 4):
        await sender.group_send(group, {"n": number})
    assert await numbers(layer, channel, 4) == [0, 1, 2, 3]
    assert shard(sender)._second_try._count == 0


async def test_one_connection_sends_until_the_end(sender: Any, redis: RedisServer):
    for number in range(10):
        await sender.group_send(f"room-{number}", {"n": 1})
    with Redis(host=redis.host, port=redis.port) as client:
        commands = [each["cmd"] for each in client.client_list()]
        assert sorted(commands) == ["client|list", "publish"]
        await sender.flush()
        async with asyncio.timeout(SECONDS):
            while len(client.client_list()) > 1:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)


async def test_what_redis_refuses_is_no_answer_to_the_next(
    sender: Any, redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    for _ in range(2):
        await sender.group_send(group_name(uuid4().hex), {"n": 1})
    with Redis(host=redis.host, port=redis.port) as client:
        client.execute_command("ACL SETUSER default resetchannels")
        await shard(sender)._second_try.finish()
        client.execute_command("ACL SETUSER default allchannels")
    assert "that nobody got" in caplog.text
    await sender.group_send("room", {"n": 1})
