"""daphne mended, on the wire; and daphne as it is installed, which must still have the fault.

Each `test_daphne_...` fails once daphne no longer needs the mend that the test above it shows.
"""

import ast
import asyncio
import contextlib
import datetime
import importlib.metadata
import itertools
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response

from tests.conftest import StartServer
from tests.faults.raw import BINARY, PING, PONG, RawClient, frame, raw_client
from tests.servers import Server, ServerName

APPLICATION = "tests.integration.daphne_apps:application"
# Without Django, which is no more than a library to an ASGI application like this one.
MENDED = {"MENDED": "1", "DJANGO_SETTINGS_MODULE": ""}
FIXED = (
    f"daphne {importlib.metadata.version('daphne')} with autobahn"
    f" {importlib.metadata.version('autobahn')} does this right: its mend may go"
)
# Longer than daphne's checker takes to see that an application has ended.
CHECKER = 1.5
MB = 1_000_000

UPGRADE = (
    "Host: host\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ACCEPT = {"type": "websocket.accept"}
LEGAL_CODES = (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
ILLEGAL_CODES = (0, 999, 1004, 1005, 1006, 1015, 1999, 2999, 5000, 65536, "1000", 1000.0, True)


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": data}


def close(**fields: Any) -> dict[str, Any]:
    return {"type": "websocket.close", **fields}


class Script:
    """A connection to be: its steps, and what the application logs about them."""

    numbers = itertools.count(1)

    def __init__(self, server: Server, *steps: object) -> None:
        self.server = server
        self.path = f"/script-{next(self.numbers)}"
        self.target = f"{server.host}:{server.port}{self.path}?{quote(repr(list(steps)))}"

    def connect(self, **options: Any) -> connect:
        return connect(f"ws://{self.target}", **options)

    async def logged(self, pattern: str) -> str:
        """The rest of the application's first line that matches."""
        line = rf"{self.path} ({pattern})$"
        return (await asyncio.to_thread(self.server.wait_log, line))[1]


async def closed(client: ClientConnection) -> tuple[int, str]:
    """The close frame that the client gets, (1006, "") without one."""
    await asyncio.wait_for(client.wait_closed(), 10)
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


@pytest.fixture
def mended(shared_server: StartServer) -> Server:
    return shared_server("daphne", APPLICATION, env=MENDED)


@pytest.fixture
def unmended(shared_server: StartServer) -> Server:
    return shared_server("daphne", APPLICATION)


# Half a handshake


BODIES = ("Content-Length: 10", "Transfer-Encoding: chunked")


def answer(server: Server, header: str, body: str = "") -> bytes:
    """What comes at once, and b"" for nothing."""
    with socket.create_connection((server.host, server.port), timeout=1.5) as client:
        start = f"GET /?{quote(repr([ACCEPT]))} HTTP/1.1\r\n{header}\r\n"
        client.sendall(f"{start}{UPGRADE}{body}".encode())
        try:
            return client.recv(65536)
        except TimeoutError:
            return b""


@pytest.mark.parametrize("body", ["", "0123456789"])
@pytest.mark.parametrize("header", BODIES)
def test_a_handshake_with_a_body(mended: Server, header: str, body: str):
    assert answer(mended, header, body).startswith(b"HTTP/1.1 400 ")


def test_a_handshake_with_an_empty_body(mended: Server):
    assert answer(mended, "Content-Length: 0").startswith(b"HTTP/1.1 101 ")


def test_a_body_over_http(mended: Server):
    request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
    with socket.create_connection((mended.host, mended.port), timeout=10) as client:
        client.sendall(request.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("header", BODIES)
def test_daphne_still_waits_for_the_body(unmended: Server, header: str):
    assert answer(unmended, header) == b"", FIXED


# Close codes and reasons


@pytest.mark.parametrize("code", LEGAL_CODES)
async def test_close_with_code_and_reason(mended: Server, code: int):
    script = Script(mended, ACCEPT, close(code=code, reason="bye é"))
    async with script.connect() as client:
        assert await closed(client) == (code, "bye é")
    assert f"'code': {code}," in await script.logged(".*websocket.disconnect.*")


async def test_close_without_code_and_reason(mended: Server):
    for fields in ({}, {"code": None, "reason": None}, {"reason": ""}):
        async with Script(mended, ACCEPT, close(**fields)).connect() as client:
            assert await closed(client) == (1000, "")


async def test_longest_reason(mended: Server):
    async with Script(mended, ACCEPT, close(reason="é" * 61 + "x")).connect() as client:
        assert await closed(client) == (1000, "é" * 61 + "x")


async def test_daphne_still_drops_the_reason(unmended: Server):
    async with Script(unmended, ACCEPT, close(code=4000, reason="bye")).connect() as client:
        assert await closed(client) == (4000, ""), FIXED


async def test_daphne_still_refuses_codes(unmended: Server):
    script = Script(unmended, ACCEPT, close(code=1008))
    async with script.connect() as client:
        logged = await script.logged("raised.*|sent websocket.close")
        assert "invalid close code 1008" in logged, FIXED
        client.transport.abort()


@pytest.mark.parametrize("code", ILLEGAL_CODES)
async def test_illegal_close_code(mended: Server, code: object):
    script = Script(mended, ACCEPT, close(code=code), text("open"))
    async with script.connect() as client:
        assert await client.recv() == "open"
        assert (await script.logged("raised.*")).startswith(f"raised ValueError: {code!r} is none")


@pytest.mark.parametrize("reason", ["x" * 124, "é" * 62], ids=["ascii", "utf-8"])
async def test_reason_too_long(mended: Server, reason: str):
    script = Script(mended, ACCEPT, close(reason=reason), text("open"))
    async with script.connect() as client:
        assert await client.recv() == "open"
        assert "ValueError: a close reason has at most 123 bytes" in await script.logged("raised.*")


async def test_close_before_accept_refuses(mended: Server):
    with pytest.raises(InvalidStatus) as refused:
        await Script(mended, close(code=1008, reason="no")).connect()
    assert refused.value.response.status_code == 403


# Accept


async def test_accept_headers(mended: Server):
    headers = [
        (b"set-cookie", b"one=1; Path=/"),
        (b"x-name", "é".encode()),
        (b"set-cookie", b"two=2"),
        (b"x-empty", b""),
    ]
    script = Script(mended, {**ACCEPT, "subprotocol": "chat", "headers": headers})
    async with script.connect(subprotocols=["talk", "chat"]) as client:
        assert client.response is not None
        answered = client.response.headers
        assert answered.get_all("Set-Cookie") == ["one=1; Path=/", "two=2"]
        assert answered["x-name"].encode("latin-1") == "é".encode()
        assert answered["x-empty"] == ""
        assert client.subprotocol == "chat"


async def test_daphne_still_drops_accept_headers(unmended: Server):
    script = Script(unmended, {**ACCEPT, "headers": [(b"x-test", b"1")]})
    async with script.connect() as client:
        assert client.response is not None
        assert "x-test" not in client.response.headers, FIXED


async def test_a_header_that_cannot_be_sent(mended: Server):
    refused = {**ACCEPT, "headers": [(b"x-test", b"1\r\nset-cookie: a=b")]}
    script = Script(mended, refused, ACCEPT)
    async with script.connect() as client:
        assert "ValueError: b'x-test'" in await script.logged("raised.*")
        assert client.response is not None
        assert "set-cookie" not in client.response.headers


async def test_subprotocol_that_was_not_offered(mended: Server):
    script = Script(mended, {**ACCEPT, "subprotocol": "other"}, {**ACCEPT, "subprotocol": "chat"})
    async with script.connect(subprotocols=["chat"]) as client:
        assert client.subprotocol == "chat"
    expected = "raised ValueError: the client did not offer the subprotocol 'other'"
    assert await script.logged("raised.*") == expected


async def test_daphne_still_accepts_a_subprotocol_that_was_not_offered(unmended: Server):
    script = Script(unmended, {**ACCEPT, "subprotocol": "other"})
    with pytest.raises(TimeoutError):
        await script.connect(subprotocols=["chat"], open_timeout=0.2)
    assert await script.logged("raised.*|sent.*") == "sent websocket.accept", FIXED


async def test_second_accept(mended: Server):
    script = Script(mended, ACCEPT, ACCEPT, text("open"))
    async with script.connect() as client:
        assert await client.recv() == "open"
        expected = "raised ValueError: the socket is already accepted"
        assert await script.logged("raised.*") == expected


# A refusal with an answer


def start(status: object = 401, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "websocket.http.response.start", "status": status, "headers": headers}


def body(data: object = b"", **fields: Any) -> dict[str, Any]:
    return {"type": "websocket.http.response.body", "body": data, **fields}


async def refused(script: Script) -> Response:
    with pytest.raises(InvalidStatus) as error:
        await script.connect()
    return error.value.response


async def test_refusal_with_an_answer(mended: Server):
    headers = [
        (b"content-type", b"application/json"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
    ]
    script = Script(mended, start(401, *headers), body(b'{"detail": "no"}'))
    answer = await refused(script)
    assert (answer.status_code, answer.reason_phrase) == (401, "Unauthorized")
    assert answer.body == b'{"detail": "no"}'
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert answer.headers.get_all("connection") == ["close"]
    assert answer.headers.get_all("content-length") == ["16"]
    assert "transfer-encoding" not in answer.headers


async def test_the_application_and_the_log_learn_of_the_refusal(mended: Server):
    script = Script(mended, start(), body(), "receive", text("late"), start(), "scope")
    await refused(script)
    assert await script.logged(".*disconnect.*") == str(
        {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    )
    await script.logged(".*scheme.*")
    assert f"{script.path} raised" not in mended.log
    actions = re.findall(rf'"(WS\w+) {script.path}"', mended.log)
    assert actions == ["WSCONNECTING", "WSREJECT", "WSDISCONNECT"]


async def test_refusal_in_parts(mended: Server):
    parts = [body(b"one ", more_body=True), body(more_body=True), body(b"two")]
    answer = await refused(Script(mended, start(599), *parts))
    assert (answer.status_code, answer.reason_phrase, answer.body) == (599, "", b"one two")
    assert answer.headers["content-length"] == "7"


async def test_refusal_with_a_length_of_its_own(mended: Server):
    script = Script(mended, start(200, (b"Content-Length", b"3")), body(b"one"))
    answer = await refused(script)
    assert (answer.status_code, answer.body) == (200, b"one")
    assert answer.headers.get_all("content-length") == ["3"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ([body()], "there is no response yet"),
        ([start(), start()], "the response was begun already"),
        ([start(), ACCEPT], "its body must follow, not websocket.accept"),
        ([start(), close()], "its body must follow, not websocket.close"),
        ([start(), text("x")], "its body must follow, not websocket.send"),
        ([start(None)], "None is no status"),
        ([start("401")], "'401' is no status"),
        ([start(101)], "101 is no status"),
        ([start(600)], "600 is no status"),
        ([start(403, (b"x-test", b"1\r\na: b"))], "b'x-test'"),
    ],
)
async def test_refusal_in_disorder(mended: Server, wrong: list[Any], sentence: str):
    begun = [start()] if wrong[0] != start() else []
    script = Script(mended, *wrong, *begun, body(b"right"))
    answer = await refused(script)
    assert (answer.status_code, answer.body) == (401, b"right")
    logged = await script.logged("raised.*")
    assert logged.startswith("raised ValueError: ")
    assert sentence in logged


async def test_refusal_with_a_body_of_text(mended: Server):
    script = Script(mended, start(), body("text"), body(b"bytes"))
    assert (await refused(script)).body == b"bytes"
    assert "raised TypeError" in await script.logged("raised.*")


async def test_refusal_after_accept(mended: Server):
    script = Script(mended, ACCEPT, start(), body(), text("open"))
    async with script.connect() as client:
        assert await client.recv() == "open"
        expected = "raised ValueError: the socket is already accepted"
        assert await script.logged("raised.*") == expected


@pytest.mark.parametrize("end", ["return", "raise"])
async def test_refusal_that_is_not_finished(mended: Server, end: str):
    answer = await refused(Script(mended, start(), body(b"one", more_body=True), end))
    assert (answer.status_code, answer.body) == (500, b"")


async def test_refusal_that_is_read_slowly(mended: Server):
    size = 20_000_000  # more than the system takes at once
    script = Script(mended, start(), size, "return")
    reader, writer = await asyncio.open_connection(mended.host, mended.port)
    target = script.target.removeprefix(f"{mended.host}:{mended.port}")
    writer.write(f"GET {target} HTTP/1.1\r\n{UPGRADE}".encode())
    assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    await script.logged("sent websocket.http.response.body")
    await checked(mended)  # has removed the connection, whose application has ended
    await reader.readuntil(b"\r\n\r\n")
    assert len(await reader.read(-1)) == size
    writer.close()
    await writer.wait_closed()
    mended.wait_log(f'"WSDISCONNECT {script.path}"')


async def test_daphne_still_ignores_the_answer(unmended: Server):
    script = Script(unmended, start(), body())
    assert not await ends(script.connect().__aenter__()), FIXED
    assert await script.logged(".*response.body|raised.*") == "sent websocket.http.response.body"


# Messages


async def test_empty_messages(mended: Server):
    empty = [text(""), {"type": "websocket.send", "bytes": b""}, {**text("x"), "bytes": None}]
    async with Script(mended, ACCEPT, *empty).connect() as client:
        assert [await client.recv() for _ in empty] == ["", b"", "x"]


async def test_daphne_still_drops_empty_messages(unmended: Server):
    empty = [text(""), {"type": "websocket.send", "bytes": b""}]
    async with Script(unmended, ACCEPT, *empty, text("end")).connect() as client:
        assert await client.recv() == "end", FIXED


@pytest.mark.parametrize(
    "fields", [{}, {"text": None, "bytes": None}, {"text": "x", "bytes": b"x"}, {"text": "\ud800"}]
)
async def test_message_that_is_no_message(mended: Server, fields: dict[str, Any]):
    script = Script(mended, ACCEPT, {"type": "websocket.send", **fields}, text("open"))
    async with script.connect() as client:
        assert await client.recv() == "open"
        assert "Error: " in await script.logged("raised.*")


async def test_daphne_still_ignores_a_message_without_payload(unmended: Server):
    script = Script(unmended, ACCEPT, {"type": "websocket.send"})
    async with script.connect():
        logged = await script.logged("raised.*|sent websocket.send")
        assert logged == "sent websocket.send", FIXED


async def test_send_before_accept(mended: Server):
    script = Script(mended, text("early"), ACCEPT, text("open"))
    async with script.connect() as client:
        assert await client.recv() == "open"
        assert "ValueError: Socket has not been accepted" in await script.logged("raised.*")


async def test_send_after_close(mended: Server):
    script = Script(mended, ACCEPT, close(code=4000), text("late"), close(code=1), ACCEPT, "scope")
    async with script.connect() as client:
        assert await closed(client) == (4000, "")
    assert await script.logged(".*accept|raised.*") == "sent websocket.accept"
    await script.logged(".*scheme.*")
    assert f"{script.path} raised" not in mended.log


async def test_daphne_still_raises_after_close(unmended: Server):
    script = Script(unmended, ACCEPT, close(code=4000), text("late"))
    async with script.connect():
        assert await script.logged(".*websocket.send|raised.*") == (
            "raised Disconnected: Attempt to send on a closed protocol"
        ), FIXED


async def test_send_when_the_client_has_gone(mended: Server):
    script = Script(mended, ACCEPT, "receive", text("late"), close(), "scope")
    async with script.connect() as client:
        client.transport.abort()
    await script.logged(".*scheme.*")
    assert f"{script.path} raised" not in mended.log


# The client's close


async def test_the_close_of_the_client(mended: Server):
    script = Script(mended, ACCEPT)
    async with script.connect() as client:
        await client.close(4001, "later é")
        assert await closed(client) == (4001, "later é")
    assert await script.logged(".*disconnect.*") == str(
        {"type": "websocket.disconnect", "code": 4001, "reason": "later é"}
    )


async def test_daphne_still_drops_the_reason_of_the_client(unmended: Server):
    script = Script(unmended, ACCEPT)
    async with script.connect() as client:
        await client.close(4001, "later")
        assert await closed(client) == (1000, ""), FIXED
    assert "reason" not in await script.logged(".*disconnect.*"), FIXED


async def send_close(script: Script, payload: bytes) -> None:
    async with script.connect() as client:
        client.transport.write(Frame(Opcode.CLOSE, payload).serialize(mask=True))
        await script.logged(".*disconnect.*")


async def test_close_frame_without_code(mended: Server):
    script = Script(mended, ACCEPT)
    await send_close(script, b"")
    assert await script.logged(".*disconnect.*") == str(
        {"type": "websocket.disconnect", "code": 1005, "reason": ""}
    )


async def test_daphne_still_tells_no_code(unmended: Server):
    script = Script(unmended, ACCEPT)
    await send_close(script, b"")
    assert "'code': None" in await script.logged(".*disconnect.*"), FIXED


async def test_close_frame_with_1014(mended: Server):
    script = Script(mended, ACCEPT)
    await send_close(script, Close(1014, "").serialize())
    assert "'code': 1014" in await script.logged(".*disconnect.*")


async def test_daphne_still_takes_1014_for_an_error(unmended: Server):
    script = Script(unmended, ACCEPT)
    await send_close(script, Close(1014, "").serialize())
    assert "'code': 1006" in await script.logged(".*disconnect.*"), FIXED


async def test_lost_connection(mended: Server):
    script = Script(mended, ACCEPT)
    async with script.connect() as client:
        client.transport.abort()
    assert await script.logged(".*disconnect.*") == str(
        {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    )


# The scope


async def test_scope(mended: Server):
    script = Script(mended, ACCEPT, "scope")
    async with script.connect(additional_headers={"X-Forwarded-Proto": "https"}):
        assert await script.logged(".*scheme.*") == str(
            {
                "scheme": "ws",
                "http_version": "1.1",
                "subprotocols": [],
                "extensions": {"websocket.http.response": {}},
                "root_path": "",
            }
        )


async def test_a_path_of_several_slashes(mended: Server):
    script = Script(mended, ACCEPT, text("open"))
    script.target = script.target.replace("/script", "///script", 1)
    async with script.connect() as client:
        assert await client.recv() == "open"


async def answer_to(server: Server, target: str, header: bytes = b"") -> bytes:
    """The status line for a handshake that no client library would send."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET {target} HTTP/1.1\r\n".encode() + header + UPGRADE.encode())
    answer = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_daphne_still_takes_two_slashes_for_a_host(unmended: Server):
    answer = await answer_to(unmended, "//host/path")
    assert b" 101 " not in answer, FIXED
    assert b" 5" in answer or b" 4" in answer


NOT_ASCII = b"Sec-WebSocket-Protocol: caf\xe9\r\n"


async def test_a_subprotocol_that_is_not_ascii(mended: Server):
    target = f"/script-0?{quote(repr([ACCEPT]))}"
    assert b" 101 " in await answer_to(mended, target, NOT_ASCII)


async def test_daphne_still_fails_on_a_subprotocol_that_is_not_ascii(unmended: Server):
    assert b" 500 " in await answer_to(unmended, "/script-0?%5B%5D", NOT_ASCII), FIXED


async def test_subprotocols_are_told_as_they_must_be_accepted(mended: Server):
    script = Script(mended, "scope", {**ACCEPT, "subprotocol": "tok%20en"})
    async with script.connect(subprotocols=["chat", "tok%20en"]) as client:
        assert client.subprotocol == "tok%20en"
        assert "['chat', 'tok%20en']" in await script.logged(".*scheme.*")


async def test_daphne_still_has_no_scheme_version_and_extensions(unmended: Server):
    script = Script(unmended, ACCEPT, "scope")
    async with script.connect(subprotocols=["tok%20en"]):
        scope = await script.logged(".*scheme.*")
        assert "'scheme': None" in scope, FIXED
        assert "'http_version': None" in scope, FIXED
        assert "['tok en']" in scope, FIXED
        assert "'extensions': None" in scope, FIXED


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "HTTPS"}, "wss"),
        ({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "wss"}, "wss"),
        ({"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http"}, "ws"),
        ({"X-Forwarded-For": "1.2.3.4"}, "ws"),
        ({}, "ws"),
    ],
)
async def test_scheme_behind_a_proxy(
    shared_server: StartServer, headers: dict[str, str], scheme: str
):
    server = shared_server("daphne", APPLICATION, env=MENDED, args=("--proxy-headers",))
    script = Script(server, ACCEPT, "scope")
    async with script.connect(additional_headers=headers):
        assert f"'scheme': '{scheme}'" in await script.logged(".*scheme.*")


class TlsDaphne(Server):
    """daphne on a TLS port alone, with a certificate of its own that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        super().__init__("daphne", APPLICATION, log_path=folder / "daphne.log", env=MENDED)
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={folder}/key:certKey={folder}/certificate"
        self.command = (*self.command[:3], "-e", endpoint, APPLICATION)
        self.client = ssl.create_default_context()
        self.client.check_hostname = False
        self.client.verify_mode = ssl.CERT_NONE
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            name, name, key.public_key(), 1, now, now + datetime.timedelta(1)
        )
        pem = serialization.Encoding.PEM
        (folder / "certificate").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
        (folder / "key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        if not self.port:
            return False
        with (
            socket.create_connection((self.host, self.port), timeout=5) as connection,
            self.client.wrap_socket(connection),
        ):
            return True


async def test_scheme_over_tls(tmp_path: Path):
    with TlsDaphne(tmp_path) as server:
        script = Script(server, ACCEPT, "scope", text("open"))
        async with connect(f"wss://{script.target}", ssl=server.client) as client:
            assert await client.recv() == "open"
            assert "'scheme': 'wss'" in await script.logged(".*scheme.*")


# The root path

CLAIM = {"Daphne-Root-Path": "/claimed"}


async def root_paths(server: Server) -> tuple[str, str]:
    """The root path of a WebSocket and of a request whose headers claim one."""
    script = Script(server, ACCEPT, "scope")
    async with script.connect(additional_headers=CLAIM):
        scope = ast.literal_eval(await script.logged(".*scheme.*"))
    return scope["root_path"], await asyncio.to_thread(get, server, "/", CLAIM)


def get(server: Server, target: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(server.url + target, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        body: bytes = response.read()
    return body.decode()


async def test_root_path_of_a_client(mended: Server):
    assert await root_paths(mended) == ("", "")


async def test_root_path_of_the_server(shared_server: StartServer):
    own = ("--root-path", "/own")
    server = shared_server("daphne", APPLICATION, env=MENDED, args=own)
    assert await root_paths(server) == ("/own", "/own")


async def test_root_path_of_a_trusted_client(shared_server: StartServer):
    server = shared_server("daphne", APPLICATION, env={**MENDED, "TRUSTING": "1"})
    assert await root_paths(server) == ("/claimed", "/claimed")


async def test_daphne_still_believes_every_client(unmended: Server):
    assert await root_paths(unmended) == ("/claimed", "/claimed"), FIXED


# The access log

TARGET = "/log?a=1&access%5Ftoken=s3cret"


def test_the_access_log_masks_a_token(mended: Server):
    get(mended, TARGET, {})
    mended.wait_log(r'"GET /log\?a=1&access%5Ftoken=\*\*\*" 200')
    assert "s3cret" not in mended.log


def test_daphne_still_logs_a_token(unmended: Server):
    get(unmended, TARGET, {})
    logged = unmended.wait_log(r'"GET /log\?a=1&access%5Ftoken=(.*)" 200')
    assert logged[1] == "s3cret", FIXED


# The application's end


async def ends(waiting: Coroutine[Any, Any, object]) -> bool:
    """Whether it returns or raises before daphne's checker has come round."""
    task = asyncio.ensure_future(waiting)
    done, _ = await asyncio.wait({task}, timeout=CHECKER)
    if not task.cancel():
        task.exception()
    return bool(done)


async def test_application_that_returned(mended: Server):
    async with Script(mended, ACCEPT, "return").connect() as client:
        assert await closed(client) == (1000, "")


async def test_daphne_still_leaves_the_socket_open(unmended: Server):
    async with Script(unmended, ACCEPT, "return").connect() as client:
        assert not await ends(client.wait_closed()), FIXED
        client.transport.abort()


async def test_application_that_returned_without_an_answer(mended: Server):
    script = Script(mended, "return")
    with pytest.raises(InvalidStatus) as refused:
        await script.connect()
    assert refused.value.response.status_code == 500
    mended.wait_log(rf"The application returned without an answer to .*{script.path}")


async def test_daphne_still_does_not_answer(unmended: Server):
    assert not await ends(Script(unmended, "return").connect().__aenter__()), FIXED


async def seconds_of(attempt: Callable[[], Any]) -> float:
    """The time of three in a row: over two seconds, where each waits for daphne's checker."""
    started = time.monotonic()
    for _ in range(3):
        await attempt()
    return time.monotonic() - started


@pytest.mark.parametrize("accepted", [True, False])
async def test_application_that_raised(mended: Server, accepted: bool):
    scripts: list[Script] = []

    async def attempt() -> None:
        scripts.append(Script(mended, *[ACCEPT][: int(accepted)], "raise"))
        if accepted:
            async with scripts[-1].connect() as client:
                assert await closed(client) == (1011, "")
        else:
            with pytest.raises(InvalidStatus) as refused:
                await scripts[-1].connect()
            assert refused.value.response.status_code == 500

    assert await seconds_of(attempt) < CHECKER
    # The checker lives on, and logs each.
    for script in scripts:
        mended.wait_log(f"Exception inside application: wanted by {script.path}$")


async def test_daphne_still_takes_up_to_a_second(unmended: Server):
    async def attempt() -> None:
        async with Script(unmended, ACCEPT, "raise").connect() as client:
            assert await closed(client) == (1011, "")

    assert await seconds_of(attempt) > CHECKER, FIXED


# The server's end


async def stop(server: Server) -> int:
    return await asyncio.to_thread(server.terminate)


async def half_a_request(server: Server) -> socket.socket:
    connection = socket.create_connection((server.host, server.port))
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
    # Once a later connection was answered, the half request has arrived.
    async with Script(server, ACCEPT).connect():
        return connection


async def test_sigterm_beside_half_a_request(start_server: StartServer):
    server = start_server("daphne", APPLICATION, env=MENDED)
    script = Script(server, ACCEPT)
    async with script.connect() as client:
        with await half_a_request(server):
            assert await stop(server) == 0
        assert await closed(client) == (1012, "")
    assert f"{script.path} cancelled" in server.log


async def test_daphne_still_cancels_nobody(start_server: StartServer):
    server = start_server("daphne", APPLICATION)
    script = Script(server, ACCEPT)
    async with script.connect() as client:
        with await half_a_request(server):
            await stop(server)
        with pytest.raises(ConnectionClosed):
            await client.recv()
    assert f"{script.path} cancelled" not in server.log, FIXED


async def lingering(server: Server) -> tuple[bool, int]:
    """Whether an application was waited for though another had ended, and its close code."""
    quick, slow = Script(server, ACCEPT), Script(server, ACCEPT, "linger")
    async with quick.connect(), slow.connect() as client:
        await slow.logged("sent.*")
        await checked(server)
        await stop(server)
        code, _ = await closed(client)
    assert f"{quick.path} cancelled" in server.log
    return f"{slow.path} lingered" in server.log, code


async def checked(server: Server) -> None:
    """Waits for daphne's checker, so that no connection without application is left.

    Beside one, daphne cancels nobody: each WebSocket begins as a request that has none.
    """
    script = Script(server, ACCEPT, "receive", "raise")
    async with script.connect() as client:
        await client.close()
    await asyncio.to_thread(server.wait_log, f"inside application: wanted by {script.path}$")


async def test_sigterm_waits_for_all(start_server: StartServer):
    server = start_server("daphne", APPLICATION, env=MENDED)
    assert await lingering(server) == (True, 1012)


async def test_daphne_still_waits_for_the_first_only(start_server: StartServer):
    assert await lingering(start_server("daphne", APPLICATION)) == (False, 1006), FIXED


async def test_sigterm_does_not_wait_for_ever(start_server: StartServer):
    limit = ("--application-close-timeout", "1")
    server = start_server("daphne", APPLICATION, env=MENDED, args=limit)
    script = Script(server, ACCEPT, "stay")
    async with script.connect():
        await script.logged("sent.*")
        started = time.monotonic()
        assert await stop(server) == 0
        assert 0.9 < time.monotonic() - started < 10


async def test_sigterm_without_connections(start_server: StartServer):
    assert await stop(start_server("daphne", APPLICATION, env=MENDED)) == 0


# Limits; tests/faults/test_flow.py has those of a project


def raw(script: Script) -> Any:
    _, _, rest = script.target.partition("/")
    return raw_client(script.server, f"/{rest}", receive_buffer=65536)


def has_close_frame(client: RawClient) -> bool:
    try:
        client.closed()
    except (ConnectionError, EOFError):
        return False
    return True


def logs_in_time(script: Script) -> bool:
    deadline = time.monotonic() + CHECKER
    while time.monotonic() < deadline:
        if f"{script.path} sent websocket.send" in script.server.log:
            return True
        time.sleep(0.02)
    return False


def test_send_waits_for_the_client(mended: Server):
    script = Script(mended, ACCEPT, (MB, 50))
    with raw(script) as client:
        assert not logs_in_time(script)
        for _ in range(50):
            assert client.receive() == (BINARY, bytes(MB))
        script.server.wait_log(f"{script.path} sent websocket.send")


def test_daphne_still_never_waits(unmended: Server):
    script = Script(unmended, ACCEPT, (MB, 50))
    with raw(script):
        assert logs_in_time(script), FIXED


async def test_a_large_message(mended: Server):
    async with Script(mended, ACCEPT, (2 * MB, 1)).connect(max_size=None) as client:
        assert await client.recv() == bytes(2 * MB)


async def test_daphne_still_sends_no_large_message(unmended: Server):
    script = Script(unmended, ACCEPT, (2 * MB, 1))
    async with script.connect(max_size=None) as client:
        assert "PayloadExceededError" in await script.logged("raised.*|sent websocket.send"), FIXED
        client.transport.abort()


def test_a_flood_has_to_wait(mended: Server):
    with raw(Script(mended, ACCEPT, "linger")) as client:
        assert client.flood(frame(bytes(10_000)), 0.5, 30 * MB) < 20 * MB


def test_daphne_still_takes_a_flood(unmended: Server):
    with raw(Script(unmended, ACCEPT, "linger")) as client:
        assert client.flood(frame(bytes(10_000)), 5, 30 * MB) >= 30 * MB, FIXED


WRONG = {"size": frame(bytes(2 * MB), BINARY)[:1000], "utf-8": frame(b"\xff"), "mask": b"\x81\x01x"}


@pytest.mark.parametrize("what", WRONG)
def test_the_client_is_told_what_it_did_wrong(mended: Server, what: str):
    with raw(Script(mended, ACCEPT)) as client:
        client.socket.sendall(WRONG[what])
        assert has_close_frame(client)


@pytest.mark.parametrize("what", WRONG)
def test_daphne_still_tells_nothing(unmended: Server, what: str):
    with raw(Script(unmended, ACCEPT)) as client:
        client.socket.sendall(WRONG[what])
        assert not has_close_frame(client), FIXED


ENDLESS = {
    "pings": (frame(b"", PING) * 1001, 1008),
    "pongs": (frame(b"", PONG) * 1001, 1008),
    "fragments": (frame(b"", BINARY, fin=False) + frame(b"", 0, fin=False) * 5120, 1009),
}


@pytest.mark.parametrize(("data", "code"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends(mended: Server, data: bytes, code: int):
    with raw(Script(mended, ACCEPT)) as client:
        client.socket.sendall(data)
        assert client.closed()[0] == code


@pytest.mark.parametrize(("data", "code"), ENDLESS.values(), ids=ENDLESS)
def test_daphne_still_takes_what_never_ends(unmended: Server, data: bytes, code: int):
    with raw(Script(unmended, ACCEPT)) as client:
        client.socket.sendall(data + frame(b"last", PING))
        while (found := client.receive()) != (PONG, b"last"):
            assert found == (PONG, b""), FIXED


def answer_to_two(server: Server) -> bytes:
    """The second request comes while the first one waits for its application."""
    script = Script(server, "linger")
    with socket.create_connection((server.host, server.port), timeout=2) as client:
        request = f"GET /{script.target.partition('/')[2]} HTTP/1.1\r\n{UPGRADE}".encode()
        client.sendall(request)
        server.wait_log(f'WSCONNECTING {script.path}"')
        client.sendall(request)
        with contextlib.suppress(TimeoutError):
            return client.recv(65536)
        return b""


def test_a_second_request(mended: Server):
    assert answer_to_two(mended) == b""


def test_daphne_still_takes_it_for_a_handshake(unmended: Server):
    assert b"was added to main list twice" in answer_to_two(unmended), FIXED


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("daphne", ("--ping-interval", "1", "--ping-timeout", "1")),
        ("uvicorn", ("--ws-ping-interval", "1", "--ws-ping-timeout", "1")),
    ],
)
def test_servers_still_drop_a_slow_reader(
    name: ServerName, args: tuple[str, ...], start_server: StartServer
):
    """Once this fails, that server counts as life what the client takes: the mend may go."""
    script = Script(start_server(name, APPLICATION, args=args), ACCEPT, (MB, 20), "return")
    with raw(script) as client:
        messages = 0
        with contextlib.suppress(ConnectionError, EOFError):
            while client.receive()[0] == BINARY:
                messages += 1
                time.sleep(2)
        assert messages < 20


@pytest.mark.parametrize(
    ("name", "target", "path"),
    [("daphne", "/target;x", "/target"), ("uvicorn", "http://a/target", "http://a/target")],
)
def test_servers_still_give_another_path_than_over_http(
    name: ServerName, target: str, path: str, start_server: StartServer
):
    """tests/faults/test_odd_input.py has all targets, and our answer."""
    server = start_server(name, APPLICATION, env={"DJANGO_SETTINGS_MODULE": ""})
    with raw_client(server, f"{target}?{quote(repr([ACCEPT, 'raise']))}"):
        assert server.wait_log(r"wanted by (\w*:?/\S+)$")[1] == path, FIXED
