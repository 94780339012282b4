"""One client that doesn't read, or writes without end: the process and its neighbours bear it."""

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.conftest import StartServer
from tests.servers import ROOT, SERVER_NAMES, Server, ServerName
from tests.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, deflated, frame, raw_client

pytestmark = pytest.mark.faults

MB = 1_000_000
SECONDS = 20.0
# What a process may grow by: the parts of the messages in flight, and what Python keeps of them.
GROWTH = 25 * MB

# Sends 100 MB to one connection, and numbers to its neighbour.
SENDER = """
import asyncio, sys, django
django.setup()
from panther_channels.websocket import send_message_to_websocket

async def main(stuck, neighbour):
    for number in range(100):
        await send_message_to_websocket(stuck, "x" * 1_000_000)
        await send_message_to_websocket(neighbour, number)

asyncio.run(main(*sys.argv[1:]))
"""

CLOSER = """
import asyncio, sys, django
django.setup()
from panther_channels.websocket import close_websocket_connection

asyncio.run(close_websocket_connection(sys.argv[1], 4000))
"""

# Each server, with a ping every second that is to be answered within one.
IMPATIENT = [
    ("daphne", ("--ping-interval", "1", "--ping-timeout", "1")),
    ("uvicorn", ("--ws-ping-interval", "1", "--ws-ping-timeout", "1")),
]

Start = Callable[..., Server]


@pytest.fixture(params=SERVER_NAMES)
def name(request: pytest.FixtureRequest) -> ServerName:
    found: ServerName = request.param
    return found


@pytest.fixture
def start(start_server: StartServer, folder: Path) -> Start:
    """Starts a server over the local layer, or Redis, with settings of ours."""

    def run(name: ServerName, *, redis: bool = False, args: tuple[str, ...] = (), **settings: Any):
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.faults.flow_settings",
            "WS_SETTINGS": json.dumps(settings),
            "LOCAL_LAYER": str(folder),
        }
        return start_server(name, redis=redis, env=env, args=args)

    return run


@pytest.fixture
def server(name: ServerName, shared_server: StartServer) -> Server:
    """One for all tests that leave it as it was."""
    return shared_server(name, env={"DJANGO_SETTINGS_MODULE": "tests.faults.flow_settings"})


