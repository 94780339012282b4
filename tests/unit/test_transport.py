"""What is found behind ASGI's callables; tests/faults/test_flow.py has clients that don't read."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvloop

from panther_channels._socket import transport as _transport
from panther_channels._socket.transport import acknowledged, find
from tests.waiting import until


async def send(message: Any) -> None:
    pass


class Other:
    async def send(self, message: Any) -> None:
        pass


class Own(Other):
    asgi_transport = object()


class Protocol(asyncio.Protocol):
    """What uvicorn's protocol has, of what we use."""

    def __init__(self, made: asyncio.Queue[Any]) -> None:
        self.made = made
        self.writable = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.put_nowait(self)

    async def send(self, message: Any) -> None:
        pass

    def send_keepalive_ping(self) -> None:
        pass

    def keepalive_timeout(self) -> None:
        pass


@pytest.fixture
async def protocol() -> AsyncIterator[Any]:
    """Of the server's side of a TCP connection; the client has the attribute `client`."""
    made: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(made), "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        protocol = await made.get()
        protocol.client = client
        yield protocol
        protocol.transport.abort()
    server.close()
    await server.wait_closed()


def drain(client: socket.socket) -> None:
    client.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while client.recv(1_000_000):
            pass


@pytest.mark.parametrize("is_told", [True, False])
async def test_the_transport_of_uvicorn(
    is_told: bool, protocol: Any, monkeypatch: pytest.MonkeyPatch
):
    """Also where the system doesn't tell what a client has taken."""
    if not is_told:
        monkeypatch.setattr(_transport, "acknowledged", lambda _connection: None)
    found = find(send, protocol.send)
    assert found is not None
    assert found.waiting() == 0
    while protocol.transport.get_write_buffer_size() < 1_000_000:
        protocol.transport.write(b"x" * 1_000_000)
    assert found.waiting() == protocol.transport.get_write_buffer_size()
    taken = found.taken()
    await asyncio.to_thread(drain, protocol.client)
    await until(lambda: found.taken() > taken)
    found.unblock()
    assert protocol.writable.is_set()
    found.abort()
    assert protocol.transport.is_closing()
    del protocol.writable  # what another protocol of uvicorn hasn't
    found.unblock()


async def test_a_protocol_is_mended_once_if_it_has_pings(protocol: Any):
    assert find(protocol.send) is not None
    mended = type(protocol).keepalive_timeout
    assert find(protocol.send) is not None
    assert type(protocol).keepalive_timeout is mended
    pingless = Other()
    vars(pingless)["transport"] = protocol.transport
    assert find(pingless.send) is not None
    assert not hasattr(pingless, "keepalive_timeout")


def test_what_is_not_of_uvicorn():
    assert find(send, Other().send) is None
    assert find(send, Own().send) is Own.asgi_transport


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
