"""A handshake that is answered without `websockets` is answered as with it."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from panther_channels.servers import uvicorn as mends
from panther_channels.servers.opening import read

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIXED = {
    "Host": "testserver",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}
DEFLATE = "permessage-deflate; client_max_window_bits"
USUAL: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("/", {}),
    "a browser's": (
        "/chat/?room=1&room=%202",
        {
            "Connection": "keep-alive, Upgrade",
            "Origin": "http://testserver",
            "Cookie": "a=1; b=2",
            "Sec-WebSocket-Extensions": DEFLATE,
            "Sec-WebSocket-Protocol": "chat, superchat",
        },
    ),
    "letters": ("/%C3%A9/a%20b/%zz", {"Upgrade": "WebSocket", "Connection": "UPGRADE"}),
    "spaces": ("/", {"X-Spaces": " \t in the middle  ", "Sec-WebSocket-Protocol": "a,b"}),
    "Latin-1": ("/", {"X-Name": "Renée"}),
    "not our extension": ("/", {"Sec-WebSocket-Extensions": "x-other"}),
    "no extension at all": ("/", {"Sec-WebSocket-Extensions": "a b;;"}),  # 400 of `websockets`
}
UNUSUAL: dict[str, tuple[str, dict[str, str]]] = {
    "absolute": ("http://testserver/chat?a", {}),
    "fragment": ("/chat#a", {}),
    "another version": ("/", {"Sec-WebSocket-Version": "8"}),
    "a short key": ("/", {"Sec-WebSocket-Key": "c2hvcnQ="}),
    "no key": ("/", {"Sec-WebSocket-Key": ""}),
    "a key of other letters": ("/", {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZ-=="}),
    "a body": ("/", {"Content-Length": "0"}),
    "a long header": ("/", {"X-Long": "x" * 9000}),
    "many headers": ("/", {f"X-{n}": "x" for n in range(130)}),
    "a bad subprotocol": ("/", {"Sec-WebSocket-Protocol": "a b"}),
    "an empty subprotocol": ("/", {"Sec-WebSocket-Protocol": "a,,b"}),
    "twice": ("/", {"X-Twice": "1\r\nX-Twice: 2"}),
    "two origins": ("/", {"Origin": "http://a\r\nOrigin: http://b"}),
    "two keys": ("/", {"Sec-WebSocket-Key": f"{KEY}\r\nSec-WebSocket-Key: {KEY}"}),
}


def request(target: str, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (FIXED | headers).items())
    return f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


async def answer(data: bytes) -> tuple[Any, bytes]:
    """The scope of a request, and all that its client gets."""
    scopes: list[dict[str, Any]] = []

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        scopes.append(scope | {"client": None, "server": None})
        chosen = next(iter(scope["subprotocols"]), None)
        headers = [(b"X-Own", "Renée".encode("latin-1"))]
        await send({"type": "websocket.accept", "subprotocol": chosen, "headers": headers})
        await send({"type": "websocket.close", "code": 1000})

    config = uvicorn.Config(application, log_config=None, lifespan="off", root_path="/below")
    config.load()
    state = ServerState()
    state.default_headers = [(b"server", b"uvicorn")]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: HttpToolsProtocol(config, state, {"a": 1}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(data)
    received = await reader.read(65536)
    writer.write(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
    received += await asyncio.wait_for(reader.read(), 2)
    writer.close()
    server.close()
    return scopes, received


@pytest.mark.parametrize("name", [*USUAL, *UNUSUAL])
async def test_same_scope_and_same_answer(name: str, monkeypatch: pytest.MonkeyPatch):
    mends.install()
    data = request(*(USUAL | UNUSUAL)[name])
    ours = await answer(data)
    monkeypatch.setattr(mends, "read", lambda _data: None)
    assert ours == await answer(data)
    assert ours[1].startswith(b"HTTP/1.1 ")
    assert (read(data) is not None) == (name in USUAL)