async def received(client: Any) -> Any:
    return await asyncio.wait_for(client.recv(), SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def end_of(client: RawClient) -> tuple[int, str] | None:
    try:
        return client.closed()
    except (ConnectionError, EOFError):
        return None


def is_reset(client: RawClient) -> bool:
    try:
        client.send(b"x")
    except ConnectionError:
        return True
    return False


class Peak:
    """The most memory that a process has while this is entered."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = server.memory()
        self.growth = 0

    async def __aenter__(self):
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *exc_info: object):
        self._task.cancel()
        self._measure()

    async def _look(self) -> None:
        while True:
            self._measure()
            await asyncio.sleep(0.02)

    def _measure(self) -> None:
        self.growth = max(self.growth, self._server.memory() - self._before)


async def echoes(client: Any, until: asyncio.Event) -> int:
    """Round trips one after the other; the longest may not take seconds."""
    count = 0
    while not until.is_set():
        await client.send("here")
        assert await asyncio.wait_for(client.recv(), 5.0) == "here"
        count += 1
    return count


# Who doesn't read


@pytest.mark.parametrize("redis", [False, True], ids=["local", "redis"])
async def test_outside_sends_to_a_client_that_never_reads(
    name: ServerName, redis: bool, start: Start
):
    server = start(name, redis=redis)
    with raw_client(server, "/push", receive_buffer=65536) as stuck:
        stuck_id = stuck.receive()[1].decode()
        async with (
            connect(f"{server.ws_url}/id") as neighbour,
            connect(f"{server.ws_url}/id") as talker,
        ):
            neighbour_id = str(await received(neighbour))
            await received(talker)
            over = asyncio.Event()
            async with Peak(server) as peak:
                talking = asyncio.create_task(echoes(talker, over))
                sending = asyncio.create_task(
                    asyncio.to_thread(
                        subprocess.run,
                        [sys.executable, "-c", SENDER, stuck_id, neighbour_id],
                        cwd=ROOT,
                        env={**os.environ, "PYTHONPATH": str(ROOT), **server.env},
                        check=True,
                    )
                )
                for number in range(100):
                    assert await received(neighbour) == str(number)
                await sending
                over.set()
                assert await talking > 10
            assert peak.growth < GROWTH
        server.wait_log("WARNING panther_channels .*slow consumer, more than 1048576 bytes wait")
        server.wait_log("disconnect called code=1013")
        # The transport has gone, and with it what waited.
        await asyncio.to_thread(wait_until, lambda: is_reset(stuck))
    assert server.log.count("slow consumer") == 1
    assert "Traceback" not in server.log


async def test_a_handler_that_sends_to_a_client_that_never_reads(name: ServerName, start: Start):
    server = start(name, WS_SEND_TIMEOUT=2)
    with raw_client(server, "/push", receive_buffer=65536) as stuck:
        stuck.receive()
        async with connect(f"{server.ws_url}/id") as talker:
            await received(talker)
            over = asyncio.Event()
            async with Peak(server) as peak:
                talking = asyncio.create_task(echoes(talker, over))
                stuck.send(b"200 1000000")
                await asyncio.to_thread(server.wait_log, "disconnect called code=1013", SECONDS)
                over.set()
                assert await talking > 10
            assert peak.growth < GROWTH
        assert end_of(stuck) in {(1013, "slow consumer"), None}  # it may be late for the frame
    server.wait_log("WARNING panther_channels .*slow consumer, nothing was taken for 2 seconds")
    assert server.log.count("slow consumer") == 1
    assert server.log.count("push has ended") == 1
    assert "Traceback" not in server.log


async def test_a_stuck_client_is_closed_from_outside(name: ServerName, start: Start):
    server = start(name, WS_SEND_TIMEOUT=2)
    with raw_client(server, "/push", receive_buffer=65536) as stuck:
        stuck_id = stuck.receive()[1].decode()
        stuck.send(b"200 1000000")
        await close_from_outside(server, stuck_id)
        await asyncio.to_thread(server.wait_log, "disconnect called code=4000", SECONDS)
        await asyncio.to_thread(wait_until, lambda: is_reset(stuck))


async def test_the_server_stops_while_a_client_never_reads(name: ServerName, start: Start):
    """Alone, uvicorn waits for as long as the client doesn't read."""
    server = start(name, WS_SHUTDOWN_TIMEOUT=2.5)
    with raw_client(server, "/push", receive_buffer=65536) as stuck:
        stuck.receive()
        stuck.send(b"200 1000000")
        stuck.take(2)
        assert await asyncio.to_thread(server.terminate, 8.5) in {0, -signal.SIGTERM}
    assert server.log.count("disconnect called code=1012") == 1


async def close_from_outside(server: Server, connection_id: str) -> None:
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CLOSER, connection_id],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **server.env},
        check=True,
    )


@pytest.mark.parametrize("code", [4000, 1006])
async def test_the_end_wakes_who_waits_in_send(name: ServerName, code: int, start: Start):
    """At once: no limit in time has to come to its help."""
    server = start(name)
    with raw_client(server, "/push", receive_buffer=65536) as stuck:
        stuck_id = stuck.receive()[1].decode()
        stuck.send(b"200 1000000")
        stuck.receive()
        if code == 1006:
            stuck.socket.close()
        else:
            await close_from_outside(server, stuck_id)
        await asyncio.to_thread(server.wait_log, f"disconnect called code={code}", SECONDS)
    assert "push has ended" in server.log
    assert "WARNING" not in server.log
    assert "Traceback" not in server.log


def test_daphne_drops_who_answers_no_ping(start: Start):
    """Who waits in `send()` is woken by that, too."""
    server = start("daphne", args=IMPATIENT[0][1])
    with raw_client(server, "/push", receive_buffer=65536) as stuck:
        stuck.receive()
        stuck.send(b"200 1000000")
        server.wait_log("disconnect called code=1006", SECONDS)
    assert "push has ended" in server.log
    assert "WARNING" not in server.log
    assert "Traceback" not in server.log


async def test_who_takes_its_time_to_answer_a_close(name: ServerName, start: Start):
    server = start(name)
    with raw_client(server, "/push") as client:
        await close_from_outside(server, client.receive()[1].decode())
        assert client.closed()[0] == 4000
        client.socket.settimeout(2)
        with pytest.raises(TimeoutError):  # it is waited for, and not reset
            client.socket.recv(1)
        client.send(struct.pack("!H", 4000), CLOSE)
        with suppress(ConnectionResetError):  # by daphne, which has its answer
            assert client.socket.recv(1) == b""


