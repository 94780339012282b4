"""The specification of channel layers, asked of every layer that our users may choose.

A test that takes `layer` or `make_layer` runs once for each layer. What a layer is known to do
otherwise stands in DEVIATIONS; when it no longer does, its entry fails.
"""

import asyncio
import functools
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer

from panther_channels.layers import LocalChannelLayer
from tests.conftest import GetRedis
from tests.layers import member, redis_layer

MakeLayer = Callable[..., Any]
Receive = Callable[[Any, str], Coroutine[Any, Any, Any]]

EXPIRY = 1  # the shortest that core can: Redis gets it in whole seconds


def _over_redis(kind: str) -> Callable[[GetRedis, str], MakeLayer]:
    def start(get_redis: GetRedis, _folder: str) -> MakeLayer:
        url, prefix = get_redis().url, uuid.uuid4().hex
        return functools.partial(redis_layer, kind, url, prefix=prefix)

    return start


#: Each gives a function that makes layers, all of which reach each other, as in several processes.
#: Those of Channels and channels_redis are controls: what they do, too, is the specification.
LAYERS: dict[str, Callable[[GetRedis, str], MakeLayer]] = {
    "memory": lambda _get_redis, _folder: InMemoryChannelLayer,
    "local": lambda _get_redis, folder: functools.partial(LocalChannelLayer, directory=folder),
    "core": _over_redis("core"),
    "redis": _over_redis("redis"),
}


@dataclass(frozen=True)
class Deviation:
    """How a test fails on a layer, and why.

    `sometimes` where that is a matter of luck; not `run` where it would break the test's own loop.
    """

    raises: type[BaseException] | tuple[type[BaseException], ...]
    reason: str
    sometimes: bool = False
    run: bool = True


_NO_RAISE = pytest.fail.Exception  # "DID NOT RAISE"
_MEMORY_ALONE = Deviation(TimeoutError, "an in-memory layer reaches nothing but itself")
_REDIS_BOUNDLESS = Deviation(_NO_RAISE, "the queues of Redis pub/sub have no capacity")
_REDIS_TIMELESS = Deviation(AssertionError, "the messages of Redis pub/sub don't expire")
_REDIS_CANCELLED = "a channel whose receive() was cancelled is forgotten"

_LOCAL_OWN = "the local layer has no channels that processes share"

DEVIATIONS: dict[tuple[str, str], Deviation] = {
    ("memory", "test_another_layer_sends"): _MEMORY_ALONE,
    ("memory", "test_another_layer_sends_to_a_group"): _MEMORY_ALONE,
    ("memory", "test_capacity_by_pattern"): Deviation(
        ValueError, "channel_capacity isn't compiled to patterns, and can't be read"
    ),
    ("memory", "test_an_expired_message_ends_no_membership"): Deviation(
        TimeoutError, "a channel with an expired message leaves all its groups"
    ),
    ("memory", "test_an_event_loop_in_another_thread"): Deviation(
        RuntimeError, "the queues belong to one event loop", run=False
    ),
    ("local", "test_a_normal_channel"): Deviation(ValueError, _LOCAL_OWN, run=False),
    ("local", "test_a_normal_channel_in_a_group"): Deviation(ValueError, _LOCAL_OWN),
    ("core", "test_a_full_channel_takes_nothing_from_others"): Deviation(
        TimeoutError, "all channels of a process share one capacity"
    ),
    ("core", "test_a_message_belongs_to_its_receiver"): Deviation(
        AssertionError, "members in one process get one and the same dict"
    ),
    ("core", "test_a_message_is_a_dict"): Deviation(
        AttributeError, "group_send() doesn't look at the message before it needs it"
    ),
    ("core", "test_event_loops_in_two_threads"): Deviation(
        RuntimeError, "two event loops may not receive at once", run=False
    ),
    ("core", "test_cancelling_while_a_message_comes"): Deviation(
        TimeoutError, "Redis may have popped the message for who is cancelled", sometimes=True
    ),
    ("redis", "test_a_normal_channel_in_a_group"): Deviation(
        ValueError, "a group holds channels of this process alone"
    ),
    ("redis", "test_full"): _REDIS_BOUNDLESS,
    ("redis", "test_capacity_by_pattern"): _REDIS_BOUNDLESS,
    ("redis", "test_expiry"): _REDIS_TIMELESS,
    ("redis", "test_an_expired_message_ends_no_membership"): _REDIS_TIMELESS,
    ("redis", "test_cancelling_before_a_message"): Deviation(TimeoutError, _REDIS_CANCELLED),
    ("redis", "test_cancelling_while_a_message_comes"): Deviation(
        TimeoutError, _REDIS_CANCELLED, sometimes=True
    ),
}


