import asyncio
from types import SimpleNamespace

from panther_channels._queue import BoundedQueue, bound_channel


async def test_a_queue_with_a_limit_in_bytes():
    overflows: list[int] = []
    queue = BoundedQueue(10, lambda: overflows.append(1))
    queue.put_nowait(b"x" * 20)  # a single message may have any size
    assert await queue.get() == b"x" * 20
    for _ in range(5):
        queue.put_nowait(b"xx")
    assert overflows == []
    for _ in range(5):
        queue.put_nowait(b"xx")
    assert overflows == [1]
    assert queue.empty()


async def test_who_waits_at_a_queue_that_overflowed_goes_on_waiting():
    queue = BoundedQueue(1, lambda: None)
    for _ in range(2):
        queue.put_nowait(b"xx")
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(b"xx")
    await asyncio.wait({getting}, timeout=0.05)
    assert not getting.done()
    getting.cancel()


def test_a_channel_gets_one():
    layer = SimpleNamespace(channels={"channel": asyncio.Queue()})
    overflows: list[int] = []
    bound_channel(layer, "channel", 1, lambda: overflows.append(1))
    for _ in range(2):
        layer.channels["channel"].put_nowait(b"xx")
    assert overflows == [1]
