"""The load client, a process of its own: loads one server and prints one line of JSON.

picows is written in C and answers a frame in the callback that brings it, so that one core of load
is enough for any of the servers; the CPU shares in the result tell whether that was so.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import psutil
import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

CONNECTIONS = 50
IN_FLIGHT = 4
MESSAGE = b"0123456789" * 10
HANDSHAKES_AT_ONCE = 10
IDLE, IDLE_WARM_UP = 500, 100

DEADLINE = 20.0
# What a peer's protocol makes of the message, by the name that its server's environment has.
_TEXT = MESSAGE.decode()
WORDS = {
    "": MESSAGE,
    "own": MESSAGE,
    "chanx": json.dumps({"action": "echo", "payload": _TEXT}).encode(),
    "socketio": f'42["echo","{_TEXT}"]'.encode(),
}
_OPENING = (
    "GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A masked close frame with code 1000 (the mask is zero), and its unmasked answer.
_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
_CLOSED = b"\r\n\r\n\x88\x02\x03\xe8"


@dataclass
class Window:
    """What happened between two moments: counts and processor time per second."""

    rate: float
    client_cpu: float
    server_cpu: float


class Run:
    """Lets a load run until one of its connections fails."""

    def __init__(self) -> None:
        self.count = 0
        self.running = True
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, text: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(RuntimeError(text))

    async def wait(self, seconds: float) -> None:
        """Lets the load run, or raises what it failed of."""
        await asyncio.wait([self._failed], timeout=seconds)
        if self._failed.done():
            self._failed.result()

    async def close(self, transports: Iterable[WSTransport]) -> None:
        self.running = False
        opened = list(transports)
        for transport in opened:
            transport.send_close(WSCloseCode.OK)
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(transport.wait_disconnected() for transport in opened))


class Clock(Run):
    """Reads the processor time of both sides with the wall clock."""

    def __init__(self, server: psutil.Process, warm_up: float, seconds: float) -> None:
        super().__init__()
        self._server = server
        self._warm_up, self._seconds = warm_up, seconds

    async def measure(self) -> Window:
        await self.wait(self._warm_up)
        before = self._read()
        await self.wait(self._seconds)
        elapsed, count, client, server = (
            after - earlier for after, earlier in zip(self._read(), before, strict=True)
        )
        return Window(count / elapsed, client / elapsed, server / elapsed)

    def _read(self) -> tuple[float, int, float, float]:
        server = self._server.cpu_times()
        return time.perf_counter(), self.count, time.process_time(), server.user + server.system


class Echoes(WSListener):
    """Sends the next message for each one that comes back, for as long as the clock runs."""

    def __init__(self, clock: Clock, protocol: str) -> None:
        self._clock = clock
        self._message = WORDS[protocol]
        self._length = 0
        self._is_greeting = protocol == "socketio"

    def begin(self, transport: WSTransport) -> None:
        for _ in range(IN_FLIGHT):
            transport.send(WSMsgType.TEXT, self._message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._is_greeting:
            self._greet(transport, frame.get_payload_as_bytes())
            return
        if frame.payload_size != self._length:
            self._check(transport, frame)
        self._clock.count += 1
        if self._clock.running:
            transport.send(WSMsgType.TEXT, self._message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._clock.running:
            self._clock.fail("The server closed a connection under load.")

    def _greet(self, transport: WSTransport, text: bytes) -> None:
        """Socket.IO has a handshake of its own: the server opens, the client joins."""
        if text.startswith(b"0"):
            transport.send(WSMsgType.TEXT, b"40")
        elif text.startswith(b"40"):
            self._is_greeting = False
            self.begin(transport)

    def _check(self, transport: WSTransport, frame: WSFrame) -> None:
        text = frame.get_payload_as_bytes()
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type is not WSMsgType.TEXT or MESSAGE not in text or self._length:
            self._clock.fail(f"Not what was sent: {frame}")
        self._length = len(text)


class Handshakes:
    """Opens, closes and opens again, for as long as the clock runs.

    By plain sockets: here a client that makes objects for every connection would be the bottleneck.
    """

    def __init__(self, clock: Run, host: str, port: int) -> None:
        self._clock = clock
        self._address = (host, port)
        self._request = _OPENING.format(host=host, port=port).encode()
        self._loop = asyncio.get_running_loop()
        self._received: dict[socket.socket, bytes] = {}
        # Peers that are their own servers answer to a close in different ways, or not at all.
        self._closed = b"" if os.environ.get("BENCHMARK_PROTOCOL") == "own" else _CLOSED
        self.idle = asyncio.Event()

    def open(self) -> None:
        connection = socket.create_connection(self._address, timeout=DEADLINE)
        connection.sendall(self._request)
        connection.setblocking(False)
        self._received[connection] = b""
        self._loop.add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        before = self._received[connection]
        try:
            data = connection.recv(65536)
        except ConnectionError as error:
            self._clock.fail(f"{error!r} after {before!r}")
            data = b""
        if not data:
            self._end(connection, before)
            return
        self._received[connection] = before + data
        if b"\r\n\r\n" in self._received[connection] and b"\r\n\r\n" not in before:
            connection.sendall(_CLOSE)

    def _end(self, connection: socket.socket, received: bytes) -> None:
        self._loop.remove_reader(connection)
        connection.close()
        del self._received[connection]
        if not received.startswith(b"HTTP/1.1 101 ") or not received.endswith(self._closed):
            self._clock.fail(f"Not the answers to an opening and a closing handshake: {received!r}")
        elif self._clock.running:
            self._clock.count += 1
            self.open()
        if not self._received:
            self.idle.set()


async def echo(url: str, clock: Clock) -> Window:
    protocol = os.environ.get("BENCHMARK_PROTOCOL", "")
    opened = [await ws_connect(lambda: Echoes(clock, protocol), url) for _ in range(CONNECTIONS)]
    for transport, listener in opened:
        if protocol != "socketio":
            cast(Echoes, listener).begin(transport)
    window = await clock.measure()
    # What is under way comes back: some servers are busy for long with what is lost.
    clock.running, due = False, clock.count + CONNECTIONS * IN_FLIGHT
    async with asyncio.timeout(DEADLINE):
        while clock.count < due:
            await clock.wait(0.01)
    await clock.close(transport for transport, _listener in opened)
    return window


async def connects(url: str, clock: Clock) -> Window:
    parts = urlsplit(url)
    handshakes = Handshakes(clock, parts.hostname or "", parts.port or 80)
    for _ in range(HANDSHAKES_AT_ONCE):
        handshakes.open()
    window = await clock.measure()
    clock.running = False
    async with asyncio.timeout(DEADLINE):
        await handshakes.idle.wait()
    return window


async def memory(url: str, server: psutil.Process) -> float:
    """Bytes of an idle connection; the first ones make the server load what it loads late."""
    opened = [await ws_connect(WSListener, url) for _ in range(IDLE_WARM_UP)]
    before = server.memory_info().rss
    opened += [await ws_connect(WSListener, url) for _ in range(IDLE)]
    grown = server.memory_info().rss - before
    for transport, _listener in opened:
        transport.disconnect()
    return grown / IDLE


async def main() -> None:
    kind, url, server_pid, warm_up, seconds = sys.argv[1:]
    server = psutil.Process(int(server_pid))
    if kind == "memory":
        print(await memory(url, server))
    else:
        load = echo if kind == "echo" else connects
        print(json.dumps(vars(await load(url, Clock(server, float(warm_up), float(seconds))))))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