def test_deviations_name_what_is_there():
    for name, test in DEVIATIONS:
        assert name in LAYERS
        assert test in globals()


@pytest.fixture(params=LAYERS)
def deviation(request: pytest.FixtureRequest) -> Deviation | None:
    """What this test is known to find on this layer; it has to find it."""
    found = DEVIATIONS.get((request.param, request.node.originalname))
    if found is not None:
        mark = pytest.mark.xfail(
            raises=found.raises, reason=found.reason, strict=not found.sometimes, run=found.run
        )
        request.applymarker(mark)
    return found


@pytest.fixture
def receive(deviation: Deviation | None) -> Receive:
    """`layer.receive(channel)` that doesn't wait for ever, nor long for what won't come."""
    seconds = 10.0 if deviation is None else 0.5

    async def call(layer: Any, channel: str) -> Any:
        return await asyncio.wait_for(layer.receive(channel), seconds)

    return call


@pytest.fixture
def make_layer(
    request: pytest.FixtureRequest, deviation: Deviation | None, get_redis: GetRedis, folder: Path
) -> MakeLayer:
    """Makes layers that reach each other: `make_layer(expiry=60, capacity=100, ...)`."""
    return LAYERS[request.node.callspec.params["deviation"]](get_redis, str(folder))


@pytest.fixture
def layer(make_layer: MakeLayer) -> Any:
    return make_layer()


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"type": "number", "number": number} for number in range(count)]


LAST = {"type": "last"}


async def is_in_order(layer: Any, channel: str, sender: Any, receive: Receive, count: int) -> None:
    for message in numbered(count):
        await sender.send(channel, message)
    assert [await receive(layer, channel) for _ in range(count)] == numbered(count)


# Channels


async def test_it_names_its_extensions(layer: Any):
    assert {"groups", "flush"} <= set(layer.extensions)


async def test_names_of_new_channels(layer: Any):
    names = [await layer.new_channel() for _ in range(50)]
    names.append(await layer.new_channel("mine."))
    assert len(set(names)) == 51
    for name in names:
        assert len(name) < 100
        assert InMemoryChannelLayer().require_valid_channel_name(name)
        assert "!" in name, "it is the channel of a process"
    assert names[-1].startswith("mine.")


async def test_messages_keep_their_order(layer: Any, receive: Receive):
    channel = await layer.new_channel()
    await is_in_order(layer, channel, layer, receive, 50)


async def test_another_layer_sends(make_layer: MakeLayer, receive: Receive):
    here, there = make_layer(), make_layer()
    await is_in_order(here, await here.new_channel(), there, receive, 50)


# Normal channels, from which whoever comes first takes a message


async def _shared_out(send: Any, receivers: list[Any], receive: Receive) -> list[int]:
    """Sends four messages to "tasks", and returns the numbers of all that receivers got."""
    got: list[int] = []

    async def take(layer: Any) -> None:
        while (message := await receive(layer, "tasks"))["type"] != "last":
            got.append(message["number"])

    taking = asyncio.gather(*[take(layer) for layer in receivers])
    # Nobody says when a receiver is there; a first message that has arrived does.
    while not got and not taking.done():
        await send("tasks", {"type": "number", "number": -1})
        await asyncio.sleep(0.01)
    for message in numbered(4):
        await send("tasks", message)
    for _ in receivers:
        await send("tasks", LAST)
    await taking
    return sorted(number for number in got if number >= 0)


async def test_a_normal_channel(layer: Any, receive: Receive):
    assert await _shared_out(layer.send, [layer, layer], receive) == [0, 1, 2, 3]


async def test_a_normal_channel_in_a_group(layer: Any, receive: Receive):
    await layer.group_add("workers", "tasks")
    await layer.group_send("workers", LAST)
    assert await receive(layer, "tasks") == LAST


# Capacity


async def test_full(make_layer: MakeLayer, receive: Receive):
    layer = make_layer(capacity=3)
    channel = await layer.new_channel()
    for message in numbered(3):
        await layer.send(channel, message)
    with pytest.raises(ChannelFull):
        await layer.send(channel, LAST)
    assert [await receive(layer, channel) for _ in range(3)] == numbered(3)
    await layer.send(channel, LAST)
    assert await receive(layer, channel) == LAST


async def test_capacity_by_pattern(make_layer: MakeLayer, receive: Receive):
    layer = make_layer(capacity=5, channel_capacity={"small.*": 2, "smaller*": 1})
    for prefix, capacity in (("small.one", 2), ("smaller", 1), ("other", 5)):
        channel = await layer.new_channel(prefix)
        for message in numbered(capacity):
            await layer.send(channel, message)
        with pytest.raises(ChannelFull):
            await layer.send(channel, LAST)
        for message in numbered(capacity):
            assert await receive(layer, channel) == message


