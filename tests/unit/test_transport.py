import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from panther_channels import _transport
from panther_channels._transport import acknowledged, find
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
