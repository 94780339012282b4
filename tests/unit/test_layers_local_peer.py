import asyncio
import logging
import socket

from panther_channels.layers.local import peer as _peer
from panther_channels.layers.local import peers as _peers
from panther_channels.layers.local.peers import Peers
from tests.unit.listener import named

BIG = b"x" * 1_000_000


async def test_a_slow_peer_slows_the_sender_and_loses_nothing(peers, listen, losses):
    a = listen("a")
    sending, cancelled = (asyncio.ensure_future(peers.broadcast(BIG)) for _ in range(2))
    also = asyncio.ensure_future(peers.broadcast(b"end"))
    await asyncio.sleep(0)
    assert not sending.done()
    cancelled.cancel()  # which spoils nothing
    assert await a.read_exactly(2 * len(BIG) + 3) == BIG * 2 + b"end"
    await asyncio.wait_for(asyncio.gather(sending, also), 5)
    assert losses.count == 0
    assert peers._peers[named("a")]._ends == type(peers._peers[named("a")]._ends)()


async def test_a_peer_that_has_stopped_delays_nobody(peers, listen, losses, monkeypatch, caplog):
    monkeypatch.setattr(_peer, "STALL", 0.05)
    stopped, alive = listen("stopped"), listen("alive")
    alive_reads = asyncio.ensure_future(alive.read_exactly(11 * len(BIG)))
    with caplog.at_level(logging.WARNING, "panther_channels"):
        for _ in range(11):  # the first waits until the peer has turned out to have stopped
            await asyncio.wait_for(peers.broadcast(BIG), 5)
    await alive_reads
    assert sum("has not read" in record.getMessage() for record in caplog.records) == 1
    waiting = len(peers._peers[named("stopped")]._waiting)
    assert waiting <= _peer.MAX_WAITING
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
    monkeypatch.setattr(_peer, "STALL", 0.05)
    monkeypatch.setattr(_peers, "LAST_WAIT", 0.1)
    listen("a")
    peers = Peers(directory, losses)
    for _ in range(3):
        await peers.broadcast(BIG)
    peers.close(asyncio.get_running_loop())
    assert losses.count == 3
