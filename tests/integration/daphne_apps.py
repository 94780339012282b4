"""A raw ASGI application that does what the client's query string says, and logs what it saw.

The query string is the `repr` of a list of steps; a step is a message to send, one of the words
below, a number: so many bytes as the body of a refusal, or a pair: a size, and how many
messages of that size to send. Over HTTP it answers with its root path.
With MENDED in the environment daphne is mended, without it is left as it was installed; with
TRUSTING, WS_TRUST_DAPHNE_ROOT_PATH is set.
"""

import ast
import asyncio
import logging
import os
from typing import Any
from urllib.parse import unquote

from django.conf import settings

if os.environ.get("MENDED"):
    from panther_channels.servers.daphne import install

    install()
if os.environ.get("TRUSTING"):
    settings.configure(WS_TRUST_DAPHNE_ROOT_PATH=True)

logger = logging.getLogger("app")
# Seconds that the application takes to end after it was cancelled.
LINGER = {"linger": 0.5, "stay": 60}
SCOPE = ("scheme", "http_version", "subprotocols", "extensions", "root_path")


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["root_path"].encode()})
        return
    try:
        for step in ast.literal_eval(unquote(scope["query_string"].decode())):
            if step == "return":
                return
            await _do(step, scope, receive, send)
        while True:
            await _do("receive", scope, receive, send)
    except asyncio.CancelledError:
        logger.info("%s cancelled", scope["path"])
        raise


async def _do(step: Any, scope: dict[str, Any], receive: Any, send: Any) -> None:
    outcome: object
    if step == "raise":
        raise RuntimeError(f"wanted by {scope['path']}")
    if isinstance(step, str) and step in LINGER:
        await _linger(LINGER[step], scope)
    if step == "scope":
        outcome = {key: scope.get(key) for key in SCOPE}
    elif step == "receive":
        outcome = await receive()
    elif isinstance(step, tuple):
        for _ in range(step[1]):
            outcome = await _send({"type": "websocket.send", "bytes": bytes(step[0])}, send)
    elif isinstance(step, int):
        outcome = await _send({"type": "websocket.http.response.body", "body": bytes(step)}, send)
    else:
        outcome = await _send(step, send)
    logger.info("%s %s", scope["path"], outcome)


async def _send(message: dict[str, Any], send: Any) -> str:
    try:
        await send(message)
    except Exception as error:  # noqa: BLE001 (whatever it is, the test reads it)
        return f"raised {type(error).__name__}: {error}"
    return f"sent {message.get('type')}"


async def _linger(seconds: float, scope: dict[str, Any]) -> None:
    """Waits to be cancelled, and then takes its time."""
    try:
        await asyncio.Future()
    finally:
        await asyncio.sleep(seconds)
        logger.info("%s lingered", scope["path"])
