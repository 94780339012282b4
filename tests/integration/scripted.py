"""A raw ASGI application that does what the client's query string says, and prints what it saw.

The query string is the `repr` of a list: a number, which its lines begin with, and steps. A step is
a message to send, one of the words below, a number: so many bytes as the body of a refusal, or a
pair: a size, and how many messages of that size to send; a third element has them sent at once.
Then it takes what comes until the end. Over HTTP it answers with its root path.
Of a number of things that autobahn makes for nobody, "unread" tells how many there were.
With MENDED in the environment, the server of that name is mended, else it is left as it was
installed; with TRUSTING, WS_TRUST_DAPHNE_ROOT_PATH is set.
"""

import ast
import asyncio
import os
import sys
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from django.conf import settings

if mended := os.environ.get("MENDED"):
    import_module(f"panther_channels.servers.{mended}").install()
if os.environ.get("TRUSTING"):
    settings.configure(WS_TRUST_DAPHNE_ROOT_PATH=True)

unread = 0  # what autobahn has made for nobody, counted with COUNTING in the environment


def _count_calls(module: Any, name: str) -> None:
    function = getattr(module, name)

    def counting(*args: Any, **kwargs: Any) -> Any:
        global unread
        unread += 1
        return function(*args, **kwargs)

    setattr(module, name, counting)


if os.environ.get("COUNTING"):
    _count_calls(import_module("autobahn.util"), "hl")
    _count_calls(import_module("autobahn.websocket.protocol"), "pformat")
    _count_calls(import_module("autobahn.util").ObservableMixin, "fire")

if os.environ.get("DEBUGGING"):  # autobahn, whose log isn't Python's
    import_module("txaio").set_global_log_level("debug")

# Seconds that the application takes to end after it was cancelled.
LINGER = {"linger": 0.5, "stay": 60}
SCOPE = ("path", "scheme", "http_version", "root_path")
LISTS = ("subprotocols", "extensions", "client")


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["root_path"].encode()})
        return
    if scope["type"] != "websocket":
        raise RuntimeError("only these")
    number, *steps = ast.literal_eval(unquote(scope["query_string"].decode()))
    connection = Connection(number, scope, receive, send)
    connection.tell("begins")
    try:
        await receive()
        for step in steps:
            if step == "return":
                return
            if step == "raise":
                raise RuntimeError(f"wanted by {number}")
            await connection.do(step)
        while not connection.is_over:
            await connection.do("receive")
    except asyncio.CancelledError:
        connection.tell("cancelled")
        raise
    finally:
        connection.tell("over")


class Connection:
    def __init__(self, number: int, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self._number, self._scope, self._receive, self._send = number, scope, receive, send
        self.is_over = False

    def tell(self, line: str) -> None:
        sys.stdout.write(f"script {self._number} {line}\n")
        sys.stdout.flush()

    async def do(self, step: Any) -> None:
        if isinstance(step, str) and step in LINGER:
            await self._linger(LINGER[step])
        elif step == "scope":
            for key in SCOPE:
                self.tell(f"{key} {self._scope.get(key)}")
            for key in LISTS:
                self.tell(f"{key} {' '.join(map(str, self._scope.get(key) or ['none']))}")
        elif step == "receive":
            self._tell_event(await self._receive())
        elif step == "unread":
            self.tell(f"unread {unread}")
        elif isinstance(step, tuple) and len(step) == 3:
            await asyncio.gather(*(self.do((step[0], 1)) for _ in range(step[1])))
        elif isinstance(step, tuple):
            message = {"type": "websocket.send", "bytes": bytes(step[0])}
            outcomes = [await self._try(message) for _ in range(step[1])]
            self.tell(outcomes[-1])
        elif isinstance(step, int):
            self.tell(
                await self._try({"type": "websocket.http.response.body", "body": bytes(step)})
            )
        else:
            self.tell(await self._try(step))

    def _tell_event(self, event: dict[str, Any]) -> None:
        if event["type"] == "websocket.receive":
            data = event.get("text") or event.get("bytes")
            self.tell(f"received {data!r:.40}")
        else:
            self.is_over = True
            self.tell(f"disconnect {event['code']} {event.get('reason')!r}")

    async def _try(self, message: dict[str, Any]) -> str:
        try:
            await self._send(message)
        except Exception as error:  # noqa: BLE001 (whatever it is, the test reads it)
            return f"raised {type(error).__name__}: {error}"
        return f"sent {message['type'].removeprefix('websocket.')}"

    async def _linger(self, seconds: float) -> None:
        """Waits to be cancelled, and then takes its time."""
        try:
            await asyncio.Future()
        finally:
            await asyncio.sleep(seconds)
            self.tell("lingered")
