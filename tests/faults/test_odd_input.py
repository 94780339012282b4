"""Input that nobody would send who means well: taken or refused, and others notice nothing."""

import asyncio
import contextlib
import http.client
import json
import re
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from channels_redis import core
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from panther_channels._hub.delivery import EVENT_TYPE
from panther_channels.layers import LocalChannelLayer, RedisChannelLayer
from panther_channels.layers.local.frames import Kind, encode, pack
from panther_channels.layers.redis import frames as of_redis
from panther_channels.websocket import send_message_to_websocket
from tests.client import Client, Connection
from tests.conftest import StartRedis, StartServer
from tests.faults import fuzz
from tests.layers import default_layer
from tests.servers import Server, ServerName, misbehaving, over_core
from tests.wire import (
    CLOSE,
    CONTINUATION,
    PING,
    UPGRADE,
    close,
    exchange,
    frame,
    request,
)

pytestmark = [
    pytest.mark.faults,
    # Some part of the client uses `random`, which the fuzzer minds.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]

SECONDS = 20.0

TAKEN = [
    request(b"/ws%2Fecho"),
    request(b"//ws/echo"),
    request(b"/ws/echo?a=%zz&b=%ff&%00"),
    request(b"/ws/echo?token=1&token=2"),
    request(b"/ws/describe/1/%ff"),
    request(b"/ws/price/1e4"),
    request(b"/ws/files/a" + b"/b" * 3900 + b"//"),
    request(b"/ws/compare/a/b"),
    request(b"/ws/echo", b"X: \xff\xfe"),
    request(b"/ws/echo", b"Cookie: \xff=\xfe; =; ;;; a"),
    request(b"/ws/echo", b"Cookie: sessionid=" + b"\xc3\xa9" * 50),
    request(b"/ws/echo", b"Authorization: Bearer \xff"),
    request(b"/ws/echo", b"Daphne-Root-Path: /ws"),
    request(b"/ws/echo", b"Sec-WebSocket-Protocol: tok%20en"),
]
REFUSED = [
    request(b"/ws/reject-with-code"),
    request(b"/ws/nothing"),
    request(b"/ws/%00"),
    request(b"/%zz%ff%"),
    request(b"/ws/%0d%0a"),
    request(b"/ws/..%2f..%2fetc"),
    request(b"//scope/x"),
    request(b"/" + b"a" * 7000),
    request(b"/ws/describe/1e5/x"),
    request(b"/ws/describe/%00/%00"),
    request(b"/ws/describe/" + b"9" * 5000 + b"/x"),
    request(b"/ws/price/1e4000000"),
    request(b"/ws/price/1e-4000000"),
    request(b"/ws/files/a" + b"/" * 7900 + b"%0a"),
    LONG := request(b"/ws/compare/a" + b"/" * 7900 + b"%0a"),
    LONG.replace(b"Upgrade: websocket\r\n", b""),  # plain HTTP
    request(b"/ws/\xc3\xa9"),
    request(b"/ws/echo?\xff"),
    request(b"/echo", b"Daphne-Root-Path: /ws"),
    request(b"/ws/echo", b"Origin: http://[::1"),
    request(b"/ws/echo", b"Origin: http://127.0.0.1:99999"),
    request(b"/ws/echo", b"Origin: null"),
    request(b"/ws/echo", b"Origin: \xff\xfe"),
    request(b"/ws/echo", b"Origin: http://127.0.0.1", b"Origin: http://127.0.0.1"),
    request(b"/ws/echo", b"Host: evil.example"),
    *(request(b"/ws/echo", host=host) for host in (b"evil.example", b"[::1]", b"a b")),
    request(b"/ws/echo", b"Sec-WebSocket-Key: short"),
]
# Up to the server, which only has to answer.
EITHER = [
    request(b"/ws/echo", b"Sec-WebSocket-Protocol: \xc3\xa9"),
    request(b"/ws/echo", b"Sec-WebSocket-Protocol: a, a"),
    request(b"/ws/echo", b"Sec-WebSocket-Protocol: ,,,"),
    request(b"/ws/echo", b"Sec-WebSocket-Extensions: ;;;,\xff"),
    request(b"/ws/echo", b"X-\xff: a"),
    request(b"/ws/echo", b"novalue"),
    request(b"/ws/echo", b"X: " + b"a" * 9000),
    request(b"/ws/echo", *[b"X: a"] * 130),
]
CLOSES = {
    **{f"{code}": struct.pack(">H", code) for code in (0, 999, 1000, 1004, 1005, 1006, 1015)},
    **{f"{code}": struct.pack(">H", code) for code in (1016, 2999, 3000, 4999, 5000, 65535)},
    "nothing": b"",
    "half a code": b"\x03",
    "bad reason": struct.pack(">H", 1000) + b"\xff\xfe",
    "longest reason": struct.pack(">H", 4000) + b"x" * 123,
    "too long a reason": struct.pack(">H", 4000) + b"x" * 124,
}
FRAMES = {
    **{f"close with {name}": frame(payload, CLOSE) for name, payload in CLOSES.items()},
    "bad text": frame(b"\xff"),
    "bad text, and a close": frame(b"\xff") + close(1000),
    "a surrogate": frame(b"\xed\xa0\x80"),
    "no mask": frame(b"hi", is_masked=False),
    "a large ping": frame(b"x" * 126, PING),
    "a ping in parts": frame(b"x", PING, fin=False),
    "a bit of an extension": frame(b"x", extension_bits=4),
    "an unknown opcode": frame(b"x", 3),
    "an unknown control frame": frame(b"x", 11),
    "a continuation of nothing": frame(b"x", CONTINUATION),
    "a message in another": frame(b"a", fin=False) + frame(b"b"),
    "the largest size": frame(size=2**64 - 1),
    "zeros": bytes(100),
}
# What comes behind a handshake, before it is answered.
BEHIND = {
    "two bytes": b"\xff\xff",
    "no mask": FRAMES["no mask"],
    "a bit of an extension": FRAMES["a bit of an extension"],
    "another request": request(b"/ws/echo"),
    "half a request": b"GET /",
    "bad text": frame(b"\xff"),
    "too large": frame(size=2**40),
    "a close": close(1000),
}


def is_quiet(server: Server, mark: int = 0) -> None:
    log = server.log[mark:]
    assert not any(word in log for word in fuzz.HARM), log
    assert "ERROR" not in log, log


@pytest.fixture
def server(server_name: ServerName, start_server: StartServer, folder: Path) -> Server:
    return start_server(server_name, env={"LOCAL_LAYER": f"{folder}/l"})


async def answered(server: Server, opening: bytes) -> int:
    """The status of an answer."""
    answer = await asyncio.to_thread(exchange, server, opening)
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(found[1]) if found else 0  # hung up


async def test_requests(server: Server):
    async with connect(f"{server.ws_url}/ws/echo") as neighbour:
        found = {
            opening: await answered(server, opening) for opening in (*TAKEN, *REFUSED, *EITHER)
        }
        await neighbour.send("still there")
        assert await neighbour.recv() == "still there"
    assert [opening for opening in TAKEN if found[opening] != 101] == []
    assert [opening for opening in REFUSED if not 400 <= found[opening] < 500] == []
    assert set(found.values()) <= {101, 400, 403, 404, 431}
    is_quiet(server)


TARGETS = [
    *("/ws/echo;x", "/ws;a/echo", "/ws/echo;x/", "/ws/echo;", "/ws/echo;x?y;z", "/ws/a%3bb"),
    *("//ws/echo", "///ws//echo;x", "//a:b@c/;x", "//[x/echo", "/http://a/b", "///http://a/b"),
    *("/ws/echo?a?b", "/ws/echo?", "/ws/echo#f", "/ws/echo#", "/ws/echo?a#f", "/ws%2Fecho"),
    *("http://a/ws/echo", "https://a:1/ws;x/echo;y?q#f", "HTTP://a/;", "ws://a/ws/echo", "*"),
    *("/./ws/../echo", "/ws/%ff%", '/ws/|^"\\', "/ws:80/x", "/"),
]


@pytest.mark.parametrize("args", [(), ("--http", "h11")], ids=["", "h11"])
def test_a_websocket_has_the_path_of_http(
    server_name: ServerName, start_server: StartServer, args: tuple[str, ...]
):
    if args and server_name == "daphne":
        pytest.skip("an option of uvicorn")
    server = start_server(server_name, "tests.faults.paths:application", args=args)

    def seen(target: str, **headers: str) -> Any:
        client = http.client.HTTPConnection(server.host, server.port, timeout=SECONDS)
        client.request("GET", target, headers=headers)
        with contextlib.closing(client), client.getresponse() as response:
            return json.load(response)

    # With h11, uvicorn's HTTP doesn't understand a target in absolute-form.
    targets = [each for each in TARGETS if not args or each.startswith(("/", "*"))]
    found = {target: (seen(target, **UPGRADE), seen(target)) for target in targets}
    assert {target: pair for target, pair in found.items() if pair[0] != pair[1]} == {}


async def tasks(server: Server) -> int:
    """How many there are, when one more connection is."""
    async with connect(f"{server.ws_url}/ws/tasks") as client:
        return int(await client.recv())


async def test_frames(server: Server):
    async with connect(f"{server.ws_url}/ws/echo") as neighbour:
        before = await tasks(server)
        for name, data in FRAMES.items():
            answer = await asyncio.to_thread(exchange, server, request(b"/ws/noting"), data)
            assert answer.startswith(b"HTTP/1.1 101"), name
            await neighbour.send(name)
            assert await neighbour.recv() == name
        async with asyncio.timeout(SECONDS):
            while server.log.count("disconnect called") < len(FRAMES):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            while await tasks(server) > before:
                pass
        assert server.log.count("disconnect called") == len(FRAMES)
    is_quiet(server)


@pytest.mark.parametrize("state", ["open", "closed"])
@pytest.mark.parametrize("is_one_packet", [True, False], ids=["in one packet", "a moment later"])
async def test_frames_behind_a_handshake(
    state: str, is_one_packet: bool, server_name: ServerName, start_server: StartServer
):
    """While it waits for the application, which accepts or refuses it."""
    server = start_server(server_name, env=misbehaving())
    opening = request(b"/gate/" + state.encode())
    answers = dict.fromkeys(BEHIND, b"")
    async with connect(f"{server.ws_url}/id") as neighbour:
        await neighbour.recv()
        for name, data in BEHIND.items():
            mark = server.mark()
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(opening + data if is_one_packet else opening)
            await asyncio.to_thread(server.wait_log, "waits at the gate", SECONDS, since=mark)
            writer.write(b"" if is_one_packet else data)
            await (await neighbour.ping())  # the server has read it
            async with connect(f"{server.ws_url}/gate/opened"):
                with suppress(OSError, asyncio.IncompleteReadError):
                    answers[name] = await reader.readuntil(b"\r\n\r\n")
                    writer.write(close(1000))
                    writer.write_eof()
                    answers[name] += await reader.read()
            writer.close()
    status = b"101 Switching Protocols" if state == "open" else b"403 "
    wrong = {name: answer for name, answer in answers.items() if status not in answer}
    assert wrong == {}
    is_quiet(server)


# What comes over the channel layer

EVENTS: list[dict[Any, Any]] = [
    {},
    {"type": None},
    {"type": 5},
    {"type": ["receive"]},
    {"type": "receive"},
    {"type": "no.such"},
    {"type": "websocket.disconnect", "code": 4444},
    {"type": "websocket.receive", "text": "from nobody"},
    {"type": EVENT_TYPE},
    {"type": EVENT_TYPE, "text": b"bytes"},
    {"type": EVENT_TYPE, "json": {"nested": [1]}},
    {"type": EVENT_TYPE, "base64": "a"},
    {"type": EVENT_TYPE, "close": "", "code": 1006},
    {"type": EVENT_TYPE, "close": "x" * 200, "code": 1000},
    {"type": EVENT_TYPE, "close": None, "code": "1000"},
    {"type": EVENT_TYPE, "close": "", "code": 2**63},
    {"type": "chat", "deep": [[[[[[[[]]]]]]]]},
    {1: "a key that is no text"},
]
PAYLOADS = [b"", b"\xc1", b"\xff" * 20, *map(msgpack.packb, ([1, 2], "x", 5))] * 2


async def write_to(path: str, data: bytes) -> None:
    """Write to a socket of the local layer."""
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[dict[str, Connection]]:
    """Five connections by their ids, which are within reach at the beginning and at the end."""
    async with Client(server) as connect:
        found = [await connect("/ws/id") for _ in range(5)]
        ids = {str(await client.receive()): client for client in found}
        await reached(ids)
        yield ids
        await reached(ids)


async def reached(ids: dict[str, Connection]) -> None:
    """Nobody was dropped, or is deaf; nobody got anything else."""
    for connection_id, client in ids.items():
        await send_message_to_websocket(connection_id, "hello")
        assert await client.receive() == "hello"


@pytest.mark.parametrize("kind", ["local", "pubsub", "core"])
async def test_events(
    kind: str,
    server_name: ServerName,
    start_server: StartServer,
    start_redis: StartRedis,
    folder: Path,
):
    env = {"LOCAL_LAYER": f"{folder}/l"}
    layer: Any = LocalChannelLayer(directory=f"{folder}/l")
    if kind != "local":
        url = start_redis().url
        env = {"REDIS_URL": url}
        layer = RedisChannelLayer(hosts=[url])
    if kind == "core":
        env = over_core(url)
        layer = core.RedisChannelLayer([{"address": url, "socket_timeout": None}])
    server = start_server(server_name, env=env)
    with default_layer(layer):
        async with opened(server) as ids:
            group = f"connection.{next(iter(ids))}"
            for event in EVENTS:
                await layer.group_send(group, event)
            if kind == "pubsub":
                async with Redis.from_url(url) as redis:
                    node = f"asgi.0__node__{group.partition('.')[2][:8]}"
                    for payload in PAYLOADS:
                        await redis.publish(node, payload)
                        await redis.publish(node, of_redis.pack(group, payload))
            behind = {"type": EVENT_TYPE, "text": "behind them"}
            start = time.monotonic()
            if kind == "local":
                (path,) = Path(folder, "l").glob("panther-*")  # noqa: ASYNC240 - a test
                payloads = (*PAYLOADS, pack(behind))
                frames = [encode(Kind.GROUP_SEND, group, payload) for payload in payloads]
                await write_to(str(path), b"".join(frames))
            else:
                await layer.group_send(group, behind)
            assert await next(iter(ids.values())).receive() == "behind them"
            assert time.monotonic() - start < 2.5  # a pause after each would take longer
        assert "ignored an event" in server.log
        is_quiet(server)
        await (layer.close_pools() if kind == "core" else layer.flush())


# FUZZ_SECONDS says for how long


def test_fuzzed_handshakes(server: Server):
    assert fuzz.fuzz_handshake(server) > 50