async def test_a_group_is_never_full(make_layer: MakeLayer, receive: Receive):
    layer = make_layer(capacity=3)
    channel = await member(layer, "one")
    for message in numbered(10):
        await layer.group_send("one", message)
    assert [await receive(layer, channel) for _ in range(3)] == numbered(3)


async def test_a_full_channel_takes_nothing_from_others(make_layer: MakeLayer, receive: Receive):
    layer = make_layer(capacity=3)
    _full, other = await member(layer, "full", "both"), await member(layer, "both")
    for message in numbered(5):
        await layer.group_send("full", message)
    await layer.group_send("both", LAST)
    assert await receive(layer, other) == LAST


# Groups


async def test_a_group(layer: Any, receive: Receive):
    channels = [await member(layer, *groups) for groups in (["both"], ["both"], [])]
    for message in numbered(3):
        await layer.group_send("both", message)
    await layer.send(channels[2], LAST)
    for channel in channels[:2]:
        assert [await receive(layer, channel) for _ in range(3)] == numbered(3)
    assert await receive(layer, channels[2]) == LAST


async def test_another_layer_sends_to_a_group(make_layer: MakeLayer, receive: Receive):
    sender, *members = make_layer(), make_layer(), make_layer()
    channels = [await member(layer, "both") for layer in members]
    for message in numbered(3):
        await sender.group_send("both", message)
    for layer, channel in zip(members, channels, strict=True):
        assert [await receive(layer, channel) for _ in range(3)] == numbered(3)


async def test_a_member_twice_gets_a_message_once(layer: Any, receive: Receive):
    channel = await member(layer, "one", "one")
    await layer.group_send("one", {"type": "first"})
    await layer.group_send("one", LAST)
    assert [await receive(layer, channel) for _ in range(2)] == [{"type": "first"}, LAST]


async def test_who_left_gets_nothing(layer: Any, receive: Receive):
    gone, here = [await member(layer, "both") for _ in range(2)]
    await layer.group_discard("both", gone)
    await layer.group_send("both", {"type": "lost"})
    await layer.send(gone, LAST)
    assert await receive(layer, here) == {"type": "lost"}
    assert await receive(layer, gone) == LAST
    await layer.group_add("both", gone)
    await layer.group_send("both", {"type": "back"})
    assert await receive(layer, gone) == {"type": "back"}


async def test_a_group_of_nobody(layer: Any, receive: Receive):
    channel = await layer.new_channel()
    await layer.group_send("nobody", LAST)
    await layer.group_discard("nobody", channel)
    await layer.group_add("one", channel)
    await layer.group_discard("nobody", channel)
    for _ in range(2):
        await layer.group_discard("one", channel)
    await layer.group_send("one", {"type": "to nobody"})
    await layer.send(channel, LAST)
    assert await receive(layer, channel) == LAST


# Time


async def _expired() -> None:
    await asyncio.sleep(EXPIRY * 1.2)


async def test_expiry(make_layer: MakeLayer, receive: Receive):
    layer = make_layer(expiry=EXPIRY)
    channel = await member(layer, "one")
    await layer.send(channel, {"type": "old"})
    await layer.group_send("one", {"type": "old"})
    await _expired()
    await layer.send(channel, LAST)
    assert await receive(layer, channel) == LAST


async def test_an_expired_message_ends_no_membership(make_layer: MakeLayer, receive: Receive):
    layer = make_layer(expiry=EXPIRY)
    channel = await member(layer, "one")
    await layer.group_send("one", {"type": "old"})
    await _expired()
    await layer.group_send("one", LAST)
    assert await receive(layer, channel) == LAST
    await layer.group_send("one", {"type": "still a member"})
    assert await receive(layer, channel) == {"type": "still a member"}


async def test_flush(layer: Any, receive: Receive):
    channel = await member(layer, "one")
    await layer.group_send("one", {"type": "flushed"})
    await layer.flush()
    await layer.group_send("one", {"type": "to nobody"})
    receiving = asyncio.create_task(receive(layer, channel))
    while not receiving.done():  # a layer may have to make its channel known again
        await layer.send(channel, LAST)
        await asyncio.sleep(0.01)
    assert await receiving == LAST


# What may be said


@pytest.mark.parametrize("name", ["", "with space", "ü", "a/b", "x" * 100, None, 5, b"bytes"])
async def test_invalid_channel_names(layer: Any, receive: Receive, name: Any):
    calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: layer.send(name, LAST),
        lambda: layer.receive(name),
        lambda: layer.group_add("one", name),
        lambda: layer.group_discard("one", name),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            await asyncio.wait_for(call(), 10)