# Who reads slowly


@pytest.mark.parametrize(("name", "args"), IMPATIENT)
def test_a_slow_reader_stays(name: ServerName, args: tuple[str, ...], start: Start):
    server = start(name, args=args, WS_SEND_TIMEOUT=3)
    for _attempt in range(3):
        pauses: list[float] = []
        try:
            read_slowly(server, pauses)
            break
        except ConnectionResetError:
            if max(pauses, default=0) < 0.5:  # else the test itself stood still
                raise
    else:
        pytest.fail("this machine is too busy to read 1 MB/s")


def read_slowly(server: Server, pauses: list[float]) -> None:
    with raw_client(server, "/push", receive_buffer=65536) as slow:
        slow.receive()
        slow.send(b"10 1000000")  # of which the system's buffers take less than a half
        for _ in range(10):
            opcode, payload = slow_frame(slow, pauses)
            assert (opcode, len(payload)) == (TEXT, MB)
        slow.send(b"1 3")
        assert slow.receive() == (TEXT, b"xxx")
    assert "slow consumer" not in server.log


def slow_frame(client: Any, pauses: list[float]) -> tuple[int, bytes]:
    """A frame, read at about 1 MB/s."""
    read = client._read

    def slowly() -> bytes:
        started = time.monotonic()
        time.sleep(0.02)
        try:
            data: bytes = read(20_000)
        finally:
            pauses.append(time.monotonic() - started)
        return data

    client._read = slowly
    try:
        frame: tuple[int, bytes] = client.receive()
    finally:
        client._read = read
    return frame


# Who writes without end


async def test_a_flood_to_a_slow_handler(server: Server):
    one = frame(b"x" * 10_000)
    with raw_client(server, "/slow") as client:
        client.receive()
        async with Peak(server) as peak:
            went = await asyncio.to_thread(client.flood, one * 100, 0.5, 150 * MB)
        assert went < 30 * MB  # the rest waits at the client
        assert peak.growth < GROWTH
        # And it goes on when the handler has taken what there was.
        await asyncio.to_thread(client.socket.sendall, one[went % len(one) :] + frame(b"here"))
        assert await asyncio.to_thread(client.receive) == (TEXT, b"here")


async def test_a_flood_of_compressed_messages(name: ServerName, server: Server):
    """192 MB, which are 0.6 MB on the way."""
    with raw_client(server, "/slow", deflate=True) as client:
        client.receive()
        if not client.deflates:
            assert name == "daphne"
            return
        data = frame(deflated(b"x" * 16_000), extension_bits=4) * 12_000
        async with Peak(server) as peak:
            assert await asyncio.to_thread(client.flood, data, 0.5, len(data)) == len(data)
            async with connect(f"{server.ws_url}/id") as neighbour:
                await received(neighbour)  # what has come was read
        assert peak.growth < 10 * MB


@pytest.mark.parametrize("deflate", [False, True])
def test_a_burst_is_handled_whole_and_in_order(deflate: bool, server: Server):
    with raw_client(server, "/count", deflate=deflate) as client:
        client.receive()
        sizes, burst = range(1000, 2000), b""
        for size in sizes:
            data = deflated(b"x" * size) if client.deflates else b"x" * size
            burst += frame(data, extension_bits=4 * client.deflates) + frame(b"", PING) * (size % 2)
        client.socket.sendall(burst)
        frames = [client.receive() for _ in range(1500)]
        assert [int(data) for kind, data in frames if kind == TEXT] == list(sizes)
        client.send(b"", CLOSE)
        assert client.receive() == (CLOSE, b"")


