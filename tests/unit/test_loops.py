"""What there is one of for each event loop."""

import asyncio
import gc
import weakref

import pytest

from panther_channels._process.loops import Lock, OnePerLoop


class Thing:
    pass


def test_each_loop_has_its_own():
    of_loop = OnePerLoop(Thing)

    async def twice() -> tuple[Thing, Thing]:
        return of_loop(), of_loop()

    first, again = asyncio.run(twice())
    assert first is again
    other, _ = asyncio.run(twice())
    assert other is not first


def test_no_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        OnePerLoop(Thing)()


async def test_a_lock_is_held_by_one_at_a_time():
    lock, order, go_on = Lock(), list[str](), asyncio.Event()

    async def use(name: str) -> None:
        async with lock:
            order.append(name)
            await go_on.wait()
            order.append(name)

    using = [asyncio.create_task(use(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert lock.locked()
    using[1].cancel()
    await asyncio.wait({using[1]})
    go_on.set()
    await asyncio.wait(using)
    assert "".join(order) == "aacc"
    assert not lock.locked()


def test_a_lock_for_which_somebody_has_waited_keeps_no_loop():
    lock, loops = Lock(), list[weakref.ref[asyncio.AbstractEventLoop]]()

    async def use() -> None:
        async with lock:
            await asyncio.sleep(0)

    async def use_twice() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(use(), use())

    for _ in range(2):
        asyncio.run(use_twice())
    gc.collect()
    assert [loop() for loop in loops] == [None, None]
