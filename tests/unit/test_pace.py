"""Senders over a real Redis, and a subscriber that reads when it is told to."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from panther_channels import _pace, _publisher
from tests.conftest import StartRedis
from tests.layers import calls, install_pubsub
from tests.servers import RedisServer
from tests.waiting import until

SECONDS = 20.0
MB = "x" * 1_000_000
COUNT = 30  # of them are more than what the kernel and Redis take without a word


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pace, "_told", set())
    install_pubsub(monkeypatch)


@pytest.fixture
def redis(start_redis: StartRedis) -> RedisServer:
    return start_redis()


@pytest.fixture
async def layer(redis: RedisServer) -> AsyncIterator[Any]:
    layer = RedisPubSubChannelLayer(hosts=[redis.url], prefix=uuid4().hex)
    yield layer
    await layer.flush()


@pytest.fixture
async def hasty(redis: RedisServer) -> AsyncIterator[Any]:
    """A layer that gives up after half a second."""
    layer = RedisPubSubChannelLayer(hosts=[f"{redis.url}?socket_timeout=0.5"], prefix=uuid4().hex)
    yield layer
    await layer.flush()


class Subscriber:
    """Subscribes to a layer's group, under a name, and reads when it is told to."""

    def __init__(self, redis: RedisServer, layer: Any, name: str) -> None:
        self._socket = socket.create_connection((redis.host, redis.port), SECONDS)
        orders = f"CLIENT SETNAME {name}\r\nSUBSCRIBE {layer.prefix}__group__room\r\n"
        self._socket.sendall(orders.encode())
        while b"subscribe" not in self._socket.recv(1000):
            pass

    async def read(self, size: int) -> bytes:
        """So many bytes at least."""
        data = bytearray()
        while len(data) < size:
            data += await asyncio.to_thread(self._socket.recv, 1 << 20)
        return bytes(data)

    def close(self) -> None:
        self._socket.close()


Subscribe = Callable[..., Subscriber]


@pytest.fixture
def subscribe(redis: RedisServer) -> Iterator[Subscribe]:
    subscribers: list[Subscriber] = []

    def start(layer: Any, name: str = "") -> Subscriber:
        name = name or f"panther_channels.{layer.prefix}"
        subscribers.append(Subscriber(redis, layer, name))
        return subscribers[-1]

    yield start
    for subscriber in subscribers:
        subscriber.close()


def pace(layer: Any) -> Any:
    return layer._get_layer()._shards[0]._pace


async def burst(layer: Any) -> None:
    for number in range(COUNT):
        await layer.group_send("room", {"text": f"n{number:02d}{MB}"})


async def until_held(layer: Any) -> None:
    await until(lambda: pace(layer).is_held)


def waiting(redis: RedisServer) -> int:
    with Redis(host=redis.host, port=redis.port) as client:
        return sum(int(each["omem"]) for each in client.client_list(_type="pubsub"))


def questions(redis: RedisServer) -> int:
    return calls(redis, "client|list")


async def test_redis_is_asked_once_for_a_megabyte(layer: Any, redis: RedisServer):
    for _ in range(350):
        await layer.group_send("room", {"text": MB[:10_000]})
    assert questions(redis) == 3


async def test_a_burst_waits_for_who_takes_it(layer: Any, redis: RedisServer, subscribe: Subscribe):
    subscriber = subscribe(layer)
    sending = asyncio.create_task(burst(layer))
    await until_held(layer)
    assert _pace._WAITING < waiting(redis) < _pace._WAITING + 2_100_000
    assert not sending.done()
    data = await subscriber.read(COUNT * len(MB))
    await asyncio.wait_for(sending, SECONDS)
    found = [data.find(f"n{number:02d}x".encode()) for number in range(COUNT)]
    assert found == sorted(found)
    assert found[0] > 0


