"""One client that doesn't read, or writes without end: the process and its neighbours bear it."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
from websockets.sync.client import connect

from panther_channels.layers import LocalChannelLayer
from panther_channels.websocket import close_websocket_connection
from tests.conftest import StartServer
from tests.layers import default_layer
from tests.servers import ALL_SERVERS, ROOT, Server, ServerName, misbehaving
from tests.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawClient,
    close,
    deflated,
    frame,
    raw_client,
)

pytestmark = pytest.mark.faults

MB = 1_000_000
SECONDS = 20.0
# What a process may grow by: the parts of the messages in flight, and what Python keeps of them.
GROWTH = 25 * MB
LIMIT = 1024 * 1024
TOO_LARGE, TOO_MANY = f"a message has {LIMIT} bytes at most", "a message has 5120 fragments at most"

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

# A ping every second that is to be answered within one.
IMPATIENT = {
    "daphne": ("--ping-interval", "1", "--ping-timeout", "1"),
    "uvicorn": ("--ws-ping-interval", "1", "--ws-ping-timeout", "1"),
    "picows": ("--ws-ping-interval", "1", "--ws-ping-timeout", "1"),
}

Start = Callable[..., Server]


@pytest.fixture
def start(start_server: StartServer, server_name: ServerName, folder: Path) -> Start:
    """Starts each server in turn over the local layer, or Redis, with settings of ours."""

    def run(*, redis: bool = False, is_impatient: bool = False, **settings: Any) -> Server:
        env = {**misbehaving(**settings), "LOCAL_LAYER": str(folder)}
        args = IMPATIENT[server_name] if is_impatient else ()
        return start_server(server_name, redis=redis, env=env, args=args)

    return run


@pytest.fixture
def server(server_name: ServerName, shared_server: StartServer) -> Server:
    """One for all tests that leave it as it was."""
    return shared_server(server_name, env=misbehaving())


@contextlib.contextmanager
def pushed(server: Server, order: bytes = b"200 1000000") -> Iterator[tuple[RawClient, str]]:
    """A client that doesn't read what it is sent, and its connection id."""
    with raw_client(server, "/push", receive_buffer=65536) as client:
        connection_id = client.receive()[1].decode()
        if order:
            client.send(order)
        yield client, connection_id


@contextlib.contextmanager
def opened(server: Server, path: str = "/count", **options: Any) -> Iterator[RawClient]:
    """A client that has its connection id."""
    with raw_client(server, path, **options) as client:
        client.receive()
        yield client


@contextlib.contextmanager
def talking(server: Server) -> Iterator[None]:
    """A neighbour's round trips, one after the other; the longest may not take seconds."""
    over, counts = threading.Event(), []

    def talk() -> None:
        with connect(f"{server.ws_url}/id") as client:
            client.recv(SECONDS)
            while not over.is_set():
                client.send("here")
                assert client.recv(5.0) == "here"
                counts.append(1)

    with ThreadPoolExecutor(1) as pool:
        talk_ends = pool.submit(talk)
        try:
            yield
        finally:
            over.set()
        talk_ends.result()
    assert len(counts) > 10


class Peak:
    """The most memory that a process has while this is entered."""

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.growth = 0

    def __enter__(self) -> Self:
        self._before = self._server.memory()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._over.wait(0.02)
            self.growth = max(self.growth, self._server.memory() - self._before)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def is_reset(client: RawClient) -> bool:
    try:
        client.send(b"x")
    except ConnectionError:
        return True
    return False


def close_from_outside(server: Server, connection_id: str) -> None:
    with default_layer(LocalChannelLayer(directory=server.env["LOCAL_LAYER"])):
        asyncio.run(close_websocket_connection(connection_id, 4000))


def check_ended(server: Server, code: int, warning: str = "") -> None:
    """One has ended; who waited in `send()` was woken, and at most one line is about it."""
    server.wait_log(f"disconnect called code={code}", SECONDS)
    server.wait_log("push has ended", SECONDS)
    if warning:
        server.wait_log(f"WARNING panther_channels .*slow consumer, {warning}")
    ends = server.log.count(f"disconnect called code={code}")
    assert ends == server.log.count("push has ended") == 1
    assert server.log.count("WARNING") == bool(warning), server.log
    assert "Traceback" not in server.log


