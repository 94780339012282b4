import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from panther_channels.layers import _peers
from panther_channels.layers._directory import Directory
from panther_channels.layers._losses import Losses
from panther_channels.layers._peers import Peers

BIG = b"x" * 1_000_000


def named(name: str) -> str:
    """A name that a socket may have."""
    return f"panther-{name.encode().hex():0<12.12}"


@pytest.fixture
def directory(folder: Path) -> Directory:
    return Directory(folder)


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
async def peers(directory: Directory, losses: Losses):
    peers = Peers(directory, named("own"), losses)
    yield peers
    peers.close(asyncio.get_running_loop())


class Listener:
    """A peer that reads when it is told to."""

    def __init__(self, directory: Directory, name: str) -> None:
        self.socket = directory.listen(named(name))
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.connection, _ = self.socket.accept()
        self.connection.setblocking(False)
        return self.connection

    def read(self) -> bytes:
        """What is there now."""
        data = b""
        try:
            connection = self.connection or self.accept()
            while more := connection.recv(1 << 20):
                data += more
        except BlockingIOError:
            pass
        return data

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(10):
            while len(data) < size:
                data += self.read()
                await asyncio.sleep(0)
        return data

    def close(self) -> None:
        self.socket.close()
        if self.connection is not None:
            self.connection.close()


@pytest.fixture
def listen(directory: Directory) -> Iterator[object]:
    listeners = []

    def start(name: str) -> Listener:
        listeners.append(Listener(directory, name))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


async def test_nobody_is_there(peers, directory, folder):
    await peers.broadcast(b"1")
    folder.rmdir()
    await peers.broadcast(b"1")
    await peers.post(named("a"), b"1")
    folder.mkdir(mode=0o700)


async def test_everybody_but_oneself(peers, listen):
    listen("own")
    a, b = listen("a"), listen("b")
    await peers.broadcast(b"1")
    await peers.post(named("b"), b"2")
    await peers.post(named("nobody"), b"3")
    assert (a.read(), b.read()) == (b"1", b"12")


async def test_who_comes_later_is_seen(peers, listen):
    for number in range(5):  # within one step of the file system's clock
        listener = listen(str(number))
        await peers.broadcast(b"x")
        assert listener.read() == b"x"


async def test_the_directory_is_read_only_when_it_changes(peers, listen, directory, monkeypatch):
    listen("a")
    past = time.time_ns() - 10_000_000_000
    monkeypatch.setattr(directory, "changed", lambda: past)
    reads = []

    def names() -> set[str]:
        reads.append(1)
        return {named("a")}

    monkeypatch.setattr(directory, "names", names)
    for _ in range(3):
        await peers.broadcast(b"x")
    assert len(reads) == 1
    past += 1
    await peers.broadcast(b"x")
    assert len(reads) == 2


async def test_who_was_killed_is_removed(peers, listen, directory, folder):
    (folder / "gunicorn.pid").touch()
    dead, alive = listen("dead"), listen("alive")
    await peers.broadcast(b"1")
    assert alive.read() == b"1"
    dead.accept()
    dead.close()
    await peers.broadcast(b"2")
    assert alive.read() == b"2"
    assert directory.names() == {named("alive")}
    listen("other").close()
    peers.remove_dead()
    assert (folder / "gunicorn.pid").exists()
    assert directory.names() == {named("alive")}


async def test_a_socket_that_was_replaced(peers, listen):
    first = listen("a")
    await peers.broadcast(b"1")
    first.accept()
    first.close()
    second = listen("a")
    await peers.broadcast(b"2")
    assert second.read() == b"2"


async def test_a_slow_peer_slows_the_sender_and_loses_nothing(peers, listen, losses):
    a = listen("a")
    sending = asyncio.ensure_future(peers.broadcast(BIG))
    also = asyncio.ensure_future(peers.broadcast(b"end"))
    await asyncio.sleep(0)
    assert not sending.done()
    assert await a.read_exactly(len(BIG) + 3) == BIG + b"end"
    await asyncio.wait_for(asyncio.gather(sending, also), 5)
    assert losses.count == 0
    assert peers._peers[named("a")]._ends == type(peers._peers[named("a")]._ends)()


