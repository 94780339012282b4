"""Opens connections that stay idle, and prints how many bytes each cost the server."""

import argparse
import asyncio

import psutil
import uvloop
from picows import WSListener, ws_connect

CONNECTIONS = 500
# The first ones make the server load what it loads late.
_WARM_UP = 100


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("server_pid", type=int)
    options = parser.parse_args()
    server = psutil.Process(options.server_pid)
    opened = [await ws_connect(WSListener, options.url) for _ in range(_WARM_UP)]
    before = server.memory_info().rss
    opened += [await ws_connect(WSListener, options.url) for _ in range(CONNECTIONS)]
    print((server.memory_info().rss - before) / CONNECTIONS)
    for transport, _listener in opened:
        transport.disconnect()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
