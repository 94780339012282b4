"""Processes that only send: `python -m tests.integration.senders KIND NAME COUNT`, ids on stdin.

Each sends COUNT messages `NAME:NUMBER` to the connections in turn. KIND is `script` (an event loop
of its own), `pool` (eight threads that know of no event loop, as in a Celery worker; each is a
sender of its own, NAME.THREAD), or `many` (100 tasks of one event loop).
"""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import django

THREADS = 8
TASKS = 100


def messages(name: str, count: int, ids: list[str]) -> Iterator[tuple[str, str]]:
    for number in range(count):
        yield ids[number % len(ids)], f"{name}:{number}"


async def script(name: str, count: int, ids: list[str]) -> None:
    from panther_channels.websocket import send_message_to_websocket

    for connection_id, message in messages(name, count, ids):
        await send_message_to_websocket(connection_id, message)


async def many(name: str, count: int, ids: list[str]) -> None:
    tasks = (script(f"{name}.{task}", count // TASKS, ids) for task in range(TASKS))
    await asyncio.gather(*tasks)


def thread(name: str, count: int, ids: list[str]) -> None:
    from panther_channels import sync

    for connection_id, message in messages(name, count, ids):
        sync.send_message_to_websocket(connection_id, message)


def pool(name: str, count: int, ids: list[str]) -> None:
    with ThreadPoolExecutor(THREADS) as executor:
        sending = [
            executor.submit(thread, f"{name}.{number}", count // THREADS, ids)
            for number in range(THREADS)
        ]
    for each in sending:
        each.result()


def main() -> None:
    kind, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    ids = sys.stdin.read().split()
    django.setup()
    if kind == "pool":
        pool(name, count, ids)
    else:
        asyncio.run({"script": script, "many": many}[kind](name, count, ids))


if __name__ == "__main__":
    main()
