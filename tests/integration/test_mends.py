"""What is mended in daphne and uvicorn, on the wire; and the servers as they are installed.

A row of MENDS is a connection: what the application does, what the client sends, and what is seen
of it with us, on both servers; for a server that is mended, also what is seen without us.
`test_alone` fails once the server does right by itself: its mend may go.
"""

import contextlib
import fnmatch
import glob
import importlib.metadata
import itertools
import re
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from twisted.internet.abstract import FileDescriptor

from tests.conftest import StartServer
from tests.servers import ALL_SERVERS, SERVER_NAMES, Server, ServerName, suspended
from tests.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawClient,
    close,
    frame,
    raw_client,
    request,
)

APPLICATION = "tests.integration.scripted:application"
VERSIONS = {name: importlib.metadata.version(name) for name in ("daphne", "autobahn", "uvicorn")}
FIXED = f"done right by a server without us, of {VERSIONS}: its mend may go"
SECONDS = 10.0
QUIET = 1.5  # where nothing comes; longer than daphne takes to see that an application has ended
MB = 1_000_000

ACCEPT = {"type": "websocket.accept"}


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": data}


def closing(**fields: Any) -> dict[str, Any]:
    return {"type": "websocket.close", **fields}


def start(status: object = 401, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "websocket.http.response.start", "status": status, "headers": headers}


def body(data: object = b"", **fields: Any) -> dict[str, Any]:
    return {"type": "websocket.http.response.body", "body": data, **fields}


def accept(*headers: tuple[bytes, bytes], **fields: Any) -> dict[str, Any]:
    return {**ACCEPT, "headers": headers, **fields}


OPEN = text("open")


class Mend(NamedTuple):
    """A connection, and the lines in which it is told; "*" stands for any text, "no " for none."""

    name: str
    steps: Sequence[Any]
    seen: Sequence[str]
    daphne: Sequence[str] = ()  # alone
    uvicorn: Sequence[str] = ()
    on: Sequence[ServerName] = ALL_SERVERS
    lines: Sequence[bytes] = ()
    behind: bytes = b""  # sent with the request
    frames: bytes = b""  # sent when it is open
    path: str = "{}"
    leaves: bool = False
    seconds: float = SECONDS
    args: Mapping[str, tuple[str, ...]] = {}


