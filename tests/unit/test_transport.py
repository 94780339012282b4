import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop
from django.test import override_settings

from panther_channels import _transport
from panther_channels._transport import Watch, acknowledged, find, watch
from tests.waiting import until


class Protocol(asyncio.Protocol):
    """What uvicorn's protocol has, of what we use."""

    ping_timeout = 0.05
    read_paused = False
    pong_timer: Any = None
    ended = 0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.writable = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    async def send(self, message: Any) -> None:
        pass

    def send_keepalive_ping(self) -> None:
        self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)

    def keepalive_timeout(self) -> None:
        self.ended += 1


@pytest.fixture
async def protocol() -> AsyncIterator[Protocol]:
    """Of the server's side of a TCP connection; the client has the attribute `client`."""
    made: asyncio.Queue[Protocol] = asyncio.Queue()

    class Kind(Protocol):  # one of its own, which is mended
        client: socket.socket

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.put_nowait(self)

    server = await asyncio.get_running_loop().create_server(Kind, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    protocol = await made.get()
    Kind.client = client
    yield protocol
    client.close()
    protocol.transport.abort()
    server.close()
    await server.wait_closed()


def flood(protocol: Any) -> None:
    """Write until the client's system takes no more."""
    while protocol.transport.get_write_buffer_size() < 1_000_000:
        protocol.transport.write(b"x" * 1_000_000)


def drain(client: socket.socket) -> None:
    client.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while client.recv(1_000_000):
            pass


def test_nothing_is_found_where_nothing_is_known():
    async def send(message: Any) -> None:
        pass

    class Other:
        async def send(self, message: Any) -> None:
            pass

    assert find(send) is None
    assert find(Other().send) is None


async def test_what_the_protocol_brings_itself_is_found():
    class Own:
        asgi_transport = object()

        async def send(self, message: Any) -> None:
            pass

    async def wrapped(message: Any) -> None:
        pass

    assert find(Own().send) is Own.asgi_transport
    assert find(wrapped, Own().send) is Own.asgi_transport


async def test_the_transport_of_uvicorn(protocol: Any):
    found = find(protocol.send)
    assert found is not None
    assert found.waiting() == 0
    flood(protocol)
    assert found.waiting() == protocol.transport.get_write_buffer_size() > 0
    taken = found.taken()
    await asyncio.to_thread(drain, protocol.client)
    await until(lambda: found.taken() > taken)
    found.unblock()
    assert protocol.writable.is_set()
    assert type(protocol).keepalive_timeout is not Protocol.keepalive_timeout
    found.abort()
    assert protocol.transport.is_closing()
    del protocol.writable  # what another protocol of uvicorn hasn't
    found.unblock()


def test_what_is_acknowledged_is_known_of_tcp_alone():
    left, right = socket.socketpair()
    with left, right, socket.socket() as closed:
        assert acknowledged(left) is None
        assert acknowledged(None) is None
    assert acknowledged(closed) is None


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_acknowledged_while_a_connection_is_lost(new_loop: Any):
    async def main() -> list[int | None]:
        found = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            loop, address = asyncio.get_running_loop(), server.getsockname()
            transport, _protocol = await loop.create_connection(asyncio.Protocol, *address)
            for _ in range(5):
                found.append(acknowledged(transport.get_extra_info("socket")))
                transport.abort()
                await asyncio.sleep(0)
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        first, *_rest, last = runner.run(main())
    assert first is not None
    assert last is None


async def test_taken_where_the_system_does_not_tell(protocol: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_transport, "acknowledged", lambda _connection: None)
    found = find(protocol.send)
    assert found is not None
    flood(protocol)
    taken = found.taken()
    await asyncio.to_thread(drain, protocol.client)
    await until(lambda: found.taken() > taken)


# Pings


async def test_no_pong_and_nothing_taken_is_the_end(protocol: Any):
    found = find(protocol.send)
    assert found is not None
    protocol.transport.write(b"what came before the ping doesn't count")
    await until(found.taken)
    protocol.send_keepalive_ping()
    timer = protocol.pong_timer
    await until(lambda: protocol.ended)
    assert protocol.pong_timer is timer


async def test_the_protocol_is_mended_once(protocol: Any):
    find(protocol.send)
    mended = type(protocol).keepalive_timeout
    find(protocol.send)
    assert type(protocol).keepalive_timeout is mended


async def test_a_protocol_without_pings_needs_no_mend(protocol: Any):
    class Other:
        transport = protocol.transport

        async def send(self, message: Any) -> None:
            pass

    found = find(Other().send)
    assert found is not None
    assert found.waiting() == 0


async def test_who_takes_data_is_alive(protocol: Any):
    find(protocol.send)
    find(protocol.send)  # mended once
    flood(protocol)
    protocol.send_keepalive_ping()
    first = protocol.pong_timer
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        await asyncio.to_thread(protocol.client.recv, 100_000)
        flood(protocol)
        await asyncio.sleep(0.001)
        protocol.ping_timeout = 0.2
    assert not protocol.ended
    assert protocol.pong_timer is not first, "the one that a pong cancels"
    await until(lambda: protocol.ended)


async def test_whom_the_server_does_not_read_is_alive(protocol: Any):
    find(protocol.send)
    protocol.read_paused = True
    protocol.send_keepalive_ping()
    await asyncio.sleep(0.2)
    assert not protocol.ended
    protocol.read_paused = False
    await until(lambda: protocol.ended)


# The watch


class Transport:
    def __init__(self, waiting: int = 1) -> None:
        self.is_waiting = waiting
        self.has_taken = 0
        self.aborted = 0

    def waiting(self) -> int:
        return self.is_waiting

    def taken(self) -> int:
        return self.has_taken

    def unblock(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted += 1
        self.is_waiting = 0


@pytest.fixture
def timeout() -> Any:
    with override_settings(WS_SEND_TIMEOUT=0.08):
        yield


@pytest.mark.usefixtures("timeout")
async def test_who_takes_nothing_is_ended_and_others_are_not():
    ends: list[str] = []
    found = Watch()
    stuck, idle, slow = Transport(), Transport(waiting=0), Transport()
    for name, transport in {"stuck": stuck, "idle": idle, "slow": slow}.items():
        found.add(transport, lambda name=name: ends.append(name))  # type: ignore[misc]
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        slow.has_taken += 1
        await asyncio.sleep(0.005)
    assert set(ends) == {"stuck"}
    for transport in (stuck, idle, slow):
        transport.is_waiting = 0
        found.release(transport)
    await until(lambda: found._timer is None)
    assert not found._ends
    assert not found._stuck


async def test_a_client_has_all_of_its_time():
    ends: list[str] = []
    found = Watch()
    transport = Transport()
    found.add(transport, lambda: ends.append("end"))
    for _ in range(5):
        found._look()
    assert ends == []
    taken, since = found._stuck[transport]
    found._stuck[transport] = taken, since - 1000
    # In between it has taken all.
    transport.is_waiting = 0
    found._look()
    transport.is_waiting = 1
    found._look()
    assert ends == []
    taken, since = found._stuck[transport]
    found._stuck[transport] = taken, since - 1000
    found._look()
    assert ends == ["end"]


async def test_who_is_idle_is_looked_at_until_it_has_ended():
    found = Watch()
    idle, transport = Transport(waiting=0), Transport()
    for each in (idle, transport):
        found.add(each, lambda: None)
    timer = found._timer
    found.add(idle, lambda: None)
    assert found._timer is timer, "one for all"
    found._look()
    assert set(found._ends) == {idle, transport}
    found.release(idle)
    found.release(idle)
    assert set(found._ends) == {transport}
    found.release(transport)
    assert found._ends == {transport: transport.abort}
    transport.is_waiting = 0
    found._look()
    found.release(transport)
    assert found._ends == {}


@pytest.mark.usefixtures("timeout")
async def test_what_waits_after_the_end_is_dropped_in_the_end():
    found = Watch()
    stuck = Transport()
    found.add(stuck, lambda: None)
    found.release(stuck)
    await until(lambda: stuck.aborted)
    await until(lambda: found._timer is None)
    found.release(stuck)  # it is not there
    assert stuck.aborted == 1


async def test_one_watch_for_each_event_loop():
    found = watch()
    assert watch() is found

    def elsewhere() -> Any:
        async def other() -> Any:
            return watch()

        return asyncio.run(other())

    assert await asyncio.to_thread(elsewhere) is not found
