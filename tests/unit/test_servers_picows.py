"""Our protocol for uvicorn, on two event loops, a Unix socket and TLS.

What it makes of single messages is in tests/integration/test_mends.py, and tests/faults floods it.
"""

import asyncio
import contextlib
import functools
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from picows import WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from uvicorn import Config
from uvicorn.server import ServerState

from panther_channels.servers import picows
from panther_channels.servers.picows import PicowsProtocol
from tests.servers import python
from tests.waiting import until
from tests.wire import BINARY, CLOSE, CONTINUATION, PONG, TEXT, close, frame, request

SECONDS = 30.0  # a loaded machine is not a failure
SMALL = 65536  # of the system's buffers
ACCEPT = {"type": "websocket.accept"}

Ways = dict[str, tuple[Callable[[], asyncio.AbstractEventLoop], str]]
WAYS: Ways = {
    "asyncio": (asyncio.new_event_loop, "h11"),
    "tls": (asyncio.new_event_loop, "h11"),
    "uvloop": (uvloop.new_event_loop, "httptools"),
    "unix": (uvloop.new_event_loop, "httptools"),
}


class Peer:
    """A client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def open(self, behind: bytes = b"") -> bytes:
        self.writer.write(request() + behind)
        return await self.reader.readuntil(b"\r\n\r\n")

    async def receive(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        return first & 15, await self.reader.readexactly(size)


class Site:
    """An application behind the protocol."""

    def __init__(self, connect: Callable[[], Awaitable[Peer]], state: ServerState) -> None:
        self.connect, self.state = connect, state

    @property
    def protocol(self) -> Any:
        """The one connection's."""
        (protocol,) = self.state.connections
        return protocol


Play = Callable[..., None]


