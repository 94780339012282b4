"""Answers each request with its path, as Django's HTTP sees it; a WebSocket by a refusal."""

from io import BytesIO
from typing import Any

import django
from django.core.handlers.asgi import ASGIRequest

from panther_channels._socket.denial import respond

django.setup()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    request = ASGIRequest({**scope, "type": "http", "method": "GET"}, BytesIO())
    seen = (request.path, scope["raw_path"].decode(), scope["query_string"].decode())
    prefix = "websocket." if scope["type"] == "websocket" else ""
    await respond(send, 200, seen, prefix=prefix)
    await receive()