async def test_small_messages_count_as_well(layer: Any, subscribe: Subscribe):
    subscribe(layer)

    async def small() -> None:
        while True:
            await layer.group_send("room", {"text": MB[:10_000]})

    sending = asyncio.create_task(small())
    await until_held(layer)
    sending.cancel()
    await asyncio.wait({sending})


async def test_who_waits_too_long_is_told_and_the_next_goes_on(
    hasty: Any, redis: RedisServer, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
):
    subscribe(hasty)
    sending = [asyncio.create_task(hasty.group_send("room", {"text": MB})) for _ in range(COUNT)]
    await asyncio.wait(sending)
    failures = [error for task in sending if (error := task.exception())]
    assert 10 < len(failures) < COUNT - 4
    assert {type(error) for error in failures} == {RedisTimeoutError}
    assert "send less, one after the other" in str(failures[0])
    assert caplog.records == []
    assert questions(redis) < 0.5 / _pace._PAUSE + COUNT
    # Not an outage, after which it would wait for somebody who is gone.
    assert hasty._get_layer()._shards[0]._failed_at < 0
    for _ in range(5):
        await hasty.group_send("room", {"text": MB})
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "More than 4 MB have been waiting" in caplog.text
    assert waiting(redis) > 8_000_000


async def test_who_has_recovered_is_waited_for_again(
    hasty: Any, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
):
    subscriber = subscribe(hasty)
    sent = 0
    with suppress(RedisTimeoutError):
        while sent < COUNT:
            await hasty.group_send("room", {"text": MB})
            sent += 1
    assert sent < COUNT
    await hasty.group_send("room", {"text": MB})
    await subscriber.read((sent + 1) * len(MB))
    sending = asyncio.create_task(burst(hasty))
    await until_held(hasty)
    await subscriber.read(COUNT * len(MB))
    await asyncio.wait_for(sending, SECONDS)
    assert len(caplog.records) == 1


async def test_others_who_listen_slow_nobody_down(
    layer: Any, redis: RedisServer, subscribe: Subscribe
):
    subscribe(layer, "redis-cli")
    await asyncio.wait_for(burst(layer), _publisher._ANSWER)
    assert waiting(redis) > 2 * _pace._WAITING


async def test_redis_may_not_tell(redis: RedisServer, caplog: pytest.LogCaptureFixture):
    with Redis(host=redis.host, port=redis.port) as client:
        client.execute_command("ACL SETUSER guest on nopass ~* &* +@all -@dangerous")
    url = f"redis://guest:any@{redis.host}:{redis.port}"
    caplog.set_level(logging.INFO)
    for _ in range(2):
        layer = RedisPubSubChannelLayer(hosts=[url])
        channel = await layer.new_channel()
        for number in range(3):
            await layer.send(channel, {"text": MB, "n": number})
        got = [await asyncio.wait_for(layer.receive(channel), SECONDS) for _ in range(3)]
        assert [message["n"] for message in got] == [0, 1, 2]
        await layer.flush()
    assert len(caplog.records) == 1
    assert "CLIENT LIST" in caplog.text
    assert questions(redis) == 2, "once for each layer"


async def test_an_outage_is_what_the_message_tells(
    layer: Any, redis: RedisServer, subscribe: Subscribe
):
    subscribe(layer)
    sending = asyncio.create_task(burst(layer))
    await until_held(layer)
    redis.kill()
    with pytest.raises(RedisConnectionError):
        await asyncio.wait_for(sending, SECONDS)
    assert not pace(layer).is_held
    # Seen while Redis was asked, too: the next one waits for somebody who subscribes again.
    shard = layer._get_layer()._shards[0]
    shard._failed_at = -10.0
    with pytest.raises(RedisConnectionError):
        await layer.group_send("room", {"text": MB})
    assert shard._failed_at > 0


async def test_a_receiver_is_found_by_its_name(layer: Any, redis: RedisServer):
    await layer.new_channel()
    with Redis(host=redis.host, port=redis.port) as client:
        names = [each["name"] for each in client.client_list(_type="pubsub")]
    assert names == [f"panther_channels.{layer.prefix}"]
