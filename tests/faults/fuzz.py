"""Random input, for as many seconds as FUZZ_SECONDS says: `pytest tests/faults -k fuzzed`.

Ends with an exception, and the latest inputs, at the first that does harm.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection, connect

from tests import wire
from tests.servers import Server

HARM = ("Traceback", "CRITICAL", "never retrieved", "Unhandled")

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
        *(st.binary(max_size=140), st.integers(0, 15)),
        fin=st.sampled_from([True] * 4 + [False]),
        extension_bits=st.sampled_from([0] * 4 + [4, 7]),
        is_masked=st.booleans(),
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
        answer = wire.exchange(self._server, opening, data + wire.close(1000), hang_up=True)
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


SECONDS = float(os.environ.get("FUZZ_SECONDS", "3"))
_LEAST = 60


def run(check: Callable[..., None], *inputs: st.SearchStrategy[Any]) -> int:
    """Calls it with random inputs for a while, and 60 times at least; how often."""
    count, end = 0, time.monotonic() + SECONDS

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


def fuzz_handshake(server: Server) -> int:
    """A server of tests/project."""
    with connect(f"{server.ws_url}/ws/echo") as neighbour:
        handshaking = Handshakes(server, neighbour)
        try:
            return run(handshaking.check, handshakes, frames)
        finally:
            handshaking.close()