# Who doesn't read


@pytest.mark.parametrize(
    ("server_name", "redis"), [*((name, False) for name in ALL_SERVERS), ("daphne", True)]
)
def test_outside_sends_to_a_client_that_never_reads(redis: bool, start: Start):
    server = start(redis=redis)
    with (
        pushed(server, b"") as (stuck, stuck_id),
        connect(f"{server.ws_url}/id") as neighbour,
        Peak(server) as peak,
        talking(server),
    ):
        command = [sys.executable, "-c", SENDER, stuck_id, str(neighbour.recv(SECONDS))]
        env = {**os.environ, "PYTHONPATH": str(ROOT), **server.env}
        with subprocess.Popen(command, cwd=ROOT, env=env) as sending:
            for number in range(100):
                assert neighbour.recv(SECONDS) == str(number)
        assert sending.returncode == 0
        server.wait_log("WARNING panther_channels .*slow consumer, more than 1048576 bytes wait")
        server.wait_log("disconnect called code=1013")
        # The transport has gone, and with it what waited.
        wait_until(lambda: is_reset(stuck))
    assert peak.growth < GROWTH
    assert server.log.count("slow consumer") == 1
    assert "Traceback" not in server.log


def test_a_handler_that_sends_to_a_client_that_never_reads(start: Start):
    server = start(WS_SEND_TIMEOUT=2)
    with Peak(server) as peak, talking(server), pushed(server) as (stuck, _):
        server.wait_log("disconnect called code=1013", SECONDS)
        assert stuck.end() in {(1013, "slow consumer"), (1006, "")}  # it may be late for the frame
    assert peak.growth < GROWTH
    check_ended(server, 1013, "nothing was taken for 2 seconds")


def test_a_stuck_client_is_closed_from_outside(start: Start):
    """Nothing has to come to the help of who waits in `send()`; what waits is dropped in time."""
    server = start(WS_SEND_TIMEOUT=3)
    with pushed(server) as (stuck, stuck_id):
        close_from_outside(server, stuck_id)
        check_ended(server, 4000)
        wait_until(lambda: is_reset(stuck))


def test_a_stuck_client_that_leaves(start: Start):
    server = start()
    with pushed(server) as (stuck, _):
        stuck.receive()
        stuck.socket.close()
        check_ended(server, 1006)


@pytest.mark.parametrize("server_name", ["daphne"])
def test_a_stuck_client_that_answers_no_ping(start: Start):
    """Uvicorn's close would wait for the client to read: there it is WS_SEND_TIMEOUT."""
    server = start(is_impatient=True)
    with pushed(server):
        check_ended(server, 1006)


def test_who_answers_no_ping(start: Start):
    server = start(is_impatient=True)
    with opened(server):
        server.wait_log("disconnect called", SECONDS)


def test_the_server_stops_while_a_client_never_reads(start: Start):
    """Alone, uvicorn waits for as long as the client doesn't read."""
    server = start(WS_SHUTDOWN_TIMEOUT=2.5)
    with pushed(server) as (stuck, _):
        stuck.take(2)
        assert server.terminate(8.5) in {0, -signal.SIGTERM}
    check_ended(server, 1012)


def test_who_takes_its_time_to_answer_a_close(start: Start):
    server = start()
    with pushed(server, b"") as (client, connection_id):
        close_from_outside(server, connection_id)
        assert client.closed()[0] == 4000
        client.socket.settimeout(2)
        with pytest.raises(TimeoutError):  # it is waited for, and not reset
            client.socket.recv(1)
        client.socket.sendall(close(4000))
        assert client.socket.recv(1) == b""


def test_a_slow_reader_stays(start: Start):
    server = start(is_impatient=True, WS_SEND_TIMEOUT=2)
    for attempt in range(3):
        try:
            read_slowly(server)
            break
        except ConnectionResetError:
            if attempt == 2:  # this machine may be too busy to read 2 MB/s
                raise
    assert "slow consumer" not in server.log


