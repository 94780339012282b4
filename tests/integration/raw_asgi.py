"""An ASGI application without any framework: HTTP says "raw", a WebSocket echoes."""

import os
from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"raw"})
    elif scope["type"] == "websocket":
        await _echo(scope, receive, send)


async def _echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "log":
            print(f"word={os.environ['RAW_WORD']} root_path={scope['root_path']}")  # noqa: T201
        text, data = event.get("text"), event.get("bytes")
        await send({"type": "websocket.send", "text": text, "bytes": data})
