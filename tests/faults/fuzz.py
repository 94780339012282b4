"""Random input: `python -m tests.faults.fuzz frames|node|handshake [daphne|uvicorn] --minutes 10`.

Ends with an exception, and the latest inputs, at the first that does harm.
"""

import argparse
import asyncio
import contextlib
import itertools
import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
from django.conf import settings as django_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.local.frames import Decoder, FrameError, Kind, encode, unpack
from tests.faults import wire
from tests.servers import SERVER_NAMES, Server, ServerName

HARM = ("Traceback", "CRITICAL", "never retrieved", "Unhandled")

# Frames of the local channel layer

names = st.text(max_size=20) | st.sampled_from(["room", "specific.x!y", "", "of-", "../x"])
payloads = st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary()
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text() | st.integers(0, 9) | st.booleans(), inner, max_size=3
    ),
    max_leaves=8,
).map(msgpack.packb)  # fmt: skip
whole = st.builds(encode, st.sampled_from(Kind), names, payloads)
fields = st.tuples(st.integers(-2, 300), names | st.binary(max_size=9), payloads | names)
odd = fields.map(msgpack.packb).map(lambda body: len(body).to_bytes(4, "big") + body)
torn = st.tuples(whole | odd, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])


@st.composite
def dented(draw: Callable[[Any], Any]) -> bytes:
    """A frame with a byte that is another one."""
    found = bytearray(draw(whole))
    found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found)


streams = st.lists(whole | odd | dented() | torn | st.binary(max_size=64), max_size=8).map(b"".join)


def decode(data: bytes, cuts: list[int]) -> tuple[list[Any], bool]:
    """The frames in a stream that comes in pieces, and whether it broke off."""
    decoder, found = Decoder(), list[Any]()
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    try:
        for start, end in itertools.pairwise(places):
            found.extend(decoder.feed(data[start:end]))
    except FrameError:
        return found, True
    return found, False


def check_frames(data: bytes, cuts: list[int]) -> None:
    """However it is torn apart, a stream says the same, and what can't be read is a ValueError."""
    frames, is_broken = decode(data, cuts)
    assert (frames, is_broken) == decode(data, [])
    for _, _, payload in frames:
        with contextlib.suppress(ValueError):
            assert isinstance(unpack(payload), dict)


