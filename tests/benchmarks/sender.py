"""The sender of the outside messages: ``python -m tests.benchmarks.sender APPLICATION HOW``.

A plain script with an event loop of its own, which awaits each send in turn; or, for the sync
sends, without one. The client writes orders to its standard input: a line with the connections'
ids, then single bytes. Not all channel layers slow their sender down, so the client does: it
acknowledges what arrived, and at most WINDOW messages are under way, whatever the layer.
"""

import asyncio
import contextlib
import importlib
import json
import os
import select
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import django
from asgiref.sync import async_to_sync

WINDOW = 500
BATCH = 25  # messages that one acknowledgement stands for
SIZE = 100  # bytes of each message
# Seconds without an acknowledgement after which what is under way counts as lost.
STALL = 3.0

ARRIVED, STOP, ONE = b"a", b"s", b"o"

AsyncSend = Callable[[str, str], Awaitable[None]]
Send = Callable[[str, str], object]


class Orders:
    """What the client has asked for so far, and how far the sender got."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids
        self.sent = self.acknowledged = self.singles = 0
        self.is_flooding = True

    @property
    def is_full(self) -> bool:
        return self.sent - self.acknowledged >= WINDOW

    def take(self, orders: bytes) -> None:
        self.acknowledged += orders.count(ARRIVED) * BATCH
        self.singles += orders.count(ONE)
        if STOP in orders:
            self.is_flooding = False

    def next(self) -> tuple[str, str]:
        """The id and the text of the next message: its number, and when it was sent."""
        number = self.sent
        self.sent += 1
        text = f"{number:09d} {time.monotonic_ns():020d} ".ljust(SIZE, ".")
        return self._ids[number % len(self._ids)], text


class AsyncSender:
    """Follows the orders in an event loop."""

    def __init__(self, orders: Orders, send: AsyncSend) -> None:
        self._orders = orders
        self._send = send
        self._changed = asyncio.Event()

    def take(self, received: bytes) -> None:
        self._orders.take(received)
        self._changed.set()

    async def flood(self) -> int:
        """Sends until it is told to stop, or nothing arrives any more; returns how many."""
        orders, send = self._orders, self._send
        while orders.is_flooding:
            if not orders.is_full:
                await send(*orders.next())
            elif not await self._wait(STALL):
                break
        while orders.is_flooding:
            await self._wait(None)
        return orders.sent

    async def singles(self) -> None:
        """Sends one message at a time, until it is cancelled."""
        orders = self._orders
        while True:
            while orders.singles:
                orders.singles -= 1
                await self._send(*orders.next())
            await self._wait(None)

    async def _wait(self, seconds: float | None) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                return await self._changed.wait()
        except TimeoutError:
            return False


def flood(orders: Orders, send: Send) -> int:
    """The same for sync sends, without an event loop in this thread."""
    while orders.is_flooding:
        wait = STALL if orders.is_full else 0
        if select.select([0], [], [], wait)[0]:
            orders.take(os.read(0, 65536))
        elif orders.is_full:
            break
        if not orders.is_full:
            send(*orders.next())
    while orders.is_flooding:
        orders.take(os.read(0, 65536))
    return orders.sent


async def script(orders: Orders, send: AsyncSend) -> None:
    sender = AsyncSender(orders, send)
    ended = asyncio.Event()

    def read() -> None:
        received = os.read(0, 65536)
        sender.take(received)
        if not received:
            ended.set()

    asyncio.get_running_loop().add_reader(0, read)
    print(await sender.flood(), flush=True)
    singles = asyncio.create_task(sender.singles())
    await ended.wait()
    singles.cancel()


def over_channels() -> AsyncSend:
    layer: Any = importlib.import_module("channels.layers").get_channel_layer()

    async def send(connection_id: str, text: str) -> None:
        event = {"type": "outside.message", "text": text}
        await layer.group_send(f"client.{connection_id}", event)

    return send


def sending(application: str, how: str) -> Any:
    """The function that sends."""
    module = {"ours": "panther_channels", "panther": "panther"}.get(application)
    if module is None:
        send = over_channels()
        return async_to_sync(send) if how == "sync" else send
    where = "sync" if how == "sync" else "websocket"
    return importlib.import_module(f"{module}.{where}").send_message_to_websocket


def main() -> None:
    application, how = sys.argv[1:]
    if application == "panther":
        # The application is made, and with it the connection to Redis, but no server runs it. What
        # it prints must not pass for our answer.
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module("tests.benchmarks.applications.panther")
    else:
        django.setup()
    line = bytearray()
    while not line.endswith(b"\n"):  # not a byte more than the line: what follows is read raw
        line += os.read(0, 1)
    orders, send = Orders(json.loads(line)), sending(application, how)
    if how == "async":
        asyncio.run(script(orders, send))
    else:
        print(flood(orders, send), flush=True)


if __name__ == "__main__":
    main()