def read_slowly(server: Server) -> None:
    # Of which the system's buffers take less than a half.
    with pushed(server, b"10 1000000") as (slow, _):
        slow.chunk, slow.pause = 40_000, 0.02
        for _ in range(10):
            opcode, payload = slow.receive()
            assert (opcode, len(payload)) == (TEXT, MB)
        slow.send(b"1 3")
        assert slow.receive() == (TEXT, b"xxx")


# Who writes without end


def test_a_flood_to_a_slow_handler(server: Server):
    one = frame(b"x" * 10_000)
    with opened(server, "/slow") as client:
        with Peak(server) as peak:
            went = client.flood(one * 100, 0.5, 150 * MB)
        assert went < 30 * MB  # the rest waits at the client
        assert peak.growth < GROWTH
        # And it goes on when the handler has taken what there was.
        client.socket.sendall(one[went % len(one) :] + frame(b"here"))
        assert client.receive() == (TEXT, b"here")


@pytest.fixture
def deflating(server: Server, server_name: ServerName) -> Server:
    if server_name != "uvicorn":
        with opened(server, deflate=True) as client:
            assert not client.deflates
        pytest.skip("it doesn't compress")
    return server


def test_a_flood_of_compressed_messages(deflating: Server):
    """192 MB, which are 0.6 MB on the way."""
    data = frame(deflated(b"x" * 16_000), extension_bits=4) * 12_000
    with opened(deflating, "/slow", deflate=True) as client:
        with Peak(deflating) as peak:
            assert client.flood(data, 0.5, len(data)) == len(data)
            with connect(f"{deflating.ws_url}/id") as neighbour:
                neighbour.recv(SECONDS)  # what has come was read
        assert peak.growth < 10 * MB


@pytest.mark.parametrize("deflate", [False, True])
def test_a_burst_is_handled_whole_and_in_order(deflate: bool, server: Server):
    with opened(server, deflate=deflate) as client:
        sizes, burst = range(1000, 2000), b""
        for size in sizes:
            data = deflated(b"x" * size) if client.deflates else b"x" * size
            burst += frame(data, extension_bits=4 * client.deflates) + frame(b"", PING) * (size % 2)
        client.socket.sendall(burst)
        frames = [client.receive() for _ in range(1500)]
        assert [int(data) for kind, data in frames if kind == TEXT] == list(sizes)
        client.send(b"", CLOSE)
        assert client.receive() == (CLOSE, b"")


