"""The client of the latencies, a process of its own: echoes at a given rate, and their times.

It sends when a message is due, whether or not the earlier ones have come back; and the time runs
from when it was due, so that a server that falls behind can't hide it. Prints one line of JSON.
"""

import asyncio
import json
import statistics
import sys
import time

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

CONNECTIONS = 50
SIZE = 100
# Seconds between two looks at what is due.
_TICK = 0.001
_PATIENCE = 5.0


class Echoes(WSListener):
    def __init__(self, latencies: list[float]) -> None:
        self._latencies = latencies

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            transport.disconnect()
            return
        due = int(frame.get_payload_as_bytes())
        self._latencies.append((time.monotonic_ns() - due) / 1_000_000)


async def main() -> None:
    url, rate, warm_up, seconds = sys.argv[1], *map(float, sys.argv[2:])
    latencies: list[float] = []
    opened = [await ws_connect(lambda: Echoes(latencies), url) for _ in range(CONNECTIONS)]
    transports = [transport for transport, _listener in opened]
    skipped = await _send(transports, rate, warm_up)
    sent = skipped + await _send(transports, rate, seconds)
    give_up = time.monotonic() + _PATIENCE
    while len(latencies) < sent and time.monotonic() < give_up:  # noqa: ASYNC110 - may never be
        await asyncio.sleep(0.01)
    counted = latencies[skipped:]
    quantiles = statistics.quantiles(counted, n=100)
    print(json.dumps({"rate": rate, "p50": quantiles[49], "p99": quantiles[98]}), flush=True)
    for transport in transports:
        transport.disconnect()


async def _send(transports: list[WSTransport], rate: float, seconds: float) -> int:
    began, count, step = time.monotonic_ns(), 0, 1e9 / rate
    while (elapsed := time.monotonic_ns() - began) < seconds * 1e9:
        while count * step < elapsed:
            due = f"{began + int(count * step)}".rjust(SIZE).encode()
            transports[count % CONNECTIONS].send(WSMsgType.TEXT, due)
            count += 1
        await asyncio.sleep(_TICK)
    return count


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
