import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from uuid import uuid4

import pytest
from channels_redis.core import RedisChannelLayer
from redis import ConnectionError as RedisConnectionError
from redis import ResponseError

from panther_channels import _renewal
from panther_channels._outage import is_trouble
from panther_channels._renewal import Shard
from tests.conftest import StartRedis
from tests.servers import RedisServer, suspended

MEMBERS = [("room", "specific.one!a"), ("room", "specific.one!b"), ("hall", "specific.one!a")]


@pytest.fixture
async def core(redis_server: RedisServer) -> AsyncIterator[RedisChannelLayer]:
    """A layer under a prefix of its own, for all tests share the redis-server."""
    found = RedisChannelLayer([{"address": redis_server.url}], prefix=uuid4().hex)
    yield found
    await found.flush()


@pytest.fixture
def shard(core: RedisChannelLayer) -> Shard:
    found = Shard(core, 0)
    found.members.update((member, None) for member in MEMBERS)
    return found


async def known(core: RedisChannelLayer) -> set[tuple[str, str]]:
    """The memberships that Redis knows of."""
    redis, start = core.connection(0), f"{core.prefix}:group:"
    return {
        (key.decode().removeprefix(start), channel.decode())
        for key in await redis.keys(f"{start}*")
        for channel in await redis.zrange(key, 0, -1)
    }


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records]


async def test_the_first_look_adds_them(core: RedisChannelLayer, shard: Shard, caplog):
    before = time.time()
    await shard.look()
    assert await known(core) == set(MEMBERS)
    redis = core.connection(0)
    for key in await redis.keys(f"{core.prefix}*"):  # the one that counts is among them
        assert 0 < await redis.ttl(key) <= core.group_expiry
    scores = await redis.zrange(f"{core.prefix}:group:room", 0, -1, withscores=True)
    assert all(before <= score <= time.time() for _channel, score in scores)
    assert lines(caplog) == []


async def test_a_look_costs_one_command_where_nothing_is_to_do(
    core: RedisChannelLayer, shard: Shard
):
    await shard.look()
    redis = core.connection(0)
    await redis.zrem(f"{core.prefix}:group:hall", MEMBERS[2][1])
    for _ in range(3):
        await shard.look()
    assert await known(core) == set(MEMBERS[:2])


async def test_they_are_renewed_when_it_is_time(core: RedisChannelLayer, shard: Shard, caplog):
    await shard.look()
    key, redis = f"{core.prefix}:group:room", core.connection(0)
    await redis.zadd(key, {MEMBERS[0][1]: 1, MEMBERS[1][1]: 1})
    await redis.expire(key, 100)
    shard._renewal = time.monotonic()
    await shard.look()
    assert min(score for _, score in await redis.zrange(key, 0, -1, withscores=True)) > 1
    assert await redis.ttl(key) > 100
    assert lines(caplog) == []


@pytest.mark.parametrize(("expiry", "seconds"), [(86400, 3600), (9000, 3000), (3, 1)])
async def test_when_it_is_time(core: RedisChannelLayer, expiry: int, seconds: float):
    core.group_expiry = expiry
    found = Shard(core, 0)
    await found.look()
    assert found._renewal == pytest.approx(time.monotonic() + seconds, abs=0.9)


async def test_after_a_flush_they_are_added_again(core: RedisChannelLayer, shard: Shard, caplog):
    await shard.look()
    await core.flush()
    assert await known(core) == set()
    await shard.look()
    assert await known(core) == set(MEMBERS)
    await shard.look()
    assert lines(caplog) == ["WARNING"]
    assert " 3 memberships" in caplog.text


async def test_after_a_start_from_an_old_snapshot_too(core: RedisChannelLayer, shard: Shard):
    redis = core.connection(0)
    await shard.look()
    before = await redis.dump(shard._counter)
    await shard.look()
    await redis.delete(f"{core.prefix}:group:hall")
    await redis.restore(shard._counter, 0, before, replace=True)
    await shard.look()
    assert await known(core) == set(MEMBERS)