Rows = Iterator[Mend]
DAPHNE: tuple[ServerName, ...] = ("daphne",)
UVICORN: tuple[ServerName, ...] = ("uvicorn", "picows")
OURS: tuple[ServerName, ...] = ("daphne", "picows")
RAISED = ["raised ValueError: *", "text open"]
GONE = ["no raised *", "path *"]
OFFERS = [b"Sec-WebSocket-Protocol: chat, tok%20en"]
LEGAL_CODES = (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
ILLEGAL_CODES = (0, 999, 1004, 1005, 1006, 1015, 1999, 2999, 5000, 65536, "1000", 1000.0, True)
BODIES = (b"Content-Length: 10", b"Transfer-Encoding: chunked")
BAD_HEADERS = [
    *[(b"", b"1"), (b"a b", b"1"), (b"a:", b"1"), ("é".encode(), b"1"), (b"a", b"1\r\nb: 2")],
    *[(b"a", b"1\nb: 2"), (b"a", b"\x00"), (b"a", b"\xff"), (b"Sec-WebSocket-Protocol", b"chat")],
]
GOOD_HEADERS = [
    *[(b"set-cookie", b"one=1; Path=/"), (b"x-name", "é".encode()), (b"set-cookie", b"two=2")],
    *[(b"x-empty", b""), (b"x-tab", b"a\tb")],
]
REFUSAL = [
    *[(b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
    *[(b"connection", b"keep-alive"), (b"transfer-encoding", b"chunked")],
]
# What a proxy may say, and which client that is; "-" where daphne takes it so by itself.
ADDRESSES = [
    *("1.2.3.4 1.2.3.4 0 -", "1.2.3.4:5000 1.2.3.4 5000", "unknown unknown 0 -"),
    *("2001:db8::1 2001:db8::1 0 -", "[2001:db8::1] 2001:db8::1 0"),
    *("[2001:db8::1]:5000 2001:db8::1 5000", "[fe80::1%eth0]:80 fe80::1%eth0 80"),
    *("[::ffff:1.2.3.4]:5000 ::ffff:1.2.3.4 5000", "::ffff:1.2.3.4 ::ffff:1.2.3.4 0 -"),
]
DISORDER: list[tuple[list[Any], str]] = [
    ([body()], "there is no response yet*"),
    ([start(), start()], "the response was begun already"),
    ([start(), ACCEPT], "*its body must follow, not websocket.accept"),
    ([start(), closing()], "*its body must follow, not websocket.close"),
    ([start(), text("x")], "*its body must follow, not websocket.send"),
    *[([start(code)], f"{code!r} is no status*") for code in (None, "401", 101, 199, 600)],
    ([start(403, (b"x-test", b"1\r\na: b"))], "b'x-test'*"),
]
FRAGMENTS = frame(b"", BINARY, fin=False) + frame(b"", CONTINUATION, fin=False) * 67_000


def handshakes() -> Rows:
    for header, data in itertools.product(BODIES, (b"", b"0123456789")):
        row = Mend(f"{header!r} {data!r}", [ACCEPT], ["status 400*"], on=DAPHNE, lines=[header])
        alone = [] if data else ["nothing"]
        yield row._replace(behind=data, daphne=alone)
    yield Mend("an empty body", [ACCEPT, OPEN], ["text open"], lines=[b"Content-Length: 0"])
    row = Mend("an app's origin", [ACCEPT, OPEN], ["text open"], ["status 400*"])
    yield row._replace(lines=[b"Origin: app://"])
    limit = {"daphne": ("--websocket_connect_timeout", "1")}
    row = Mend("no answer", ["receive"], ["status 503*", "end", "disconnect 1006 *"], on=DAPHNE)
    yield row._replace(daphne=["reset"], args=limit)
    for name, lines in (("a long line", [b"X: " + b"a" * 9000]), ("headers", [b"X: a"] * 130)):
        row = Mend(name, [ACCEPT], ["status 431*"], on=UVICORN, lines=lines)
        yield row._replace(uvicorn=["nothing"])


def closes() -> Rows:
    for code in LEGAL_CODES:
        steps: list[Any] = [ACCEPT, closing(code=code, reason="bye é")]
        yield Mend(f"close {code}", steps, [f"close {code} bye é", f"disconnect {code} *", "end"])
    for fields in ({}, {"code": None, "reason": None}, {"reason": ""}):
        on = OURS if "code" in fields else ALL_SERVERS
        yield Mend(f"close {fields}", [ACCEPT, closing(**fields)], ["close 1000 "], on=on)
    longest = "é" * 61 + "x"
    yield Mend("the longest reason", [ACCEPT, closing(reason=longest)], [f"close 1000 {longest}"])
    yield Mend(
        *("a reason", [ACCEPT, closing(code=4000, reason="bye")], ["close 4000 bye"]),
        daphne=["close 4000 "],
    )
    refused = ["raised * invalid close code 1008*", "no close *"]
    yield Mend("1008", [ACCEPT, closing(code=1008), OPEN], ["close 1008 "], refused)
    for wrong in ILLEGAL_CODES:
        steps = [ACCEPT, closing(code=wrong), OPEN]
        seen = [f"raised ValueError: {wrong!r} is none*", "text open"]
        yield Mend(f"close {wrong!r}", steps, seen, on=OURS)
    for reason in ("x" * 124, "é" * 62):
        steps = [ACCEPT, closing(reason=reason), OPEN]
        seen = ["raised ValueError: a close reason has at most 123 bytes*", "text open"]
        yield Mend(f"close {reason!r}", steps, seen, on=OURS)
    yield Mend("a close before accept", [closing(code=1008, reason="no")], ["status 403*"])


def accepts() -> Rows:
    seen = [
        "set-cookie: one=1; Path=/",
        "set-cookie: two=2",
        "x-name: é",
        "x-empty: ",
        "x-tab: a\tb",
    ]
    yield Mend("accept headers", [accept(*GOOD_HEADERS), OPEN], seen, ["no x-name: *", "text open"])
    for header in BAD_HEADERS:
        steps: list[Any] = [accept((b"x-good", b"1"), header), ACCEPT, OPEN]
        seen = ["raised *Error: *", "text open", "no x-good: *", "no b: *"]
        on = OURS if header[1].isascii() else DAPHNE  # autobahn writes UTF-8
        yield Mend(f"accept {header!r}", steps, seen, on=on)
    steps = [accept(subprotocol="other"), accept(subprotocol="chat"), OPEN]
    seen = ["raised ValueError: the client did not offer the subprotocol 'other'", "text open"]
    seen += ["sec-websocket-protocol: chat"]
    alone = ["nothing", "sent accept"]
    yield Mend("not offered", steps, seen, alone, on=OURS, lines=OFFERS)
    steps = [ACCEPT, ACCEPT, OPEN]
    yield Mend("two accepts", steps, ["raised ValueError: the socket is already*"], on=OURS)


def refusals() -> Rows:
    steps: list[Any] = [start(401, *REFUSAL), body(b'{"detail": "no"}')]
    seen = ["status 401 Unauthorized", 'body {"detail": "no"}', "set-cookie: a=1"]
    seen += ["set-cookie: b=2", "content-type: application/json"]
    ours = ["connection: close", "one connection: *", "content-length: 16", "no transfer-*"]
    yield Mend("a refusal", steps, [*seen, *ours], ["nothing", "sent http*body"], on=OURS)
    steps = [start(401, *REFUSAL[:3]), body(b'{"detail": "no"}')]
    yield Mend("a refusal on both", steps, seen)
    steps = [start(), body(), "receive", text("late"), start(), "scope"]
    seen = ["status 401*", "disconnect 1006 ''", *GONE]
    yield Mend("after a refusal", steps, seen, on=DAPHNE)
    steps = [start(599), body(b"one ", more_body=True), body(more_body=True), body(b"two")]
    yield Mend("in parts", steps, ["status 599*", "body one two", "content-length: 7"], on=OURS)
    steps = [start(200, (b"Content-Length", b"3")), body(b"one")]
    yield Mend(
        "a length of its own", steps, ["body one", "content-length: 3", "one content-length: *"]
    )
    for wrong, sentence in DISORDER:
        begun = [start()] if wrong[0] != start() else []
        seen = [f"raised ValueError: {sentence}", "status 401*", "body right"]
        yield Mend(f"disorder {wrong}", [*wrong, *begun, body(b"right")], seen, on=OURS)
    steps = [start(), body("text"), body(b"bytes")]
    yield Mend("a body of text", steps, ["raised TypeError: *", "body bytes"], on=OURS)
    steps = [ACCEPT, start(), body(), OPEN]
    seen = ["raised ValueError: the socket is already accepted", "text open"]
    yield Mend("a refusal after accept", steps, seen, on=OURS)
    for end in ("return", "raise"):
        steps = [start(), body(b"one", more_body=True), end]
        yield Mend(f"half a refusal {end}", steps, ["status 500*", "no body one*"], on=OURS)


def messages() -> Rows:
    empty = [text(""), {"type": "websocket.send", "bytes": b""}, {**text("x"), "bytes": None}, OPEN]
    seen = ["text ", "binary ", "text x", "text open"]
    yield Mend("empty", [ACCEPT, *empty], seen, ["no text ", "no binary ", "text open"])
    for fields in ({"text": None, "bytes": None}, {"text": "x", "bytes": b"x"}, {"text": "\ud800"}):
        steps: list[Any] = [ACCEPT, {"type": "websocket.send", **fields}, OPEN]
        on = DAPHNE if fields.get("bytes") else OURS
        yield Mend(f"message {fields}", steps, ["raised *Error: *", "text open"], on=on)
    steps = [ACCEPT, {"type": "websocket.send"}, OPEN]
    yield Mend("no payload", steps, RAISED, ["no raised *", "text open"], on=OURS)
    seen = ["raised ValueError: Socket has not been accepted*", "text open"]
    yield Mend("send before accept", [text("early"), ACCEPT, OPEN], seen, on=OURS)
    late = [text("late"), closing(code=1), ACCEPT, "scope"]
    steps = [ACCEPT, closing(code=4000), *late]
    alone = ["raised Disconnected: Attempt to send on a closed protocol"]
    yield Mend("send after close", steps, ["close 4000 ", *GONE], alone, on=DAPHNE)
    steps = [ACCEPT, "receive", text("late"), closing(), "scope"]
    yield Mend("send to nobody", steps, ["disconnect 1006 ''", *GONE], on=DAPHNE, leaves=True)
    seen = ["disconnect 1006 ''", "raised ClientDisconnected: ", "no close *"]
    yield Mend("send to nobody, as ASGI has it", steps, seen, on=["picows"], leaves=True)
    yield Mend("a large message", [ACCEPT, (2 * MB, 1), OPEN], ["text open"], ["raised Payload*"])


def closes_of_the_client() -> Rows:
    later = close(4001, "later é".encode())
    alone = ["close 1000 ", "disconnect 4001 None"]
    seen = ["close 4001 later é", "disconnect 4001 'later é'"]
    yield Mend("the client's close", [ACCEPT], seen, alone, on=DAPHNE, frames=later)
    yield Mend("the same", [ACCEPT], ["disconnect 4001 'later é'"], on=UVICORN, frames=later)
    seen, alone = ["disconnect 1005 ''"], ["disconnect None *"]
    yield Mend("no code", [ACCEPT], seen, alone, frames=frame(b"", CLOSE))
    alone = ["disconnect 1006 *"]
    yield Mend("1014", [ACCEPT], ["disconnect 1014 ''"], alone, frames=close(1014))
    amid, seen = frame(b"half", fin=False) + close(4001), ["close 4001 ", "disconnect 4001 ''"]
    yield Mend("amid a message", [ACCEPT], seen, uvicorn=["close 1002 *"], frames=amid)
    yield Mend("lost", [ACCEPT], ["disconnect 1006 ''"], on=DAPHNE, leaves=True)


def scopes() -> Rows:
    asked = [ACCEPT, "scope", OPEN]
    steps: list[Any] = [accept(subprotocol="tok%20en"), "scope", OPEN]
    seen = ["scheme ws", "http_version 1.1", "root_path ", "subprotocols chat tok%20en"]
    seen += ["extensions websocket.http.response", "sec-websocket-protocol: tok%20en"]
    row = Mend("the scope", steps, seen, lines=[*OFFERS, b"X-Forwarded-Proto: none"])
    yield row._replace(on=DAPHNE)
    yield row._replace(name="the scope of both", lines=OFFERS)
    alone = ["scheme None", "http_version None", "subprotocols tok en", "extensions none"]
    offer = [b"Sec-WebSocket-Protocol: tok%20en"]
    yield Mend("missing", asked, seen[:3], alone, lines=offer)
    yield Mend("slashes", asked, ["path //*", "text open"], path="//{}")
    yield Mend("a host", asked, ["path //a{}"], ["path {}"], path="//a{}")
    not_ascii = [b"Sec-WebSocket-Protocol: caf\xe9"]
    seen, alone = ["text open"], ["status 500*"]
    yield Mend("not ASCII", [ACCEPT, OPEN], seen, alone, on=DAPHNE, lines=not_ascii)
    proxied = {"daphne": ("--proxy-headers",)}
    for said in ("HTTPS", " https ", "wss", "http", ""):
        lines = [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: " + said.encode()]
        seen = ["scheme wss" if said.strip().lower() in ("https", "wss") else "scheme ws"]
        row = Mend(f"proxy says {said!r}", asked, seen, on=DAPHNE, lines=lines)
        yield row._replace(args=proxied)
    for said, host, port, *is_right in map(str.split, ADDRESSES):
        lines = [b"X-Forwarded-For: " + said.encode()]
        row = Mend(f"client {said}", asked, [f"client {host} {port}"], args=proxied, lines=lines)
        yield row._replace(daphne=() if is_right else [f"client {glob.escape(said)} 0"])
    unsaid = Mend("proxy says nothing", asked, ["scheme ws"], args=proxied)
    yield unsaid._replace(lines=[b"X-Forwarded-For: 1.2.3.4"])
    # No URL matches this.
    yield Mend("no host", asked, ["path http:///b"], on=UVICORN, path="http:///b")
    yield Mend("a part", asked, ["path {};x"], ["path {}"], path="{};x")
    for whole, path in (("http://a{}", "{}"), ("WS://[::1]:80{};x", "{};x"), ("http://a", "/")):
        row = Mend(f"a whole URL {whole}", asked, [f"path {path}"], path=whole)
        yield row._replace(uvicorn=[f"path {glob.escape(whole)}"])
        yield row._replace(name=f"{row.name}, h11", on=UVICORN, args={"uvicorn": ("--http", "h11")})


def ends() -> Rows:
    yield Mend("returned", [ACCEPT, "return"], ["close 1000 ", "end"], ["nothing"], on=OURS)
    yield Mend("unanswered", ["return"], ["status 500*"], ["nothing"], on=OURS)


def wrongs() -> Rows:
    large = frame(bytes(1000), BINARY, size=30 * MB)
    reset = ["no close *"]
    yield Mend("too large", [ACCEPT], ["close 1009 *", "end"], reset, frames=large)
    unmasked, long_ping = frame(b"x", is_masked=False), frame(b"x" * 126, PING)
    for name, data in (("mask", unmasked), ("ping", long_ping), ("opcode", frame(b"x", 3))):
        yield Mend(f"bad {name}", [ACCEPT], ["close 1002 *", "end"], reset, frames=data)
    trace, bad = ["log *Traceback*"], frame(b"\xff")
    yield Mend("bad text", [ACCEPT], ["close 1007 *", "end"], reset, frames=bad)
    seen = ["log INFO: * Invalid UTF-8 sequence*", "no log *Traceback*"]
    for code, frames in (("1007", bad), ("1000", bad + close(1000))):
        row = Mend(f"bad text {code}", [ACCEPT], [f"close {code} ", "end", *seen], on=["uvicorn"])
        yield row._replace(uvicorn=trace, frames=frames)
    limited: Any = dict.fromkeys(UVICORN, ("--ws-max-size", "1000"))
    seen = ["close 1009 a message has 1000 bytes at most"]
    row = Mend("a limit of uvicorn", [ACCEPT], seen, on=UVICORN, frames=frame(bytes(1001)))
    yield row._replace(args=limited, uvicorn=["close 1009 *", "no close 1009 a message*"])
    fault = frame(b"first" * 40) + frame(b"bad", extension_bits=4) + frame(b"", PING)
    seen = ["received 'first*", "disconnect 1002 *", "close 1002 *"]
    yield Mend("a fault behind", [ACCEPT], seen, [], ["no received *"], frames=fault)
    burst = frame(b"x" * 1000) * 400 + close(1000)
    steps: list[Any] = [ACCEPT, "receive", closing(code=4000)]
    row = Mend("a close in a burst", steps, ["close 4000 ", "end"], on=UVICORN, frames=burst)
    yield row._replace(seconds=3.0)
    for name, opcode in (("pings", PING), ("pongs", PONG)):
        data = frame(b"", opcode) * 1001 + frame(b"last", PING)
        alone = ["pong last", "no close *"]
        seen = ["close 1008 more than 1000 pings and pongs in 10 s"]
        yield Mend(name, [ACCEPT], seen, alone, alone, frames=data)
    alone = ["pong last", "no close *"]
    data = FRAGMENTS + frame(b"last", PING)
    yield Mend("fragments", [ACCEPT], ["close 1009 *", "end"], alone, alone, frames=data)


MENDS = [
    *(*handshakes(), *closes(), *accepts(), *refusals(), *messages()),
    *(*closes_of_the_client(), *scopes(), *ends(), *wrongs()),
]
assert len({mend.name for mend in MENDS}) == len(MENDS)
WITH_US = [(name, mend) for mend in MENDS for name in mend.on]
ALONE = [(name, mend) for mend in MENDS for name in SERVER_NAMES if getattr(mend, name)]
OPCODES = {TEXT: "text", BINARY: "binary", PONG: "pong"}
numbers = itertools.count(1)


class Script:
    """A connection to be."""

    def __init__(self, server: Server, *steps: object, path: str = "{}") -> None:
        self.server = server
        self.number = next(numbers)
        self.path = f"/script-{self.number}"
        self.target = f"{path.format(self.path)}?{quote(repr([self.number, *steps]))}"

    def client(self, **options: Any) -> contextlib.AbstractContextManager[RawClient]:
        return raw_client(self.server, self.target, receive_buffer=65536, **options)

    def wait(self, pattern: str, seconds: float = SECONDS) -> str:
        """What the application tells, in the first line that matches."""
        return self.server.wait_log(rf"^script {self.number} ({pattern})$", seconds)[1]

    def has_told(self, line: str) -> bool:
        return f"script {self.number} {line}\n" in self.server.log


def see(server: Server, mend: Mend, wanted: Sequence[str]) -> tuple[Script, list[str]]:
    """A line for all that the client sees, the application tells, and the server logs."""
    script, mark = Script(server, *mend.steps, path=mend.path), server.mark()
    lines: list[str] = []
    options = {"lines": mend.lines, "behind": mend.behind, "is_waiting": False}
    with script.client(**options, timeout=QUIET if "nothing" in wanted else mend.seconds) as client:
        try:
            lines += answered(client, mend)
        except TimeoutError:
            lines.append("nothing")
        except EOFError:
            lines.append("end")
        except OSError:
            lines.append("reset")
    if script.has_told("begins"):
        script.wait("over")
    log = server.log[mark:]
    lines += re.findall(rf"^script {script.number} (.*)$", log, re.MULTILINE)
    return script, [*lines, *(f"log {line}" for line in log.splitlines())]


def answered(client: RawClient, mend: Mend) -> Iterator[str]:
    """What comes until the application is through, or one of the two has closed."""
    first, *headers = client.head().split("\r\n")
    yield f"status {first.partition(' ')[2]}"
    for name, _, value in (header.partition(":") for header in headers):
        yield f"{name.lower()}: {value.strip().encode('latin-1').decode()}"
    if " 101 " not in first:
        yield f"body {client.rest().decode()}"
        yield "end"
    elif mend.leaves:
        client.reset()
    else:
        client.socket.sendall(mend.frames)
        yield from frames_of(client, has_closed=mend.frames[:1] == b"\x88")


def frames_of(client: RawClient, *, has_closed: bool) -> Iterator[str]:
    while True:
        opcode, payload = client.receive()
        if opcode == CLOSE:
            yield f"close {int.from_bytes(payload[:2])} {payload[2:].decode()}"
            if not has_closed:
                client.send(payload, CLOSE)
        else:
            line = f"{OPCODES[opcode]} {payload.decode():.40}"
            yield line
            if line in ("text open", "pong last"):
                return


def check(script: Script, lines: Sequence[str], wanted: Sequence[str], sentence: str = "") -> None:
    for line in wanted:
        kind, _, rest = line.partition(" ")
        pattern = (rest if kind in ("no", "one") else line).replace("{}", script.path)
        count = len(fnmatch.filter(lines, pattern))
        is_right = {"no": count == 0, "one": count == 1}.get(kind, count > 0)
        assert is_right, "\n".join([f"{line!r}: {sentence}", *lines])


def name_of(value: object) -> str:
    return value.name[:40] if isinstance(value, Mend) else str(value)


StartApplication = Callable[..., Server]


@pytest.fixture
def serve(shared_server: StartServer) -> StartApplication:
    """Starts the application: `serve("daphne", mended=False)`; shared."""

    def run(name: ServerName, *args: str, mended: bool = True, **env: str) -> Server:
        return shared_server(name, APPLICATION, env=environment(name, mended, **env), args=args)

    return run


def environment(name: ServerName, mended: bool, **more: str) -> dict[str, str]:
    # Without Django, which is no more than a library to an application like this one.
    module = "uvicorn" if name == "picows" else name
    return {"MENDED": module, "DJANGO_SETTINGS_MODULE": "", **more} if mended else {}


@pytest.mark.parametrize(("name", "mend"), WITH_US, ids=name_of)
def test_with_us(name: ServerName, mend: Mend, serve: StartApplication):
    check(*see(serve(name, *mend.args.get(name, ())), mend, mend.seen), mend.seen)


@pytest.mark.parametrize(("name", "mend"), ALONE, ids=name_of)
def test_alone(name: ServerName, mend: Mend, serve: StartApplication):
    wanted = getattr(mend, name)
    server = serve(name, *mend.args.get(name, ()), mended=False)
    check(*see(server, mend, wanted), wanted, FIXED)


@pytest.fixture
def mended(serve: StartApplication) -> Server:
    return serve("daphne")


@pytest.fixture
def unmended(serve: StartApplication) -> Server:
    return serve("daphne", mended=False)


# What takes more than a connection: requests over HTTP, and the access log


def get(server: Server, target: str, headers: dict[str, str], data: bytes | None = None) -> str:
    asked = urllib.request.Request(server.url + target, headers=headers, data=data)
    with urllib.request.urlopen(asked, timeout=SECONDS) as response:
        answer: bytes = response.read()
    return answer.decode()


def test_a_body_over_http(mended: Server):
    assert get(mended, "/", {}, b"ab") == ""


OWN, CLAIMED = "/own", "/claimed"


@pytest.mark.parametrize(
    ("args", "env", "is_mended", "root_path"),
    [
        ((), {}, True, ""),
        (("--root-path", OWN), {}, True, OWN),
        ((), {"TRUSTING": "1"}, True, CLAIMED),
        ((), {}, False, CLAIMED),  # alone, daphne believes every client
    ],
)
def test_the_root_path_that_a_client_claims(
    args: tuple[str, ...],
    env: dict[str, str],
    is_mended: bool,
    root_path: str,
    serve: StartApplication,
):
    server = serve("daphne", *args, mended=is_mended, **env)
    wanted = [f"root_path {root_path}"]
    mend = Mend("", [ACCEPT, "scope", OPEN], wanted, lines=[b"Daphne-Root-Path: /claimed"])
    check(*see(server, mend, wanted), wanted, "" if is_mended else FIXED)
    over_http = get(server, "/", {"Daphne-Root-Path": CLAIMED})
    assert over_http == root_path, FIXED


@pytest.mark.parametrize(("is_mended", "logged"), [(True, "***"), (False, "s3cret")])
def test_a_token_in_the_access_log(is_mended: bool, logged: str, serve: StartApplication):
    server = serve("daphne", mended=is_mended)
    get(server, "/log?a=1&access%5Ftoken=s3cret", {})
    found = server.wait_log(r'"GET /log\?a=1&access%5Ftoken=(.*)" 200')
    assert found[1] == logged, "" if is_mended else FIXED


def test_a_refusal_in_the_access_log(mended: Server):
    script = Script(mended, start(), body())
    with script.client(is_waiting=False) as client:
        client.head()
        script.wait("over")
    mended.wait_log(rf'"WSDISCONNECT {script.path}"')
    actions = re.findall(rf'"(WS\w+) {script.path}"', mended.log)
    assert actions == ["WSCONNECTING", "WSREJECT", "WSDISCONNECT"]


def test_a_refusal_that_is_read_slowly(mended: Server):
    size = 20_000_000  # more than the system takes at once
    script = Script(mended, start(), size, "return")
    with script.client(is_waiting=False) as client:
        script.wait("sent http.response.body")
        checked(mended)  # has removed the connection, whose application has ended
        assert client.head().startswith("HTTP/1.1 401 Unauthorized\r\n")
        assert len(client.rest()) == size
    mended.wait_log(f'"WSDISCONNECT {script.path}"')


# The end of an application that fails


def seconds_of(server: Server, accepted: bool, code: str) -> float:
    """Of three in a row: over two, where each waits for daphne's checker."""
    mend = Mend("", [*[ACCEPT][: int(accepted)], "raise"], [code])
    started = time.monotonic()
    told = [see(server, mend, []) for _ in range(3)]
    took = time.monotonic() - started
    for script, lines in told:
        check(script, lines, [code])
        # The checker lives on, and logs each.
        server.wait_log(f"Exception inside application: wanted by {script.number}$")
    return took


def test_who_raises_is_answered_at_once(mended: Server):
    assert seconds_of(mended, True, "close 1011 ") < QUIET
    assert seconds_of(mended, False, "status 500*") < QUIET


def test_daphne_still_takes_up_to_a_second(unmended: Server):
    assert seconds_of(unmended, True, "close 1011 ") > QUIET, FIXED


def checked(server: Server) -> None:
    """Waits for daphne's checker, so that no connection without application is left.

    Beside one, daphne cancels nobody: each WebSocket begins as a request that has none.
    """
    script = Script(server, ACCEPT, "receive", "raise")
    with script.client() as client:
        client.socket.sendall(close(1000))
        server.wait_log(f"inside application: wanted by {script.number}$")


# The server's end

StartOwn = Callable[..., Server]


@pytest.fixture
def start_own(start_server: StartServer) -> StartOwn:
    """Starts a daphne that this test ends: `start_own(True)` is one with us."""

    def run(is_mended: bool, *args: str) -> Server:
        env = environment("daphne", is_mended)
        return start_server("daphne", APPLICATION, env=env, args=args)

    return run


@pytest.mark.parametrize("is_mended", [True, False])
def test_many_come_before_they_are_taken(is_mended: bool, start_own: StartOwn):
    """Alone, daphne has room for fifty, and others try again after a second, or three."""
    server, count = start_own(is_mended), 300
    with contextlib.ExitStack() as stack:
        stack.enter_context(suspended(server))
        waiting, poll = set(), select.poll()
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex((server.host, server.port))
            waiting.add(connection.fileno())
            poll.register(connection, select.POLLOUT)
        while waiting and (found := poll.poll(500)):
            for number, _event in found:
                poll.unregister(number)
                waiting.discard(number)
        assert bool(waiting) is not is_mended, FIXED


@pytest.mark.parametrize("is_mended", [True, False])
def test_what_nobody_reads(is_mended: bool, start_server: StartServer):
    """Alone, autobahn makes coloured names for its debug log at each read and each write."""
    env = environment("daphne", is_mended) | {"COUNTING": "1"}
    script = Script(start_server("daphne", APPLICATION, env=env), ACCEPT, "receive", OPEN, "unread")
    with script.client() as client:
        client.send(b"x")
        found = int(script.wait(r"unread \d+").split()[1])
    assert (found <= 1) is is_mended, FIXED  # an empty list is printed with us, too


def test_who_reads_it_after_all(start_server: StartServer):
    """The text of a method has that of the protocol, for which daphne needs a request."""
    env = environment("daphne", mended=True) | {"DEBUGGING": "1"}
    script = Script(start_server("daphne", APPLICATION, env=env, args=["-v", "3"]), ACCEPT)
    with script.client():
        log = script.server.wait_log(r"dataReceived.* received \d+ bytes").string
    assert "_connectionMade: connection accepted from peer" in log
    assert "unformattable" not in log


def half_a_request(server: Server) -> socket.socket:
    connection = socket.create_connection((server.host, server.port))
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    # Once a later connection was answered, the half request has arrived.
    with Script(server, ACCEPT).client():
        return connection


@pytest.mark.parametrize(("is_mended", "code"), [(True, 1012), (False, 1006)])
def test_sigterm_beside_half_a_request(is_mended: bool, code: int, start_own: StartOwn):
    """Alone, daphne cancels nobody then."""
    server = start_own(is_mended)
    script = Script(server, ACCEPT)
    with script.client() as client, half_a_request(server):
        assert server.terminate() in {0, -11}  # alone, it crashes at times
        assert client.end() == (code, "")
    assert script.has_told("cancelled") is is_mended, FIXED


@pytest.mark.parametrize(("is_mended", "code"), [(True, 1012), (False, 1006)])
def test_sigterm_waits_for_all(is_mended: bool, code: int, start_own: StartOwn):
    """Alone, daphne waits for the first only."""
    server = start_own(is_mended)
    quick, slow = Script(server, ACCEPT), Script(server, ACCEPT, "linger")
    with quick.client(), slow.client() as client:
        slow.wait("sent accept")
        checked(server)
        server.terminate()
        assert client.end()[0] == code
    assert quick.has_told("cancelled")
    assert slow.has_told("lingered") is is_mended, FIXED


def test_sigterm_does_not_wait_for_ever(start_own: StartOwn):
    server = start_own(True, "--application-close-timeout", "1")
    script = Script(server, ACCEPT, "stay")
    with script.client():
        script.wait("sent accept")
        started = time.monotonic()
        assert server.terminate() == 0
        assert 0.9 < time.monotonic() - started < 10


# Limits; tests/faults/test_flow.py has those of a project


def is_sent_in_time(script: Script) -> bool:
    try:
        script.wait("sent send", QUIET)
    except AssertionError:
        return False
    return True


def test_of_many_that_wait_to_send_one_goes_on(mended: Server):
    script = Script(mended, ACCEPT, (MB, 100, "at once"))
    with script.client() as client:
        for _ in range(5):
            assert client.receive() == (BINARY, bytes(MB))
        assert mended.log.count(f"script {script.number} sent send") < 50


def test_daphne_still_never_waits(unmended: Server):
    script = Script(unmended, ACCEPT, (MB, 50))
    with script.client():
        assert is_sent_in_time(script), FIXED


def test_daphne_still_takes_a_flood(unmended: Server):
    with Script(unmended, ACCEPT, "linger").client() as client:
        assert client.flood(frame(bytes(10_000)), 5, 30 * MB) >= 30 * MB, FIXED


def answer_to_two(server: Server) -> bytes:
    """The second request comes while the first one waits for its application."""
    script = Script(server, "linger")
    with script.client(is_waiting=False, timeout=QUIET) as client:
        script.wait("begins")
        client.socket.sendall(request(script.target.encode()))
        with contextlib.suppress(TimeoutError):
            return client.head().encode() + client.rest()
        return client.buffer


def test_a_second_request(mended: Server, unmended: Server):
    assert answer_to_two(mended) == b""
    assert b"was added to main list twice" in answer_to_two(unmended), FIXED


PINGS = [
    ("daphne", ("--ping-interval", "1", "--ping-timeout", "1")),
    ("uvicorn", ("--ws-ping-interval", "1", "--ws-ping-timeout", "1")),
]


@pytest.mark.parametrize(("name", "args"), PINGS)
def test_servers_still_drop_a_slow_reader(
    name: ServerName, args: tuple[str, ...], start_server: StartServer
):
    """Once this fails, that server counts as life what the client takes: the mend may go."""
    server = start_server(name, APPLICATION, args=args)
    with Script(server, ACCEPT, (MB, 20), "return").client() as client:
        messages = 0
        with contextlib.suppress(ConnectionError, EOFError):
            while client.receive()[0] == BINARY:
                messages += 1
                time.sleep(1)
        assert messages < 20


# What is of the process


def test_twisted_still_sends_little_in_a_turn():
    code = "from twisted.internet.abstract import FileDescriptor as F; print(F.SEND_LIMIT)"
    limit = int(subprocess.check_output([sys.executable, "-c", code]))
    assert limit < 256 * 1024 <= FileDescriptor.SEND_LIMIT, "asyncio reads 256 KiB"


TWICE = """
from importlib import import_module
module = import_module("panther_channels.servers.{name}")
from daphne.server import Server; from daphne.ws_protocol import WebSocketFactory
from uvicorn.protocols.websockets import websockets_sansio_impl as sansio
import logging
def state():
    kinds = (Server, WebSocketFactory, sansio.WebSocketsSansIOProtocol, sansio)
    return [dict(vars(kind)) for kind in kinds], list(logging.getLogger("uvicorn.error").filters)
bare = state(); module.install(); once = state(); assert once != bare
module.install(); assert state() == once
class Own(WebSocketFactory.protocol): pass
WebSocketFactory.protocol = Own; module.install(); assert WebSocketFactory.protocol is Own
"""


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_install_twice(name: str):
    """And a protocol that somebody has built on ours is kept."""
    subprocess.run([sys.executable, "-c", TWICE.format(name=name)], check=True)
