import asyncio
import gc
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer

from panther_channels.layers import LocalChannelLayer
from panther_channels.layers import local as module
from tests.waiting import until


@pytest.fixture
def layer(folder: Path) -> LocalChannelLayer:
    return LocalChannelLayer(directory=folder)


@pytest.fixture
def other(folder: Path) -> LocalChannelLayer:
    """What another process would have."""
    return LocalChannelLayer(directory=folder)


async def next_of(layer: LocalChannelLayer, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), 5)


def sockets(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if not file.name.startswith(".")]


def test_as_a_setting(settings, folder):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "panther_channels.layers.LocalChannelLayer",
            "CONFIG": {"directory": folder, "capacity": 5, "channel_capacity": {"big*": 7}},
        }
    }
    layer = get_channel_layer()
    assert (layer.get_capacity("c"), layer.get_capacity("bigger")) == (5, 7)
    assert sockets(folder) == []


async def test_from_here_to_there(layer, other):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    for number in range(3):
        await other.group_send("g", {"n": number})
    await other.send(channel, {"n": 3})
    assert [(await next_of(layer, channel))["n"] for _ in range(4)] == [0, 1, 2, 3]
    await layer.group_discard("g", channel)
    await other.group_send("g", {"n": 4})
    await other.send(channel, {"n": 5})
    assert await next_of(layer, channel) == {"n": 5}


async def test_a_channel_of_another_process_in_a_group(layer, other):
    channel = await layer.new_channel("chat")
    assert channel.startswith("chat.")
    await other.group_add("g", channel)
    await other.group_send("g", {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}
    await other.group_discard("g", channel)
    await other.group_send("g", {"n": 2})
    await other.send(channel, {"n": 3})
    assert await next_of(layer, channel) == {"n": 3}
    with pytest.raises(ValueError, match="belongs to another process"):
        await other.receive(channel)


async def test_who_only_sends_does_not_listen(layer, other, folder):
    await other.group_send("g", {})
    await other.send("specific.gone!x", {})
    assert sockets(folder) == []
    await layer.group_add("g", await layer.new_channel())
    assert len(sockets(folder)) == 1


async def test_over_capacity_here(folder):
    layer = LocalChannelLayer(directory=folder, capacity=2)
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    for number in range(2):
        await layer.send(channel, {"n": number})
    with pytest.raises(ChannelFull):
        await layer.send(channel, {"n": 2})
    await layer.group_send("g", {"n": 2})
    assert layer.losses.count == 1


async def test_a_burst_from_the_same_event_loop_is_not_lost(layer):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    found: list[int] = []

    async def receive() -> None:
        while len(found) < 30_000:
            found.append((await layer.receive(channel))["n"])

    receiving = asyncio.ensure_future(receive())
    for number in range(30_000):
        await layer.group_send("g", {"n": number})
    await asyncio.wait_for(receiving, 10)
    assert found == list(range(30_000))


async def test_members_have_messages_of_their_own(layer):
    channels = [await layer.new_channel() for _ in range(2)]
    for channel in channels:
        await layer.group_add("g", channel)
    message = {"list": [1]}
    await layer.group_send("g", message)
    first, second = [await next_of(layer, channel) for channel in channels]
    first["list"].append(2)
    assert (second, message) == ({"list": [1]}, {"list": [1]})


async def test_flush_everywhere(layer, other):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send(channel, {})
    await other.flush()
    # The others hear of it a moment later.
    await until(lambda: not layer._node().channels.members("g"))
    await other.group_send("g", {"n": 1})
    await other.send(channel, {"n": 2})
    assert await next_of(layer, channel) == {"n": 2}


async def test_channels_that_all_processes_share(layer, folder):
    """A message in them would have to lie in a file, which others may read."""
    for call in (
        layer.send("tasks", {}),
        layer.receive("tasks"),
        layer.group_add("g", "tasks"),
        layer.group_discard("g", "tasks"),
    ):
        with pytest.raises(ValueError, match=r"'tasks'.*runworker.*channels_redis\.core"):
            await call
    await layer.new_channel()
    assert [stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("name", ["", "a b", "x" * 100, 5, None])
async def test_bad_names(layer, name):
    for call in (
        layer.send(name, {}),
        layer.receive(name if isinstance(name, str) else "a b"),
        layer.group_send(name, {}),
        layer.group_add(name, "c"),
        layer.group_add("g", name),
        layer.group_discard(name, "c"),
    ):
        with pytest.raises(TypeError):
            await call


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closing_an_event_loop_leaves_nothing(layer, folder, new_loop):
    async def use() -> str:
        channel: str = await layer.new_channel()
        await layer.group_add("g", channel)
        await layer.group_send("g", {})
        assert len(sockets(folder)) == 1
        return channel

    names = set()
    for _ in range(3):
        loop = new_loop()
        names.add(loop.run_until_complete(use()))
        loop.close()
        assert sockets(folder) == []
    assert len(names) == 3
    del loop
    gc.collect()
    assert len(layer._nodes) == 0


async def test_an_event_loop_in_another_thread(layer, folder):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)

    async def talk() -> Any:
        there = await layer.new_channel()
        await layer.group_add("there", there)
        await layer.group_send("g", {"reply": "there"})
        return await next_of(layer, there)

    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(talk())))
    thread.start()
    assert (await next_of(layer, channel)) == {"reply": "there"}
    await layer.group_send("there", {"n": 1})
    await asyncio.to_thread(thread.join)
    assert answers == [{"n": 1}]
    assert len(sockets(folder)) == 1


async def test_a_fork(layer, other, folder):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await other.group_send("g", {"n": 1})
    child = os.fork()
    if child == 0:  # the child of a running event loop can only start another thread
        code = 1

        async def send() -> None:
            await other.group_send("g", {"n": 2})
            assert len(layer._nodes) == 0

        def run() -> None:
            nonlocal code
            asyncio.run(send())
            code = 0

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert status == 0
    await other.group_send("g", {"n": 3})
    found = [(await next_of(layer, channel))["n"] for _ in range(3)]
    assert sorted(found) == [1, 2, 3]  # of two senders each has its own order
    assert len(sockets(folder)) == 1


async def test_at_exit(layer, folder):
    await layer.group_add("g", await layer.new_channel())
    module._for_all(LocalChannelLayer._exit)
    assert sockets(folder) == []


async def test_a_bound_channel(layer, other):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    overflow = asyncio.Event()
    layer.bound_channel(channel, 1000, overflow.set)
    await layer.group_send("g", {"text": "x" * 2000})
    assert await next_of(layer, channel) == {"text": "x" * 2000}
    for _ in range(2):
        await other.group_send("g", {"text": "x" * 600})
    await asyncio.wait_for(overflow.wait(), 10)
    await layer.group_discard("g", channel)


async def test_large_messages_from_the_same_event_loop_are_no_overflow(layer):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    layer.bound_channel(channel, 1024 * 1024, lambda: pytest.fail("overflow"))

    async def receive() -> None:
        for _ in range(100):
            await layer.receive(channel)

    receiving = asyncio.ensure_future(receive())
    for _ in range(100):
        await layer.group_send("g", {"text": "x" * 50_000})
    await asyncio.wait_for(receiving, 10)
    await layer.group_discard("g", channel)