def test_a_flood_behind_a_handshake(server: Server):
    """It waits for the answer, and is handled then."""
    mark, one = server.mark(), frame(b"x" * 1000)
    with raw_client(server, "/gate/open", is_waiting=False) as client:
        server.wait_log("waits at the gate", SECONDS, since=mark)
        with Peak(server) as peak:
            went = client.flood(one * 1000, 0.5, 50 * MB)
        assert went < 30 * MB
        assert peak.growth < 10 * MB
        with connect(f"{server.ws_url}/gate/opened"):
            client.open()
        for _ in range(went // len(one)):
            assert client.receive() == (TEXT, b"1000")


# Pings


def test_a_ping_waits_for_a_client_that_does_not_read(server: Server):
    """Messages don't: who writes all of them before it reads any would never be done."""
    one = frame(b"x" * 10_000)
    with opened(server, "/both", receive_buffer=65536) as client:
        client.send(b"20 1000000")
        assert client.flood(one * 100, 5.0, 30 * MB) >= 30 * MB
        client.send(b"late", PING)
        went = client.flood(one * 100, 0.5, 60 * MB)
        assert went < 30 * MB
        frames = [client.receive() for _ in range(21)]
        assert frames.index((PONG, b"late")) > 2
        client.socket.sendall(one[went % len(one) :] + frame(b"1 4"))
        assert client.receive() == (TEXT, b"xxxx")


def test_a_pong_that_is_not_read_yet(server_name: ServerName, start_server: StartServer):
    """It waits behind messages, and these for the handler."""
    server = start_server(server_name, env=misbehaving(), args=IMPATIENT[server_name])
    with connect(f"{server.ws_url}/receive") as client:
        client.recv(SECONDS)
        for seconds in ("3", *["0" * 1000] * 200):
            client.send(seconds)
        server.wait_log("handled 3$", SECONDS)
        assert client.ping().wait(SECONDS)


# Sizes


@pytest.mark.parametrize(
    ("part", "total", "reason"),
    [(b"", 12 * MB, TOO_MANY), (b"ab", 4 * MB, TOO_MANY), (b"x" * 16_000, 24 * MB, TOO_LARGE)],
    ids=["empty", "two bytes", "16 kB"],
)
def test_a_message_that_never_ends(part: bytes, total: int, reason: str, server: Server):
    one = frame(part, CONTINUATION, fin=False)
    with opened(server) as client:
        client.send(b"", TEXT, fin=False)
        with Peak(server) as peak:
            client.flood(one * (100_000 // len(one)), 5.0, total)
        assert peak.growth < 10 * MB
        assert client.closed() == (1009, reason)


def test_what_comes_behind_a_fault_is_not_kept(server: Server):
    with opened(server) as client:
        client.socket.sendall(frame(b"", PING, size=2**40))
        with Peak(server) as peak, contextlib.suppress(ConnectionError):
            client.flood(b"x" * MB, 1.0, 100 * MB)
        assert peak.growth < 10 * MB
        assert client.closed()[0] in {1002, 1009}


RANDOM = random.Random(1).randbytes(LIMIT)


def halves(data: bytes, extension_bits: int = 0) -> bytes:
    first, second = data[: len(data) // 2], data[len(data) // 2 :]
    head = frame(first, BINARY, fin=False, extension_bits=extension_bits)
    return head + frame(second, CONTINUATION)


PART = frame(b"x" * 205, CONTINUATION, fin=False)
LAST = frame(b"x" * (LIMIT - 205 * 5112), CONTINUATION)
EXACTLY = {
    "fragments": halves(RANDOM),
    "the most fragments": frame(b"", BINARY, fin=False) + PART * 5112 + LAST,
}
EXACTLY_DEFLATED = {
    "compressible": frame(deflated(b"x" * LIMIT), BINARY, extension_bits=4),
    "incompressible": frame(deflated(RANDOM), BINARY, extension_bits=4),
    "fragments": halves(deflated(RANDOM), extension_bits=4),
    "an empty last fragment": frame(deflated(RANDOM), BINARY, fin=False, extension_bits=4)
    + frame(b"", CONTINUATION),
}


@pytest.mark.parametrize("case", EXACTLY)
def test_exactly_the_largest_message(case: str, server: Server):
    with opened(server) as client:
        client.socket.sendall(EXACTLY[case])
        assert client.receive() == (TEXT, b"%d" % LIMIT)
        client.socket.sendall(halves(RANDOM + b"x"))
        assert client.closed() == (1009, TOO_LARGE)


@pytest.mark.parametrize("case", EXACTLY_DEFLATED)
def test_exactly_the_largest_compressed_message(case: str, deflating: Server):
    with opened(deflating, deflate=True) as client:
        client.socket.sendall(EXACTLY_DEFLATED[case])
        assert client.receive() == (TEXT, b"%d" % LIMIT)
        client.socket.sendall(frame(deflated(RANDOM + b"x"), BINARY, extension_bits=4))
        assert client.closed() == (1009, TOO_LARGE)


def test_a_stream_that_ends_with_its_message(deflating: Server):
    """RFC 7692 section 7.2.3.4; what follows begins another one."""
    with opened(deflating, deflate=True) as client:
        for size in (3, 4):
            stream = zlib.compressobj(wbits=-12)
            data = stream.compress(b"x" * size) + stream.flush() + b"\0"
            client.socket.sendall(frame(data, extension_bits=4))
            assert client.receive() == (TEXT, b"%d" % size)


def test_a_limit_of_ones_own(start: Start):
    with opened(start(WS_MAX_MESSAGE_SIZE=3 * MB)) as client:
        client.send(b"x" * 3 * MB)
        assert client.receive() == (TEXT, b"3000000")
        client.send(b"x" * 3 * MB + b"x")
        assert client.closed() == (1009, "a message has 3000000 bytes at most")
