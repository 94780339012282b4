import asyncio
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from panther_channels.layers import mailbox
from panther_channels.layers.backplane import EVERYBODY
from panther_channels.layers.local import channels as module
from panther_channels.layers.local.channels import Channel, Channels
from panther_channels.layers.local.losses import Losses


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for each in (module, mailbox):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=clock))
    return clock


def build(capacity=3, expiry=60.0, group_expiry=86400.0) -> tuple[Channels, Losses]:
    losses = Losses()
    return Channels(lambda _channel: capacity, expiry, group_expiry, losses), losses


def is_empty(channels: Channels) -> bool:
    return not channels._channels and not channels._groups


def names(channels: Iterable[Channel]) -> list[str]:
    return [channel.name for channel in channels]


async def test_over_capacity():
    channels, losses = build(capacity=2)
    assert channels.put(channels.channel("c"), b"1")
    assert channels.put(channels.channel("c"), b"2")
    assert not channels.put(channels.channel("c"), b"3")
    channels.put_or_drop(channels.channel("c"), b"3")
    assert channels.put(channels.channel("other"), b"1")
    assert losses.count == 1
    assert [await channels.receive("c") for _ in range(2)] == [b"1", b"2"]
    assert await channels.receive("other") == b"1"
    assert is_empty(channels)


async def test_what_has_expired_makes_room_and_is_counted(clock):
    channels, losses = build(capacity=1, expiry=10)
    channels.join("g", channels.channel("c"))
    assert channels.put(channels.channel("c"), b"old")
    clock.now += 10
    assert channels.put(channels.channel("c"), b"new")
    assert losses.count == 1
    clock.now += 5
    assert await channels.receive("c") == b"new"
    channels.put(channels.channel("c"), b"old")
    clock.now += 10
    receiving = asyncio.ensure_future(channels.receive("c"))
    await asyncio.sleep(0)
    assert losses.count == 2
    channels.put(channels.channel("c"), b"next")
    assert await receiving == b"next"
    assert names(channels.members("g")) == ["c"]


async def test_waiting_receivers_get_one_each_and_a_cancelled_one_takes_none():
    channels, _ = build()
    first, *others = [asyncio.ensure_future(channels.receive("c")) for _ in range(4)]
    await asyncio.sleep(0)
    channels.put(channels.channel("c"), b"1")
    first.cancel()  # it was woken already
    for payload in (b"2", b"3"):
        channels.put(channels.channel("c"), payload)
    assert await asyncio.gather(*others) == [b"1", b"2", b"3"]
    assert first.cancelled()
    last = asyncio.ensure_future(channels.receive("c"))
    await asyncio.sleep(0)
    last.cancel()
    await asyncio.wait({last})
    assert is_empty(channels)


async def test_the_sweep(clock):
    channels, losses = build(expiry=30, group_expiry=500)
    channels.join("abandoned", channels.channel("a"))
    channels.put(channels.channel("late"), b"1")
    receiving = asyncio.ensure_future(channels.receive("waiting"))
    channels.join("used", channels.channel("waiting"))
    await asyncio.sleep(0)
    clock.now += 60
    channels.put(channels.channel("c"), b"1")
    assert losses.count == 1
    assert sorted(channels._channels) == ["a", "c", "waiting"]
    clock.now += 441
    channels.put(channels.channel("c"), b"2")
    assert names(channels.members("abandoned")) == []
    assert names(channels.members("used")) == ["waiting"]
    assert sorted(channels._channels) == ["c", "waiting"]
    receiving.cancel()


async def test_a_bound_channel_takes_one_message_of_any_size():
    channels, losses = build(capacity=100)
    overflows: list[int] = []
    channels.join("g", channels.channel("c"))
    channels.channel("c").bound(10, lambda: overflows.append(1))
    for payload in (b"x" * 20, b"x" * 10):
        assert channels.put(channels.channel("c"), payload)
        assert await channels.receive("c") == payload  # which doesn't count any more
    for _ in range(5):
        assert channels.put(channels.channel("c"), b"xx")
    assert overflows == []
    for _ in range(5):
        assert channels.put(
            channels.channel("c"), b"xx"
        )  # and dropped, since nobody will receive it
    assert overflows == [1]
    assert len(channels._channels["c"]) < 2
    assert losses.count == 0


async def test_expired_messages_do_not_count(clock):
    channels, _ = build(capacity=100, expiry=10)
    channels.join("g", channels.channel("c"))
    channels.channel("c").bound(15, lambda: pytest.fail("overflow"))
    for _ in range(3):
        for _ in range(2):
            channels.put(channels.channel("c"), b"x" * 5)
        clock.now += 60  # and then there is a sweep


@pytest.mark.parametrize(("size", "some"), [(0, 63), (2048, 31)])
async def test_a_crowd(size: int, some: int):
    channels, _ = build(capacity=1000)
    for _ in range(some + 1):
        assert not channels.channel("c").is_crowded
        channels.put(channels.channel("c"), b"x" * size)
    assert channels.channel("c").is_crowded


async def test_who_waits_or_listens_still_does_after_a_flush():
    channels, _ = build()
    calls: list[int] = []
    channels.channel("d").listen(lambda: calls.append(1))
    receiving = asyncio.ensure_future(channels.receive("c"))
    await asyncio.sleep(0)
    channels.flush()
    await asyncio.sleep(0)
    for channel in ("c", "d"):
        channels.put(channels.channel(channel), b"1")
    assert await receiving == b"1"
    assert calls == [1]


@pytest.mark.parametrize("forget", ["sweep", "flush"])
async def test_what_is_open_stays_though_nobody_uses_it(forget: str, clock):
    channels, _ = build()
    opened = channels.open("c")
    if forget == "sweep":
        clock.now += 60
        channels.put(channels.channel("d"), b"1")
    else:
        channels.flush()
    assert channels.channel("c") is opened
    await opened.release()
    assert "c" not in channels._channels


@pytest.mark.parametrize("take", ["receive", "flush"])
async def test_who_was_woken_in_vain_waits_on(take: str):
    channels, _ = build()
    receiving = asyncio.ensure_future(channels.receive("c"))
    await asyncio.sleep(0)
    channels.put(channels.channel("c"), b"1")
    if take == "receive":
        assert await channels.receive("c") == b"1"
    else:
        channels.flush()
    await asyncio.sleep(0)
    channels.put(channels.channel("c"), b"2")
    async with asyncio.timeout(3):
        assert await receiving == b"2"
    assert is_empty(channels)


async def test_a_connection_that_is_named_again_is_reached_once():
    channels, _ = build()
    opened = channels.open("c")
    for digit in "ab":
        await opened.join_as(digit * 32)
    assert names(channels.members(EVERYBODY)) == ["c"]
    await opened.release()
    assert is_empty(channels)
    assert not channels.connections