async def test_more_than_fit_into_a_pipeline(core: RedisChannelLayer, monkeypatch):
    monkeypatch.setattr(_renewal, "_CHUNK", 20)
    found = Shard(core, 0)
    members = {(f"room.{number % 30}", f"specific.one!{number}") for number in range(50)}
    found.members.update(dict.fromkeys(members))
    await found.look()
    assert await known(core) == members
    found.members.clear()
    found.gone.update(dict.fromkeys(members))
    await found.look()
    assert await known(core) == set()
    assert found.gone == {}


async def test_who_leaves_meanwhile_does_not_come_back(
    core: RedisChannelLayer, shard: Shard, monkeypatch
):
    soon, calls = _renewal._soon, itertools.count(1)

    async def leaving(answer: Awaitable[Any]) -> Any:
        if next(calls) == 3:  # after a count and an expiry: the pipeline that adds
            del shard.members[MEMBERS[2]]
            await core.group_discard(*MEMBERS[2])
        return await soon(answer)

    await shard.look()
    await core.flush()
    monkeypatch.setattr(_renewal, "_soon", leaving)
    await shard.look()
    assert await known(core) == set(MEMBERS[:2])
    assert shard.gone == {}


async def test_an_outage_is_two_lines(start_redis: StartRedis, caplog):
    redis = start_redis()
    core = RedisChannelLayer([{"address": redis.url}])
    shard = Shard(core, 0)
    shard.members[MEMBERS[0]] = None
    await shard.look()
    redis.kill()
    for _ in range(3):
        await shard.look()
    assert (shard.is_away, shard.is_back.is_set()) == (True, False)
    assert lines(caplog) == ["ERROR"]
    assert str(redis.port) in caplog.text or "Connection closed" in caplog.text
    assert "Traceback" not in caplog.text
    start_redis(port=redis.port)
    await shard.look()
    assert (shard.is_away, shard.is_back.is_set()) == (False, True)
    assert await known(core) == {MEMBERS[0]}
    assert lines(caplog) == ["ERROR", "WARNING"]
    await core.close_pools()


async def test_a_silent_redis_is_not_waited_for(start_redis: StartRedis, monkeypatch, caplog):
    monkeypatch.setattr(_renewal, "_PATIENCE", 0.1)
    redis = start_redis()
    core = RedisChannelLayer([{"address": redis.url, "socket_timeout": None}])
    shard = Shard(core, 0)
    with suspended(redis):
        async with asyncio.timeout(5):
            await shard.look()
    assert shard.is_away
    assert "TimeoutError" in caplog.text
    monkeypatch.setattr(_renewal, "_PATIENCE", 5.0)
    await shard.look()
    assert not shard.is_away
    await core.close_pools()


async def test_after_a_failure_all_are_added(core: RedisChannelLayer, shard: Shard, caplog):
    """Redis may have been replaced by one that was behind, which no count would tell."""
    await shard.look()
    await core.connection(0).delete(f"{core.prefix}:group:hall")
    shard.fail(RedisConnectionError("reset"))
    await shard.look()
    assert await known(core) == set(MEMBERS)
    assert lines(caplog) == ["ERROR", "WARNING"]


async def test_after_a_failure_no_old_connection_is_used(core: RedisChannelLayer, shard: Shard):
    redis = core.connection(0)
    await asyncio.gather(*(redis.ping() for _ in range(10)))
    idle = redis.connection_pool._available_connections
    assert sum(connection.is_connected for connection in idle) > 5
    shard.fail(RedisConnectionError("reset"))
    await shard.look()
    assert sum(connection.is_connected for connection in idle) == 1


async def test_what_is_not_of_redis_has_its_traceback(
    core: RedisChannelLayer, shard: Shard, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(core, "connection", lambda index: index / 0)
    await shard.look()
    await shard.look()
    monkeypatch.undo()
    assert lines(caplog) == ["ERROR"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RedisConnectionError("x"), True),
        (ResponseError("READONLY"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ValueError("x"), False),
        (AssertionError(), False),
    ],
)
def test_trouble(error: Exception, expected: bool):
    assert is_trouble(error) is expected
