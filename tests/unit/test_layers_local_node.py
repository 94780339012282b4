import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.local import node as module
from panther_channels.layers.local.frames import Kind, encode, pack
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
    monkeypatch.setattr(module, "_LOOK_AFTER", 0.01)
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
    monkeypatch.setattr(module, "_ACCEPT_AGAIN", 0.01)
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