@pytest.mark.parametrize("name", ["", "with space", "ü", "a!b", "x" * 100, None, 5, b"bytes"])
async def test_invalid_group_names(layer: Any, name: Any):
    channel = await layer.new_channel()
    for call in (layer.group_add, layer.group_discard):
        with pytest.raises(TypeError):
            await call(name, channel)
    with pytest.raises(TypeError):
        await layer.group_send(name, LAST)


async def test_a_message_is_a_dict(layer: Any):
    channel = await member(layer, "one")
    for message in ("text", None, [1]):
        with pytest.raises((AssertionError, TypeError)):
            await layer.send(channel, message)
        with pytest.raises((AssertionError, TypeError)):
            await layer.group_send("one", message)


EVERY_KIND: dict[str, Any] = {
    "type": "every.kind",
    "none": None,
    "true": True,
    "false": False,
    "integers": [0, -1, 127, 128, 65_536, 2**31, 2**32, 2**63 - 1, -(2**63), 2**64 - 1],
    "floats": [0.0, 1.5, -1e300, 5e-324, float("inf")],
    "strings": ["", "é", "\U0001f43e", "\x00", "x" * 70_000],
    "bytes": [b"", b"\x00\xff", b"x" * 70_000],
    "nested": {"": {"a": [{"b": [[], {}]}]}},
    "é": 1,
}


async def test_every_kind_of_value(layer: Any, receive: Receive):
    channel = await member(layer, "one")
    await layer.send(channel, EVERY_KIND)
    await layer.group_send("one", EVERY_KIND)
    for _ in range(2):
        message = await receive(layer, channel)
        assert message == EVERY_KIND
        assert repr(message) == repr(EVERY_KIND), "True is not 1, and bytes are no str"


async def test_a_message_belongs_to_its_receiver(layer: Any, receive: Receive):
    channels = [await member(layer, "both") for _ in range(2)]
    message: dict[str, Any] = {"type": "mine", "list": [1]}
    await layer.group_send("both", message)
    await layer.send(channels[0], message)
    assert message == {"type": "mine", "list": [1]}
    message["list"].append(2)
    for channel in (*channels, channels[0]):
        copy = await receive(layer, channel)
        assert copy == {"type": "mine", "list": [1]}
        copy["list"].append(3)


# Cancellation and event loops


async def _stop(task: "asyncio.Task[Any]") -> Any:
    """Cancels the task; returns what it has got all the same."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        return await task


async def test_cancelling_before_a_message(layer: Any, receive: Receive):
    channel = await layer.new_channel()
    for turns, message in enumerate(numbered(6)):
        receiving = asyncio.create_task(layer.receive(channel))
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await _stop(receiving) is None
        await layer.send(channel, message)
        assert await receive(layer, channel) == message


async def test_cancelling_while_a_message_comes(layer: Any, receive: Receive):
    channel = await layer.new_channel()
    for turns, message in enumerate(numbered(20)):
        receiving = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0)
        await layer.send(channel, message)
        for _ in range(turns):
            await asyncio.sleep(0)
        got = await _stop(receiving)
        assert (got or await receive(layer, channel)) == message


async def _once(layer: Any, receive: Receive) -> None:
    channel = await member(layer, "one")
    await layer.group_send("one", {"type": "first"})
    await layer.send(channel, LAST)
    assert [await receive(layer, channel) for _ in range(2)] == [{"type": "first"}, LAST]
    await layer.group_discard("one", channel)


def test_one_event_loop_after_another(layer: Any, receive: Receive):
    for _ in range(3):
        asyncio.run(_once(layer, receive))


async def _send_often(layer: Any, channel: str) -> None:
    for message in numbered(20):
        await layer.send(channel, message)
    await layer.group_send("one", LAST)


async def test_an_event_loop_in_another_thread(layer: Any, receive: Receive):
    # Tells of a call that isn't made for another thread, where that goes well by chance.
    asyncio.get_running_loop().set_debug(True)
    channel = await member(layer, "one")
    receiving = asyncio.create_task(receive(layer, channel))
    await asyncio.sleep(0)
    await asyncio.to_thread(asyncio.run, _send_often(layer, channel))
    messages = [await receiving, *[await receive(layer, channel) for _ in range(20)]]
    assert messages == [*numbered(20), LAST]


def test_event_loops_in_two_threads(layer: Any, receive: Receive):
    barrier = threading.Barrier(2, timeout=10)

    async def here(number: int) -> None:
        group = f"group.{number}"
        channel = await member(layer, group)
        barrier.wait()
        for message in numbered(20):
            await layer.group_send(group, message)
        for message in numbered(20):
            assert await receive(layer, channel) == message

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: asyncio.run(here(number)), range(2)))
