"""A handshake that is refused with an answer: ASGI's "websocket.http.response" extension."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

_LINGER = 0.2  # seconds that a refused connection may take to go away

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def deny(
    scope: Mapping[str, Any],
    receive: Receive,
    send: Send,
    status: int,
    detail: Any,
    close: tuple[int, str] = (1000, ""),
) -> None:
    """Refuse with a status and a body of JSON, or where the server can't, with a bare 403.

    Args:
        scope: the ASGI scope.
        receive: the server's; ``websocket.connect`` was received.
        send: the server's; nothing was sent.
        status: the HTTP status.
        detail: what the body ``{"detail": …}`` says.
        close: a close code and reason, for a server that tells them in a way of its own.
    """
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": close[0], "reason": close[1]})
        return
    await respond(send, status, detail, prefix="websocket.")
    # uvicorn 0.54 logs an error for an application that ends before the refused connection is
    # lost. There the first event follows from the response, the second one from the loss; other
    # servers send one, and are waited for in vain, but not for long.
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            await receive()
            await receive()


async def respond(
    send: Send,
    code: int,
    detail: Any,
    *,
    prefix: str = "",
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send a whole HTTP response of JSON."""
    body = json.dumps({"detail": detail}, default=str).encode()
    if code == 401:  # RFC 9110 section 15.5.2: it says what would let in
        extra = ((b"www-authenticate", b"Bearer"), *extra)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    await send({"type": f"{prefix}http.response.start", "status": code, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": body})
