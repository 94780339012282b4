import asyncio
import logging
import socket
from collections.abc import AsyncIterator

import pytest

from panther_channels.layers.local import node as _node
from panther_channels.layers.local.channels import Channels
from panther_channels.layers.local.directory import Directory
from panther_channels.layers.local.frames import Kind, encode
from panther_channels.layers.local.losses import Losses
from panther_channels.layers.local.node import Node
from panther_channels.layers.local.peers import Peers
from tests.waiting import until

NAME, OTHER = "00000001", "00000002"
CHANNEL = f"specific.{NAME}!c"


def build(directory: Directory, name: str) -> Node:
    losses = Losses()
    channels = Channels(lambda _channel: 100, 60, 86400, losses)
    node = Node(directory, channels, Peers(directory, losses))
    node.name = node.peers.own_name = name
    return node


@pytest.fixture
async def node(directory: Directory) -> AsyncIterator[Node]:
    node = build(directory, NAME)
    node.listen()
    node.channels.group_add("g", CHANNEL)
    yield node
    node.close(asyncio.get_running_loop())


def connect(directory: Directory) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(directory.path_of(NAME))
    return client


async def received(node: Node) -> bytes:
    return await asyncio.wait_for(node.channels.receive(CHANNEL), 5)


async def test_what_each_kind_of_frame_does(node, directory):
    with connect(directory) as client:
        client.sendall(encode(Kind.GROUP_SEND, "nobody's", b"0"))
        client.sendall(encode(Kind.GROUP_SEND, "g", b"1"))
        client.sendall(encode(Kind.SEND, CHANNEL, b"2"))
        client.sendall(encode(Kind.GROUP_ADD, CHANNEL, b"h"))
        client.sendall(encode(Kind.GROUP_SEND, "h", b"3"))
        client.sendall(encode(Kind.GROUP_DISCARD, CHANNEL, b"h"))
        client.sendall(encode(Kind.GROUP_SEND, "h", b"4"))
        client.sendall(encode(Kind.SEND, CHANNEL, b"5"))
        assert [await received(node) for _ in range(4)] == [b"1", b"2", b"3", b"5"]
        client.sendall(encode(Kind.FLUSH, ""))
        client.sendall(encode(Kind.SEND, CHANNEL, b"6"))
        assert await received(node) == b"6"
        assert node.channels.members("g") == []


@pytest.mark.parametrize("garbage", [b"\xff" * 8, encode(Kind.GROUP_ADD, "c", b"\xff")])
async def test_garbage_ends_that_connection_alone(node, directory, garbage, caplog):
    with connect(directory) as bad, connect(directory) as good, caplog.at_level(logging.ERROR):
        bad.sendall(encode(Kind.GROUP_SEND, "g", b"1") + garbage)
        assert await received(node) == b"1"
        bad.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(bad, 1) == b""
        good.sendall(encode(Kind.GROUP_SEND, "g", b"2"))
        assert await received(node) == b"2"
    assert "can't read" in caplog.text


async def test_a_half_message_is_none(node, directory):
    with connect(directory) as client:
        client.sendall(encode(Kind.GROUP_SEND, "g", b"1") + encode(Kind.GROUP_SEND, "g", b"2")[:-1])
        assert await received(node) == b"1"
    with connect(directory) as client:
        client.sendall(encode(Kind.GROUP_SEND, "g", b"3"))
        assert await received(node) == b"3"


async def test_closing_leaves_nothing(node, directory, folder):
    with connect(directory) as client:
        client.sendall(encode(Kind.GROUP_SEND, "g", b"1"))
        await received(node)
        node.close(asyncio.get_running_loop())
        client.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    assert list(folder.iterdir()) == []


async def test_a_child_closes_what_it_inherited(node, directory):
    with connect(directory) as client:
        client.sendall(encode(Kind.GROUP_SEND, "g", b"1"))
        await received(node)
        inherited = [node._listener, *node._connections]
        for descriptor in inherited:  # a fork copies them: the event loop keeps watching its own
            asyncio.get_running_loop().remove_reader(descriptor)
        node.abandon()
        assert [descriptor.fileno() for descriptor in inherited] == [-1, -1]
        assert directory.names() == {NAME}
        node._listener = None
        node._connections.clear()


async def test_a_socket_that_was_cleaned_away_comes_back(directory, folder, monkeypatch):
    monkeypatch.setattr(_node, "_LOOK_AFTER", 0.01)
    node = build(directory, NAME)
    node.listen()
    node.channels.group_add("g", CHANNEL)
    directory.remove(NAME)
    folder.rmdir()
    other = build(directory, OTHER)
    await until(lambda: NAME in directory.names())
    await other.group_send("g", b"1")
    assert await received(node) == b"1"
    folder.chmod(0o777)
    directory.remove(NAME)
    await asyncio.sleep(0.05)
    folder.chmod(0o700)
    await until(lambda: NAME in directory.names())
    for each in (node, other):
        each.close(asyncio.get_running_loop())


async def test_out_of_file_descriptors(node, directory, monkeypatch, caplog):
    monkeypatch.setattr(_node, "_ACCEPT_AGAIN", 0.01)
    accept = socket.socket.accept
    failures = [OSError(24, "Too many open files")]

    def fail(self):
        if failures:
            raise failures.pop()
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail)
    with connect(directory) as client, caplog.at_level(logging.ERROR):
        client.sendall(encode(Kind.GROUP_SEND, "g", b"1"))
        assert await received(node) == b"1"
    assert "can't accept" in caplog.text