async def test_a_flood_behind_a_handshake(server: Server):
    """It waits for the answer, and is handled then."""
    mark, one = server.mark(), frame(b"x" * 1000)
    with raw_client(server, "/gate/open", is_waiting=False) as client:
        await asyncio.to_thread(server.wait_log, "waits at the gate", SECONDS, since=mark)
        async with Peak(server) as peak:
            went = await asyncio.to_thread(client.flood, one * 1000, 0.5, 50 * MB)
        assert went < 30 * MB
        assert peak.growth < 10 * MB
        async with connect(f"{server.ws_url}/gate/opened"):
            await asyncio.to_thread(client.open)
        for _ in range(went // len(one)):
            assert client.receive() == (TEXT, b"1000")


# Pings


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_pings_without_end(opcode: int, server: Server):
    with raw_client(server, "/count", receive_buffer=65536) as client:
        client.receive()
        one = frame(b"x" * 125, opcode) * 100
        async with Peak(server) as peak:
            await asyncio.to_thread(client.flood, one, 1.0, 50 * MB)
        assert peak.growth < 10 * MB
        assert client.closed() == (1008, "more than 1000 pings and pongs in 10 s")


async def test_a_ping_waits_for_a_client_that_does_not_read(server: Server):
    """Messages don't: who writes all of them before it reads any would never be done."""
    one = frame(b"x" * 10_000)
    with raw_client(server, "/both", receive_buffer=65536) as client:
        client.receive()
        client.send(b"20 1000000")
        went = await asyncio.to_thread(client.flood, one * 100, 5.0, 30 * MB)
        assert went >= 30 * MB
        client.send(b"late", PING)
        went = await asyncio.to_thread(client.flood, one * 100, 0.5, 60 * MB)
        assert went < 30 * MB
        frames = [await asyncio.to_thread(client.receive) for _ in range(21)]
        assert frames.index((PONG, b"late")) > 2
        await asyncio.to_thread(client.socket.sendall, one[went % len(one) :] + frame(b"1 4"))
        assert await asyncio.to_thread(client.receive) == (TEXT, b"xxxx")


@pytest.mark.parametrize(("name", "args"), IMPATIENT)
async def test_a_pong_that_is_not_read_yet(
    name: ServerName, args: tuple[str, ...], start_server: StartServer
):
    """It waits behind messages, and these for the handler."""
    env = {"DJANGO_SETTINGS_MODULE": "tests.faults.hooks_settings"}
    server = start_server(name, env=env, args=args)
    async with connect(f"{server.ws_url}/receive") as client:
        await received(client)
        for seconds in ("4", *["0" * 1000] * 200):
            await client.send(seconds)
        await asyncio.to_thread(server.wait_log, "handled 4$", SECONDS)
        await asyncio.wait_for(await client.ping(), SECONDS)


# Sizes


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_is_too_large(opcode: int, server: Server):
    mark = server.mark()
    reason = "a message has 1048576 bytes at most"
    with raw_client(server, "/count") as client:
        client.receive()
        client.send(b"x" * 1024 * 1024, opcode)
        assert client.receive() == (TEXT, b"1048576")
        client.send(b"x" * 2 * MB, opcode)
        assert client.closed() == (1009, reason)
    server.wait_log("disconnect called code=1009", since=mark)
    with raw_client(server, "/count") as client:
        client.receive()
        client.send(b"x" * 800_000, opcode, fin=False)
        client.send(b"x" * 800_000, 0)
        assert client.closed() == (1009, reason)
    with raw_client(server, "/count") as client:
        client.receive()
        client.send("é".encode() * 700_000)
        assert client.closed() == (1009, reason)
    assert "Traceback" not in server.log[mark:]


def test_too_large_a_message_is_refused_at_its_start(server: Server):
    whole = frame(b"x" * 10 * MB)
    with raw_client(server, "/count") as client:
        client.receive()
        client.socket.sendall(whole[:MB])
        assert client.closed() == (1009, "a message has 1048576 bytes at most")


LIMIT = 1024 * 1024
TOO_LARGE, TOO_MANY = f"a message has {LIMIT} bytes at most", "a message has 5120 fragments at most"


@pytest.mark.parametrize(
    ("part", "total", "reason"),
    [(b"", 24 * MB, TOO_MANY), (b"ab", 4 * MB, TOO_MANY), (b"x" * 16_000, 24 * MB, TOO_LARGE)],
    ids=["empty", "two bytes", "16 kB"],
)
async def test_a_message_that_never_ends(part: bytes, total: int, reason: str, server: Server):
    one = frame(part, 0, fin=False)
    with raw_client(server, "/count") as client:
        client.receive()
        client.send(b"", TEXT, fin=False)
        async with Peak(server) as peak:
            await asyncio.to_thread(client.flood, one * (100_000 // len(one)), 5.0, total)
        assert peak.growth < 10 * MB
        assert client.closed() == (1009, reason)


async def test_what_comes_behind_a_fault_is_not_kept(server: Server):
    start = bytes([0x80 | PING, 0xFF]) + struct.pack("!Q", 2**40) + bytes(4)
    with raw_client(server, "/count") as client:
        client.receive()
        client.socket.sendall(start)
        async with Peak(server) as peak:
            with suppress(ConnectionError):
                await asyncio.to_thread(client.flood, b"x" * MB, 1.0, 100 * MB)
        assert peak.growth < 10 * MB
        assert client.closed()[0] in {1002, 1009}


def halves(data: bytes, *, extension_bits: int = 0) -> bytes:
    middle = len(data) // 2
    return frame(data[:middle], BINARY, fin=False, extension_bits=extension_bits) + frame(
        data[middle:], 0
    )


RANDOM = random.Random(1).randbytes(LIMIT)
EXACTLY = {
    "fragments": halves(RANDOM),
    "the most fragments": frame(b"", BINARY, fin=False)
    + frame(b"x" * 205, 0, fin=False) * 5112
    + frame(b"x" * (LIMIT - 205 * 5112), 0),
    "compressed": frame(deflated(b"x" * LIMIT), BINARY, extension_bits=4),
    "incompressible": frame(deflated(RANDOM), BINARY, extension_bits=4),
    "compressed fragments": halves(deflated(RANDOM), extension_bits=4),
    "an empty last fragment": frame(deflated(RANDOM), BINARY, fin=False, extension_bits=4)
    + frame(b"", 0),
}


@pytest.mark.parametrize("case", EXACTLY)
def test_exactly_the_largest_message(case: str, name: ServerName, server: Server):
    is_compressed = "compress" in case or "empty" in case
    with raw_client(server, "/count", deflate=is_compressed) as client:
        client.receive()
        if is_compressed and not client.deflates:
            assert name == "daphne"
            return
        client.socket.sendall(EXACTLY[case])
        assert client.receive() == (TEXT, b"%d" % LIMIT)
        if is_compressed:
            data = deflated(RANDOM + b"x")
            client.socket.sendall(frame(data, BINARY, extension_bits=4))
        else:
            client.socket.sendall(halves(RANDOM + b"x"))
        assert client.closed() == (1009, TOO_LARGE)


def test_a_stream_that_ends_with_its_message(name: ServerName, server: Server):
    """RFC 7692 section 7.2.3.4; what follows begins another one."""
    with raw_client(server, "/count", deflate=True) as client:
        client.receive()
        if not client.deflates:
            assert name == "daphne"
            return
        for size in (3, 4):
            stream = zlib.compressobj(wbits=-12)
            data = stream.compress(b"x" * size) + stream.flush() + b"\0"
            client.socket.sendall(frame(data, extension_bits=4))
            assert client.receive() == (TEXT, b"%d" % size)


def test_a_limit_of_ones_own(name: ServerName, start: Start):
    server = start(name, WS_MAX_MESSAGE_SIZE=3 * MB)
    with raw_client(server, "/count") as client:
        client.receive()
        client.send(b"x" * 3 * MB)
        assert client.receive() == (TEXT, b"3000000")
        client.send(b"x" * 3 * MB + b"x")
        assert client.closed() == (1009, "a message has 3000000 bytes at most")


async def test_a_large_message_goes_out(server: Server):
    async with connect(f"{server.ws_url}/push", max_size=None) as client:
        await received(client)
        await client.send("2 5000000")
        assert len(await received(client)) == 5 * MB
        assert len(await received(client)) == 5 * MB


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff\xfe"), 1007),
        (bytes([0x81, 5]) + b"hello", 1002),  # not masked
        (frame(b"x" * 126, 9), 1002),  # no ping is that long
        (frame(b"x", 3), 1002),
    ],
    ids=["utf-8", "mask", "ping", "opcode"],
)
def test_a_broken_frame(data: bytes, code: int, server: Server):
    mark = server.mark()
    with raw_client(server, "/count") as client:
        client.receive()
        client.socket.sendall(data)
        assert client.closed()[0] == code
    server.wait_log(f"disconnect called code={code}", since=mark)
