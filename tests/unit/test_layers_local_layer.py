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

from panther_channels.connections import group_name, new_connection_id
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.local import layer as module
from panther_channels.layers.local.frames import Kind, encode, pack
from tests.unit.listener import Listener, named
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
    await until(lambda: not layer._nodes().channels.members("g"))
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
    assert len(layer._nodes._found) == 0


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
            assert len(layer._nodes._found) == 0

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


# To one connection


async def test_a_send_to_a_connection_is_one_write(layer, other):
    """Of sixteen processes, fifteen aren't even connected to."""
    listeners = [Listener(layer._directory, str(number)) for number in range(16)]
    group = group_name(f"{named('7')}{'f' * 24}")
    message = {"text": "x"}
    for _ in range(3):
        await layer.group_send(group, message)
    await layer.send(f"specific.{named('7')}!x", message)
    sent = encode(Kind.GROUP_SEND, group, pack(message))
    there = listeners.pop(7)
    assert there.read() == sent * 3 + encode(Kind.SEND, f"specific.{named('7')}!x", pack(message))
    for listener in listeners:
        with pytest.raises(BlockingIOError):
            listener.accept()
    for listener in [there, *listeners]:
        listener.close()


async def test_a_send_to_a_known_node_needs_no_look(layer, other, folder):
    channel = await layer.new_channel()
    group = group_name(new_connection_id(layer))
    await layer.group_add(group, channel)
    await other.group_send(group, {"n": 1})
    moved = folder.rename(f"{folder}-moved")
    await other.group_send(group, {"n": 2})
    moved.rename(folder)
    assert [await next_of(layer, channel) for _ in range(2)] == [{"n": 1}, {"n": 2}]


async def test_what_is_for_a_connection_here_goes_nowhere_else(layer, directory):
    channel = await layer.new_channel()
    group = group_name(new_connection_id(layer))
    assert layer.node() == channel[9:17]
    await layer.group_add(group, channel)
    there = Listener(directory, "there")
    await layer.group_send(group, {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}
    with pytest.raises(BlockingIOError):
        there.accept()
    there.close()


async def test_a_node_that_is_gone(layer, folder):
    group = group_name(f"{named('a')}{'f' * 24}")
    await layer.group_send(group, {})  # never there
    killed = Listener(layer._directory, "a")
    killed.close()
    for _ in range(2):
        await layer.group_send(group, {})
        assert sockets(folder) == []
    again = Listener(layer._directory, "a")  # who had been connected, and came back
    await layer.group_send(group, {})
    again.accept()
    again.close()
    await layer.group_send(group, {})
    assert sockets(folder) == []


async def test_the_group_of_a_connection_elsewhere(layer, other):
    channel = await layer.new_channel()
    for add in (layer.group_add, other.group_add):
        with pytest.raises(ValueError, match="give a group of your own another name"):
            await add(group_name("f" * 32), channel)
    group = group_name(new_connection_id(layer))
    await other.group_add(group, channel)
    await other.group_send(group, {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}


async def test_who_is_there(layer, other, folder):
    assert await layer.nodes("g") == (frozenset(), None)
    here, there = layer.node(), other.node()
    assert await layer.nodes("g") == await other.nodes("g") == ({here, there}, None)
    assert await layer.nodes(group_name(new_connection_id(other))) == ({there}, None)


async def test_a_name_that_is_taken(layer, directory, monkeypatch):
    names = [named("new"), named("taken"), named("taken")]
    monkeypatch.setattr("secrets.token_hex", lambda _size: names.pop())
    taken = Listener(directory, "taken")
    assert layer.node() == named("new")
    taken.close()


async def test_a_released_channel_is_forgotten(layer):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send(channel, {})
    await layer.release(channel)
    await layer.release(channel)
    assert (layer._nodes().channels._mailboxes, layer._nodes().channels._groups) == ({}, {})