@pytest.fixture(params=WAYS)
def play(request: pytest.FixtureRequest, folder: Path, certificate: Path) -> Play:
    """Runs a client against an application: `play(application, client, ws_ping_interval=1)`."""
    factory, http = WAYS[request.param]
    tls = certificate if request.param == "tls" else None
    path = folder / "s" if request.param == "unix" else None

    def run(application: Any, client: Callable[[Site], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            chosen: Any = PicowsProtocol
            config = Config(application, ws=chosen, http=http, log_config=None, **options)
            async with asyncio.timeout(SECONDS), served(config, path, tls) as site:
                await client(site)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


@contextlib.asynccontextmanager
async def served(config: Config, path: Path | None, tls: Path | None) -> AsyncIterator[Site]:
    config.load()
    loop, state, writers = asyncio.get_running_loop(), ServerState(), []
    kind: Any = config.http_protocol_class
    make = functools.partial(kind, config=config, server_state=state, app_state={})
    listening = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    listening.bind(str(path) if path else ("127.0.0.1", 0))
    secure: dict[str, Any] = {}
    if tls:
        secure["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secure["ssl"].load_cert_chain(tls / "fullchain.pem", tls / "privkey.pem")
        trust = ssl.create_default_context(cafile=tls / "fullchain.pem")
    start = loop.create_unix_server if path else loop.create_server
    server = await start(make, sock=listening, **secure)
    address = listening.getsockname()

    async def connect() -> Peer:
        client = socket.socket(listening.family)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        client.connect(address)
        client.setblocking(False)
        options: Any = {"ssl": trust, "server_hostname": "example.com"} if tls else {}
        open_: Any = asyncio.open_unix_connection if path else asyncio.open_connection
        reader, writer = await open_(sock=client, **options)
        writers.append(writer)
        return Peer(reader, writer)

    try:
        yield Site(connect, state)
    finally:
        for writer in writers:
            writer.transport.abort()
        server.close()
        await until(lambda: not state.connections and not state.tasks)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


# receive() and send() of several tasks


def test_two_wait_for_messages_and_one_is_cancelled(play: Play):
    found: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        first, *others = [asyncio.create_task(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        await send({"type": "websocket.send", "text": "waits"})
        found.extend(await asyncio.gather(*others))

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        assert await peer.receive() == (TEXT, b"waits")
        peer.writer.write(frame(b"one") + close(1000))
        assert await peer.receive() == (CLOSE, b"\x03\xe8")
        await until(lambda: len(found) == 2)
        assert found[0]["text"] == "one"
        assert found[1]["code"] == 1000

    play(application, client)


def test_who_waits_for_a_message_while_another_closes(play: Play):
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send({"type": "websocket.close", "code": 4000})
        codes.append((await waiting)["code"])

    codes: list[int] = []

    async def client(site: Site) -> None:
        await (await site.connect()).open()
        await until(lambda: codes == [4000])  # the client has not answered

    play(application, client)


def test_of_many_that_wait_for_room_one_goes_on(play: Play):
    sent: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def one(number: int) -> None:
            await send({"type": "websocket.send", "bytes": bytes(300_000)})
            sent.append(number)

        await receive()
        await send(ACCEPT)
        await asyncio.gather(*map(one, range(100)))

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        for _ in range(5):
            assert await peer.receive() == (BINARY, bytes(300_000))
        assert len(sent) < 50
        assert site.protocol.waiting() < 2_000_000
        for _ in range(95):
            await peer.receive()

    play(application, client)


def test_large_messages_of_different_sizes_to_a_slow_reader(play: Play):
    """Picows hands over headers that the next message overwrites."""
    sizes = [9000, 70_000, 200, 9001] * 20

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        waiting = [send({"type": "websocket.send", "bytes": bytes(size)}) for size in sizes]
        protocol = send.__self__
        for each in waiting:
            protocol.unblock()  # all of them at once
            await each
        await receive()

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        await until(lambda: site.protocol.waiting() > 500_000)
        assert [await peer.receive() for _ in sizes] == [(BINARY, bytes(size)) for size in sizes]

    play(application, client)


# What is kept of a connection


def test_tiny_messages_that_nobody_takes(play: Play):
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.send", "text": ""})
        await asyncio.Future()

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        peer.writer.write(frame(bytes(60_000), BINARY))  # the buffer has grown by it
        await peer.receive()
        peer.writer.write(frame(b"") * 50_000)
        await until(lambda: site.protocol._is_paused)
        assert len(site.protocol._queue) < 4000
        for task in site.state.tasks:
            task.cancel()

    play(application, client)


def buffer_of(site: Site) -> int:
    return len(WSProtocol.get_buffer(site.protocol._parser, -1))


def test_the_buffer_of_a_large_message_goes(play: Play):
    """At once, or with the next ping."""

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        for size in (1_000_000, 30_000):
            peer.writer.write(frame(b"x" * size) + frame(b"y"))
            assert await peer.receive() == (TEXT, b"x" * size)
            assert await peer.receive() == (TEXT, b"y")
            peer.writer.write(frame(b"x" * size, fin=False) + frame(b"y", CONTINUATION))
            assert await peer.receive() == (TEXT, b"x" * size + b"y")
        assert buffer_of(site) > 20_000
        await until(lambda: buffer_of(site) < 2048)
        peer.writer.write(frame(b"z"))
        while await peer.receive() != (TEXT, b"z"):
            pass

    play(echo, client, ws_ping_interval=0.5, ws_max_size=2_000_000)


def test_a_large_message_behind_the_request(play: Play):
    """Fed in pieces, of which one ends with the message: what follows is another parser's."""
    accepts = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await accepts.wait()
        await echo(scope, receive, send)

    async def client(site: Site) -> None:
        peer = await site.connect()
        peer.writer.write(request())
        await until(lambda: bool(site.state.tasks))
        messages = [b"x" * 200_000, *[b"%d" % number for number in range(20)]]
        protocol = site.protocol
        protocol.data_received(b"".join(map(frame, messages)))
        accepts.set()
        await peer.reader.readuntil(b"\r\n\r\n")
        assert [await peer.receive() for _ in messages] == [(TEXT, each) for each in messages]

    play(application, client, ws_max_size=2_000_000)


async def leave(site: Site, how: str) -> None:
    peer = await site.connect()
    await peer.open()
    if how == "close":
        peer.writer.write(frame(b"x") + close(1000))
        await peer.reader.read()
    elif how == "wrong":
        peer.writer.write(frame(b"x", 3) + close(1002))
        await peer.reader.read()
    elif how == "half":
        with contextlib.suppress(NotImplementedError):  # TLS
            peer.writer.write_eof()
        peer.writer.close()
    peer.writer.transport.abort()


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.garbage.clear()
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()


@pytest.mark.parametrize("play", ["asyncio", "uvloop", "unix"], indirect=True)  # TLS has circles
@pytest.mark.parametrize("how", ["close", "wrong", "half", "reset"])
def test_nothing_is_left_for_the_garbage_collector(how: str, play: Play, garbage: list[object]):
    async def client(site: Site) -> None:
        await leave(site, how)
        await until(lambda: not site.state.connections and not site.state.tasks)

    play(echo, client)
    gc.collect()
    ours = {PicowsProtocol, picows._StandIn, picows._Parser, WSTransport}
    assert [each for each in garbage if type(each) in ours] == []


# Ends


def test_who_closes_and_takes_nothing(play: Play, monkeypatch: pytest.MonkeyPatch):
    """Alone, uvicorn waits until TCP gives up."""
    monkeypatch.setattr(picows, "_CLOSING", 0.2)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(100):
            await send({"type": "websocket.send", "bytes": bytes(300_000)})

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        peer.writer.write(close(1000))
        await until(lambda: not site.state.connections and not site.state.tasks)

    play(application, client)


def test_who_closes_and_takes_it_slowly(play: Play, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(picows, "_CLOSING", 0.6)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(4):
            await send({"type": "websocket.send", "bytes": bytes(300_000)})
            send.__self__.unblock()
        await send({"type": "websocket.close"})

    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        for _ in range(40):
            await peer.reader.readexactly(30_000)
            await asyncio.sleep(0.03)
        assert (await peer.reader.read())[-4:] == b"\x88\x02\x03\xe8"

    play(application, client)


@pytest.mark.parametrize(
    ("interval", "timeout"), [(0, 5.0), (None, 5.0), (0.1, None), (0.1, 0), (0.1, 5.0)]
)
def test_pings(interval: float | None, timeout: float | None, play: Play):
    async def client(site: Site) -> None:
        peer = await site.connect()
        await peer.open()
        for _ in range(3 if interval else 0):
            opcode, payload = await peer.receive()
            peer.writer.write(frame(payload, PONG))
            assert opcode == 9
        peer.writer.write(frame(b"here"))
        while await peer.receive() != (TEXT, b"here"):
            pass

    play(echo, client, ws_ping_interval=interval, ws_ping_timeout=timeout)


# picows


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ("sys.modules['picows'] = None", "pip install 'panther-channels[fast]'"),
        ("import picows.version as v; v.__version__ = '3.0.0'", "picows 3.0.0"),
    ],
)
def test_picows_is_missing_or_another(before: str, sentence: str):
    code = f"import sys; {before}; import panther_channels.servers.picows"
    error = python("-c", code).stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: ")
    assert sentence in error