class Live:
    """A layer whose socket strangers write to."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._runner = asyncio.Runner()
        self._layer = LocalChannelLayer(directory=directory)
        self._sender = LocalChannelLayer(directory=directory)
        self._channel = self._runner.run(self._layer.new_channel())

    def check(self, data: bytes, cuts: list[int]) -> None:
        """What a stranger writes does nothing to what others send."""
        self._runner.run(self._check(data))

    async def _check(self, data: bytes) -> None:
        path = f"{self._directory}/panther-{self._layer.node()}"
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.001)  # it is read, and may have emptied everything
        await self._layer.group_add("others", self._channel)
        await self._sender.group_send("others", {"type": "intact"})
        async with asyncio.timeout(10):
            while True:
                try:
                    if await self._layer.receive(self._channel) == {"type": "intact"}:
                        return
                except ValueError:  # a payload that is no message
                    continue

    def close(self) -> None:
        self._runner.close()


# Handshakes

odd_bytes = st.binary(max_size=30) | st.text(max_size=20).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
parts = st.sampled_from(
    [b"/", b"//", b"ws", b"echo", b"id", b"reject", b"describe", b"..", b"%2F", b"%00", b"%ff",
     b"%zz", b"%0d%0a", b";", b"?", b"&", b"=", b"#", b"[", b"]", b"http://", b"@", b":99999",
     b"token", b"authorization", b"1e5", b"-1", b"\xc3\xa9", b"\x00", b" ", b"*", b"a" * 3000]
)  # fmt: skip
targets = (
    st.lists(parts | odd_bytes, max_size=8).map(b"".join)
    | st.lists(parts | odd_bytes, max_size=5).map(lambda found: b"/ws/echo?" + b"".join(found))
    | st.lists(parts | odd_bytes, max_size=5).map(lambda found: b"/ws/describe/" + b"".join(found))
    | st.just(b"/ws/echo")
)
known = st.sampled_from(
    [b"Host", b"Origin", b"Cookie", b"Authorization", b"Sec-WebSocket-Protocol",
     b"Sec-WebSocket-Extensions", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Upgrade",
     b"Connection", b"Daphne-Root-Path", b"X-Forwarded-For", b"X-Forwarded-Host",
     b"X-Forwarded-Proto", b"User-Agent", b"Expect", b"X"]
)  # fmt: skip
values = st.lists(
    st.sampled_from(
        [b"http://", b"[::1", b"127.0.0.1", b":99999", b"null", b",", b";", b"=", b"sessionid",
         b"permessage-deflate", b"client_max_window_bits=99", b"Bearer ", b"eyJhbGciOiJub25lIn0",
         b"panther.bearer", b"a", b"websocket", b"Upgrade", b"\xff", b"\xc3\xa9", b"%ff", b"\x00",
         b"\r", b"\n", b"\t", b"x" * 5000, b"13"]
    ) | odd_bytes,
    max_size=6,
).map(b"".join)  # fmt: skip
lines = st.tuples(known | st.binary(max_size=12), values).map(b": ".join) | odd_bytes
methods = st.sampled_from([b"GET"] * 8 + [b"POST", b"HEAD", b"get", b"CONNECT", b"", b"G\x00T"])
handshakes = st.builds(
    lambda target, more, method: wire.request(target, *more, method=method),
    *(targets, st.lists(lines, max_size=6), methods),
)
frames = st.lists(
    st.builds(wire.close, st.integers(0, 65535), odd_bytes)
    | st.builds(
        wire.frame,
        *(st.integers(0, 15), st.binary(max_size=140)),
        head=st.sampled_from([0x80] * 4 + [0, 0x40, 0xC0, 0xF0]),
        mask=st.booleans(),
        size=st.sampled_from([-1] * 6 + [0, 130, 70000, 2**63 - 1, 2**64 - 1]),
    )
    | st.binary(max_size=40),
    max_size=4,
).map(b"".join)
# What has a body isn't over with its headers, and whoever waits for that is right.
BODY = (b"content-length", b"transfer-encoding")


class Handshakes:
    """A server, and a client of good manners whom the others must not disturb."""

    def __init__(self, server: Server, neighbour: ClientConnection) -> None:
        self._server = server
        self._neighbour = neighbour
        self._latest: deque[tuple[bytes, bytes]] = deque(maxlen=10)
        self._log = server.log_path.open("r", encoding="utf-8", errors="replace")
        self._count = 0

    def check(self, opening: bytes, data: bytes) -> None:
        """It is answered, not by 500, without a traceback, and others notice nothing."""
        if any(word in opening.lower() for word in BODY):
            return
        self._latest.append((opening, data))
        # Who is promised more bytes waits for them, until there can be none.
        answer = wire.exchange(self._server.port, opening, data + wire.close(1000), hang_up=True)
        assert answer.partition(b"\r\n")[0].split()[1:2] != [b"500"], self._report(answer)
        new = self._log.read()
        assert not any(word in new for word in HARM), self._report(new.encode())
        self._count += 1
        if self._count % 20 == 0:
            self._neighbour.send("still there?")
            assert self._neighbour.recv(timeout=10) == "still there?"

    def _report(self, what: bytes) -> str:
        latest = "\n".join(map(repr, self._latest))
        return f"{what.decode(errors='replace')}\nthe latest, in their order:\n{latest}"

    def close(self) -> None:
        """A last look, when all that is to be logged is logged."""
        self._neighbour.send("and now?")
        assert self._neighbour.recv(timeout=10) == "and now?"
        with connect(f"{self._server.ws_url}/ws/echo") as client:
            client.send("a new one")
            assert client.recv(timeout=10) == "a new one"
        assert not any(word in self._server.log for word in HARM), self._server.log[-20000:]
        self._log.close()


def run(check: Callable[..., None], *inputs: st.SearchStrategy[Any], seconds: float) -> int:
    """Calls it with random inputs for a while, and 60 times at least; how often."""
    count, end = 0, time.monotonic() + seconds

    # Without shrinking: what did the harm may be an input before the last.
    @settings(
        max_examples=200,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*inputs))
    def once(arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if time.monotonic() < end or count < _LEAST:
            check(*arguments)
            count += 1

    while time.monotonic() < end or count < _LEAST:
        once()
    return count


_LEAST = 60

cuts = st.lists(st.integers(0, 300), max_size=5)


def fuzz_frames(seconds: float) -> int:
    """The decoder."""
    return run(check_frames, streams, cuts, seconds=seconds)


def fuzz_node(seconds: float) -> int:
    """A live layer."""
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as directory:
        live = Live(f"{directory}/l")
        try:
            return run(live.check, streams, cuts, seconds=seconds)
        finally:
            live.close()


def fuzz_handshake(server: Server, seconds: float) -> int:
    """A server of tests/project."""
    with connect(f"{server.ws_url}/ws/echo") as neighbour:
        handshaking = Handshakes(server, neighbour)
        try:
            return run(handshaking.check, handshakes, frames, seconds=seconds)
        finally:
            handshaking.close()


def _served(name: ServerName, log_path: Path) -> Iterator[Server]:
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
        "LOCAL_LAYER": f"{log_path.parent}/l",
    }
    with Server(name, "tests.project.asgi:application", log_path=log_path, env=env) as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["frames", "node", "handshake"])
    parser.add_argument("server", choices=SERVER_NAMES, nargs="?", default="daphne")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    seconds = options.minutes * 60
    if options.what == "handshake":
        with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as folder:
            for server in _served(options.server, Path(folder, "log")):
                count = fuzz_handshake(server, seconds)
    else:
        django_settings.configure()
        # Each garbage is a line of the log, which is seen once.
        logging.disable(logging.ERROR)
        count = {"frames": fuzz_frames, "node": fuzz_node}[options.what](seconds)
    print(f"{count:,} inputs, no harm")  # noqa: T201


if __name__ == "__main__":
    main()
