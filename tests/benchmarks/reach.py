"""The client of confirmed sends, groups and lists, a process of its own: prints one line of JSON.

It sends, too, and holds the connections that are reached.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable

import django
import uvloop
from picows import WSFrame, WSListener, WSTransport, ws_connect

from panther_channels import connections
from tests.benchmarks.load import DEADLINE
from tests.waiting import until

ROUNDS = 5
CONNECTIONS, SINGLES = 100, 500
TASKS, BURST = 64, 5120
MANY = 1000
MEMBERS = 8000
LISTED = 10_000

_TEXT = "0123456789" * 3

#: Of each round, by their names in the report.
Figures = dict[str, list[float]]


class Crowd:
    """All connections, and how many messages came over them."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.count = self._awaited = 0
        self._came = asyncio.Event()

    async def open(self, url: str, count: int) -> None:
        for _ in range(count):
            await ws_connect(lambda: _Member(self), url, read_buffer_init_size=1024)
        await until(lambda: len(self.ids) == count)

    async def timed(self, doing: Awaitable[object], messages: int = 0) -> tuple[float, float]:
        """Seconds for a call, and until all connections together have got so many messages."""
        self._came.clear()
        self._awaited, started = self.count + messages, time.perf_counter()
        await doing
        called = time.perf_counter() - started
        async with asyncio.timeout(DEADLINE):
            if self.count < self._awaited:
                await self._came.wait()
        return called, time.perf_counter() - started

    def take(self) -> None:
        self.count += 1
        if self.count == self._awaited:
            self._came.set()


class _Member(WSListener):
    """One connection: the server's first message names it."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._is_named = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._is_named:
            self._crowd.take()
        else:
            self._is_named = True
            self._crowd.ids.append(frame.get_payload_as_ascii_text().split()[1])


async def sends(url: str) -> Figures:
    """To one after the other of a hundred connections."""
    crowd = Crowd()
    await crowd.open(f"{url}/outside", CONNECTIONS)
    ids = [crowd.ids[number % CONNECTIONS] for number in range(BURST)]

    async def send(some: Iterable[str], within: float | None) -> None:
        for each in some:
            await connections.send_message_to_websocket(each, _TEXT, confirm_within=within)

    async def at_once() -> None:
        await asyncio.gather(*(send(ids[task::TASKS], DEADLINE) for task in range(TASKS)))

    await crowd.timed(at_once(), BURST)  # it warms up
    found: Figures = {"one": [], "tasks": [], "many": []}
    for _ in range(ROUNDS):
        singles = [(await crowd.timed(send([each], DEADLINE), 1))[0] for each in ids[:SINGLES]]
        found["one"].append(1000 * statistics.median(singles))
        found["tasks"].append(BURST / 1000 / (await crowd.timed(at_once(), BURST))[0])
        one_by_one, _ = await crowd.timed(send(ids[:MANY], None), MANY)
        messages = [(each, _TEXT) for each in ids[:MANY]]
        at_a_time, _ = await crowd.timed(connections.send_messages(messages), MANY)
        found["many"].append(one_by_one / at_a_time)
    return found


async def group(url: str) -> Figures:
    """To a group with all its members in one process."""
    crowd = Crowd()
    await crowd.open(f"{url}/member", MEMBERS)

    async def send() -> float:
        return (await crowd.timed(connections.send_message_to_group("room", _TEXT), MEMBERS))[1]

    await send()
    return {"group": [await send() for _ in range(ROUNDS)]}


async def listed(url: str) -> Figures:
    """Those of four processes."""
    crowd = Crowd()
    await crowd.open(f"{url}/member", LISTED)

    async def ask() -> None:
        found = await connections.list_connections(within=DEADLINE)
        if len(found) != LISTED or found.missing:
            raise RuntimeError(f"{len(found)} of {LISTED} were listed, without {found.missing}")

    await ask()
    return {"list": [(await crowd.timed(ask()))[0] for _ in range(ROUNDS)]}


async def main() -> None:
    url, workers = sys.argv[1:]
    measures: list[Callable[[str], Awaitable[Figures]]] = (
        [sends, group] if workers == "1" else [listed]
    )
    found: Figures = {}
    for measure in measures:
        found |= await measure(url)
    print(json.dumps(found))


if __name__ == "__main__":
    django.setup()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
