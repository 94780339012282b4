import asyncio
import gc
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from panther_channels._hub.addresses import new_connection_id
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.backplane import group_of_connection
from panther_channels.layers.local import node as _node
from panther_channels.layers.local.frames import Kind, encode, pack
from tests.unit.listener import Listener, named
from tests.waiting import until

Listen = Callable[[str], Listener]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what the tests send."""
    monkeypatch.setattr(LocalChannelLayer, "on_listening", None)


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


def test_nothing_is_left_to_the_exit_before_there_is_a_layer(folder):
    code = f"""
import asyncio, atexit, os
from panther_channels.layers import LocalChannelLayer

before = atexit._ncallbacks()
layers = [LocalChannelLayer({str(folder)!r}) for _ in range(2)]
assert atexit._ncallbacks() == before + 1
loop = asyncio.new_event_loop()  # as daphne's, which is never closed
loop.run_until_complete(layers[0].new_channel())
assert os.listdir({str(folder)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sockets(folder) == []


@pytest.mark.parametrize("is_blocked", [False, True])
def test_the_exit_closes_what_a_loop_in_a_thread_has_in_that_thread(folder, is_blocked):
    """Two threads would close the same sockets at once."""
    code = f"""
import asyncio, threading, time
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.local.node import Node

close = Node.close
Node.close = lambda *args: print(threading.current_thread().name) or close(*args)
layer = LocalChannelLayer({str(folder)!r})
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, name="its own", daemon=True).start()
asyncio.run_coroutine_threadsafe(layer.new_channel(), loop).result()
if {is_blocked}:
    loop.call_soon_threadsafe(time.sleep, 60)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=20
    )
    assert (done.stdout, done.stderr) == ("" if is_blocked else "its own\n", "")
    assert bool(sockets(folder)) == is_blocked


# From one process to another


async def test_from_here_to_there(layer, other):
    channel = await layer.new_channel("chat")
    assert channel == f"chat.{layer.node()}!{channel[-24:]}"
    await layer.group_add("g", channel)
    for number in range(3):
        await other.group_send("g", {"n": number})
    await other.send(channel, {"n": 3})
    assert [(await next_of(layer, channel))["n"] for _ in range(4)] == [0, 1, 2, 3]
    await layer.group_discard("g", channel)
    await other.group_send("g", {"n": 4})
    await other.group_add("g", channel)  # of another process
    await other.group_send("g", {"n": 5})
    await other.group_discard("g", channel)
    await other.group_send("g", {"n": 6})
    await other.send(channel, {"n": 7})
    assert [(await next_of(layer, channel))["n"] for _ in range(2)] == [5, 7]
    with pytest.raises(ValueError, match="belongs to another process"):
        await other.receive(channel)


async def test_who_only_sends_does_not_listen(layer, other, folder):
    await other.group_send("g", {})
    await other.send("specific.gone!x", {})
    assert sockets(folder) == []
    await layer.group_add("g", await layer.new_channel())
    assert len(sockets(folder)) == 1


async def test_flush_everywhere(layer, other):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await layer.send(channel, {"n": 1})
    await other.flush()
    # The others hear of it a moment later.
    await until(lambda: not layer._nodes().channels.members("g"))
    await other.send(channel, {"n": 2})
    assert await next_of(layer, channel) == {"n": 2}


# To one connection


async def test_a_send_to_a_connection_is_one_write(layer, listen: Listen):
    """Of sixteen processes, fifteen aren't even connected to."""
    others = [listen(str(number)) for number in range(16)]
    there = others.pop(7)
    group, channel = group_of_connection(f"{named('7')}{'f' * 24}"), f"specific.{named('7')}!x"
    for _ in range(3):
        await layer.group_send(group, {"text": "x"})
    await layer.send(channel, {"text": "x"})
    payload = pack({"text": "x"})
    sent = encode(Kind.GROUP_SEND, group, payload) * 3 + encode(Kind.SEND, channel, payload)
    assert there.read() == sent
    for listener in others:
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_a_send_to_a_known_node_needs_no_look(layer, other, folder):
    channel = await layer.new_channel()
    group = group_of_connection(new_connection_id(layer))
    await layer.group_add(group, channel)
    await other.group_send(group, {"n": 1})
    moved = folder.rename(f"{folder}-moved")
    await other.group_send(group, {"n": 2})
    moved.rename(folder)
    assert [await next_of(layer, channel) for _ in range(2)] == [{"n": 1}, {"n": 2}]


async def test_what_is_for_a_connection_here_goes_nowhere_else(layer, listen: Listen):
    channel = await layer.new_channel()
    group = group_of_connection(new_connection_id(layer))
    await layer.group_add(group, channel)
    there = listen("there")
    await layer.group_send(group, {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}
    with pytest.raises(BlockingIOError):
        there.accept()


async def test_a_node_that_is_gone(layer, folder, listen: Listen):
    group = group_of_connection(f"{named('a')}{'f' * 24}")
    await layer.group_send(group, {})  # it was never there
    listen("a").close()  # as one that was killed
    for _ in range(2):
        await layer.group_send(group, {})
        assert sockets(folder) == []
    again = listen("a")
    await layer.group_send(group, {})
    again.accept()
    again.close()
    await layer.group_send(group, {})
    assert sockets(folder) == []


async def test_the_group_of_a_connection_elsewhere(layer, other):
    channel = await layer.new_channel()
    for add in (layer.group_add, other.group_add):
        with pytest.raises(ValueError, match="give a group of your own another name"):
            await add(group_of_connection("f" * 32), channel)
    group = group_of_connection(new_connection_id(layer))
    await other.group_add(group, channel)
    await other.group_send(group, {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}


async def test_who_is_there(layer, other):
    assert await layer.nodes("g") == (frozenset(), None)
    here, there = layer.node(), other.node()
    assert await layer.nodes("g") == await other.nodes("g") == ({here, there}, None)
    assert await layer.nodes(group_of_connection(new_connection_id(other))) == ({there}, None)


async def test_a_name_that_is_taken(layer, listen: Listen, monkeypatch):
    listen("taken")
    names = [named("new"), named("taken"), named("taken")]
    monkeypatch.setattr("secrets.token_hex", lambda _size: names.pop())
    assert layer.node() == named("new")


# Bursts


@pytest.mark.parametrize(("count", "size"), [(30_000, 1), (100, 50_000)])
async def test_a_burst_from_the_same_event_loop_is_not_lost(layer, count, size):
    inbox = await layer.open_channel()
    await inbox.join("g")
    inbox.bound(1024 * 1024, lambda: pytest.fail("overflow"))

    async def receive() -> list[int]:
        return [(await layer.receive(inbox.name))["n"] for _ in range(count)]

    receiving = asyncio.ensure_future(receive())
    for number in range(count):
        await layer.group_send("g", {"n": number, "text": "x" * size})
    assert await asyncio.wait_for(receiving, 10) == list(range(count))


async def test_a_sender_gives_others_their_turn(layer, listen: Listen):
    listen("a")
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    for _ in range(100):
        await layer.group_send("g", {})
    assert turns


# The end


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closing_an_event_loop_leaves_nothing(layer, folder, new_loop):
    async def use() -> str:
        await layer.group_add("g", await layer.new_channel())
        await layer.group_send("g", {})
        assert [stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()] == [0o600]
        client.connect(str(folder / f"panther-{layer.node()}"))
        await asyncio.sleep(0)  # it is accepted
        return str(layer.node())

    names = set()
    for _ in range(3):
        client = socket.socket(socket.AF_UNIX)
        loop = new_loop()
        names.add(loop.run_until_complete(use()))
        loop.close()
        assert sockets(folder) == []
        assert client.recv(1) == b""
        client.close()
    assert len(names) == 3
    del loop
    gc.collect()
    assert len(layer._nodes._found) == 0


async def test_a_fork(layer, other, folder):
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    await other.group_send("g", {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}
    node, peers = layer._nodes(), other._nodes().peers
    inherited = [node._listener, *node._connections, *[p._socket for p in peers._peers.values()]]
    assert len(inherited) == 3
    child = os.fork()
    if child == 0:  # the child of a running event loop can only start another thread
        code = 1

        async def send() -> None:
            await other.group_send("g", {"n": 2})
            assert len(layer._nodes._found) == 0
            assert [each.fileno() for each in inherited] == [-1, -1, -1]

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
    assert sorted([(await next_of(layer, channel))["n"] for _ in range(2)]) == [2, 3]
    assert len(sockets(folder)) == 1


async def test_a_released_channel_is_forgotten(layer):
    inbox = await layer.open_channel()
    await inbox.join("g")
    await inbox.join_as(new_connection_id(layer))
    await layer.send(inbox.name, {})
    for _ in range(2):
        await inbox.release()
    found = layer._nodes().channels
    assert (found._channels, found._groups, found.connections) == ({}, {}, {})


# What becomes of its socket


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 8, encode(Kind.GROUP_ADD, "c", b"\xff"), encode(Kind.FLUSH, "")[:-1]]
)
async def test_garbage_ends_that_connection_alone(layer, folder, garbage, caplog):
    channel = await layer.new_channel()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for client, end in zip(clients, (garbage, b""), strict=True):
        client.connect(str(folder / f"panther-{layer.node()}"))
        client.sendall(encode(Kind.SEND, channel, pack({"n": 1})) + end)
        client.setblocking(False)
        assert await next_of(layer, channel) == {"n": 1}
    if garbage in encode(Kind.FLUSH, ""):  # half a frame may still become one
        clients[0].shutdown(socket.SHUT_WR)
    else:
        assert "can't read" in caplog.text
    assert await asyncio.get_running_loop().sock_recv(clients[0], 1) == b""
    clients[1].sendall(encode(Kind.SEND, channel, pack({"n": 2})))
    assert await next_of(layer, channel) == {"n": 2}
    for client in clients:
        client.close()


async def test_a_socket_that_was_cleaned_away_comes_back(layer, other, folder, monkeypatch):
    monkeypatch.setattr(_node, "_LOOK_AFTER", 0.01)
    channel = await layer.new_channel()
    path = folder / f"panther-{layer.node()}"
    path.unlink()
    folder.rmdir()
    await until(path.exists)
    await other.send(channel, {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}
    folder.chmod(0o777)
    path.unlink()
    await asyncio.sleep(0.05)
    assert not path.exists()
    folder.chmod(0o700)
    await until(path.exists)


async def test_out_of_file_descriptors(layer, other, monkeypatch, caplog):
    monkeypatch.setattr(_node, "_ACCEPT_AGAIN", 0.01)
    accept, failures = socket.socket.accept, [OSError(24, "Too many open files")]

    def fail(self):
        if failures:
            raise failures.pop()
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail)
    channel = await layer.new_channel()
    await other.send(channel, {"n": 1})
    assert await next_of(layer, channel) == {"n": 1}
    assert "can't accept" in caplog.text
