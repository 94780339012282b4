"""The load client, a process of its own: loads one server and prints one line of JSON.

picows is written in C and answers a frame in the callback that brings it, so that one core of load
is enough for any of the servers; the CPU shares in the result tell whether that was so.
"""

import argparse
import asyncio
import json
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

CONNECTIONS = 50
IN_FLIGHT = 4
MESSAGE = b"0123456789" * 10
HANDSHAKES_AT_ONCE = 10

_DEADLINE = 10.0
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


class Clock:
    """Counts, and reads the processor time of both sides with the wall clock."""

    def __init__(self, server_pid: int) -> None:
        self.count = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server = psutil.Process(server_pid)

    def fail(self, text: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(RuntimeError(text))

    async def measure(self, seconds: float) -> Window:
        before = self._read()
        await self.wait(seconds)
        elapsed, count, client, server = (
            after - earlier for after, earlier in zip(self._read(), before, strict=True)
        )
        return Window(count / elapsed, client / elapsed, server / elapsed)

    async def wait(self, seconds: float) -> None:
        """Lets the load run, or raises what it failed of."""
        await asyncio.wait([self.failed], timeout=seconds)
        if self.failed.done():
            self.failed.result()

    def _read(self) -> tuple[float, int, float, float]:
        server = self._server.cpu_times()
        return time.perf_counter(), self.count, time.process_time(), server.user + server.system


class Echoes(WSListener):
    """Sends the next message for each one that comes back, until ``running`` is cleared."""

    running = True

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checked = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._checked or frame.payload_size != len(MESSAGE):
            self._check(transport, frame)
        self._clock.count += 1
        if Echoes.running:
            transport.send(WSMsgType.TEXT, MESSAGE)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if Echoes.running:
            self._clock.fail("The server closed a connection under load.")

    def _check(self, transport: WSTransport, frame: WSFrame) -> None:
        self._checked = True
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type is not WSMsgType.TEXT or frame.get_payload_as_bytes() != MESSAGE:
            self._clock.fail(f"Not what was sent: {frame}")


class Handshakes:
    """Opens, closes and opens again, until ``running`` is cleared.

    By plain sockets: here a client that makes objects for every connection would be the bottleneck.
    """

    running = True

    def __init__(self, clock: Clock, host: str, port: int) -> None:
        self._clock = clock
        self._address = (host, port)
        self._request = _OPENING.format(host=host, port=port).encode()
        self._loop = asyncio.get_running_loop()
        self._received: dict[socket.socket, bytes] = {}
        self.idle = asyncio.Event()

    def open(self) -> None:
        connection = socket.create_connection(self._address, timeout=_DEADLINE)
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
        if not received.startswith(b"HTTP/1.1 101 ") or not received.endswith(_CLOSED):
            self._clock.fail(f"Not the answers to an opening and a closing handshake: {received!r}")
        elif self.running:
            self._clock.count += 1
            self.open()
        if not self._received:
            self.idle.set()


async def echo(url: str, clock: Clock, warm_up: float, seconds: float) -> Window:
    opened = await asyncio.gather(
        *(ws_connect(lambda: Echoes(clock), url) for _ in range(CONNECTIONS))
    )
    for transport, _listener in opened:
        for _ in range(IN_FLIGHT):
            transport.send(WSMsgType.TEXT, MESSAGE)
    await clock.wait(warm_up)
    window = await clock.measure(seconds)
    Echoes.running = False
    for transport, _listener in opened:
        transport.send_close(WSCloseCode.OK)
    async with asyncio.timeout(_DEADLINE):
        await asyncio.gather(*(transport.wait_disconnected() for transport, _listener in opened))
    return window


async def connects(url: str, clock: Clock, warm_up: float, seconds: float) -> Window:
    parts = urlsplit(url)
    handshakes = Handshakes(clock, parts.hostname or "", parts.port or 80)
    for _ in range(HANDSHAKES_AT_ONCE):
        handshakes.open()
    await clock.wait(warm_up)
    window = await clock.measure(seconds)
    handshakes.running = False
    async with asyncio.timeout(_DEADLINE):
        await handshakes.idle.wait()
    return window


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["echo", "connects"])
    parser.add_argument("url")
    parser.add_argument("server_pid", type=int)
    parser.add_argument("warm_up", type=float)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    load = echo if options.kind == "echo" else connects
    window = await load(options.url, Clock(options.server_pid), options.warm_up, options.seconds)
    print(json.dumps(vars(window)))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