async def test_a_cancelled_sender_spoils_nothing(peers, listen):
    a = listen("a")
    sending = asyncio.ensure_future(peers.broadcast(BIG))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait({sending})
    also = asyncio.ensure_future(peers.broadcast(b"end"))
    assert await a.read_exactly(len(BIG) + 3) == BIG + b"end"
    await also


async def test_a_peer_that_has_stopped_delays_nobody(peers, listen, losses, monkeypatch, caplog):
    monkeypatch.setattr(_peers, "STALL", 0.05)
    stopped, alive = listen("stopped"), listen("alive")
    alive_reads = asyncio.ensure_future(alive.read_exactly(11 * len(BIG)))
    with caplog.at_level(logging.WARNING, "panther_channels"):
        for _ in range(11):  # the first waits until the peer has turned out to have stopped
            await asyncio.wait_for(peers.broadcast(BIG), 5)
    await alive_reads
    assert sum("has not read" in record.getMessage() for record in caplog.records) == 1
    waiting = len(peers._peers[named("stopped")]._waiting)
    assert waiting <= _peers.MAX_WAITING
    assert losses.count == 11 - (waiting + len(BIG) - 1) // len(BIG) > 0
    # It goes on: what was kept arrives, whole messages, and then what is sent.
    kept = 11 - losses.count
    assert await stopped.read_exactly(kept * len(BIG)) == BIG * kept
    sending = asyncio.ensure_future(peers.broadcast(BIG))
    assert await stopped.read_exactly(len(BIG)) == BIG
    assert await alive.read_exactly(len(BIG)) == BIG
    await sending
    assert peers._peers[named("stopped")]._is_reading


async def test_a_full_queue_of_connections(peers, directory, losses):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(directory.path_of(named("a")))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(directory.path_of(named("a")))
    try:
        sending = asyncio.ensure_future(peers.broadcast(b"1"))
        also = asyncio.ensure_future(peers.broadcast(b"2"))
        await asyncio.sleep(0)
        assert not sending.done()
        listener.accept()[0].close()
        await asyncio.wait_for(asyncio.gather(sending, also), 5)
        connection = listener.accept()[0]
        assert connection.recv(10) == b"12"
        connection.close()
    finally:
        first.close()
        listener.close()
    assert losses.count == 0


async def test_a_peer_that_dies_while_one_waits_for_it(peers, listen, directory):
    a = listen("a")
    sending = asyncio.ensure_future(peers.broadcast(BIG))
    await asyncio.sleep(0)
    a.accept()
    a.close()
    await asyncio.wait_for(sending, 5)
    await peers.broadcast(b"x")
    assert directory.names() == set()


async def test_at_the_end_what_waits_is_written(directory, listen, losses, monkeypatch):
    monkeypatch.setattr(_peers, "STALL", 0.05)
    monkeypatch.setattr(_peers, "LAST_WAIT", 0.1)
    listen("a")
    peers = Peers(directory, named("own"), losses)
    for _ in range(3):
        await peers.broadcast(BIG)
    peers.close(asyncio.get_running_loop())
    assert losses.count == 3


async def test_a_child_closes_what_it_inherited(directory, listen, losses):
    a = listen("a")
    peers = Peers(directory, named("own"), losses)
    await peers.broadcast(b"1")
    inherited = peers._peers[named("a")]._socket
    assert inherited is not None
    peers.abandon()
    assert inherited.fileno() == -1
    assert a.read() == b"1"


async def test_a_directory_that_is_not_safe(peers, listen, folder):
    listen("a")
    folder.chmod(0o777)
    with pytest.raises(Exception, match="written to by others"):
        await peers.broadcast(b"1")
    folder.chmod(0o700)
