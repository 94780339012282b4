import asyncio
import itertools
import re
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.backplane import Nodes, backplane, node_of
from tests.waiting import until

DAY = 86400


class Clock(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0
        return super().select(0)


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop that waits for nothing: when all is done, it is later."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def fast(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(test)


class Remembering(InMemoryChannelLayer):
    """Knows when each membership was told to it, and how often; fails where it has an error."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.added: dict[str, list[float]] = {}
        self.error: Exception | None = None
        self.tries = 0

    async def group_add(self, group: str, channel: str) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.added.setdefault(group, []).append(asyncio.get_running_loop().time())
        await super().group_add(group, channel)


def keepers() -> list[Any]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_layer_of_ours_is_its_own(layer: InMemoryChannelLayer, folder: Any):
    local, other = LocalChannelLayer(directory=folder), InMemoryChannelLayer()
    assert backplane(local) is local
    assert backplane(layer) is backplane(layer)
    assert len({backplane(layer), backplane(other), backplane(None)}) == 3
    assert len({backplane(each).node() for each in (layer, other, None)}) == 1
    assert re.fullmatch(r"[0-9a-f]{8}", backplane(layer).node())
    elsewhere = await asyncio.to_thread(asyncio.run, asyncio.to_thread(backplane, layer))
    assert elsewhere.largest_message == backplane(layer).largest_message > 10**7


async def test_each_event_loop_has_a_name(layer: InMemoryChannelLayer):
    async def node() -> str:
        return backplane(layer).node()

    assert len({await node(), *[await asyncio.to_thread(asyncio.run, node()) for _ in "ab"]}) == 3
    assert await backplane(layer).nodes("g") == Nodes(None, None)


@pytest.mark.parametrize(
    ("group", "node"),
    [
        (f"connection.01234567{'a' * 24}", "01234567"),
        (f"connection.01234567{'a' * 23}", None),
        (f"connection.01234567{'A' * 24}", None),
        (f"connections.0123456{'a' * 24}", None),
        ("chat", None),
    ],
)
def test_the_node_of_a_group(group: str, node: str | None):
    assert node_of(group) == node


@pytest.mark.parametrize("expiry", [DAY, 300])
def test_memberships_are_renewed_long_before_they_end(expiry: int):
    async def test() -> None:
        layer = Remembering(group_expiry=expiry)
        plane = backplane(layer)
        for number in range(1000):
            await plane.group_add(f"g{number}", f"c{number}")
        await asyncio.sleep(3 * expiry)
        for times in layer.added.values():
            gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert expiry / 8 < min(gaps) <= max(gaps) < expiry / 2
        # They came at once, and are renewed over the time.
        renewed = sorted(time for times in layer.added.values() for time in times[1:])
        some = len(renewed) // 20
        assert min(b - a for a, b in zip(renewed, renewed[some:], strict=False)) > expiry / 100
        for number in range(1000):
            assert len(keepers()) == 1
            await plane.group_discard(f"g{number}", f"c{number}")
        await asyncio.sleep(0)
        assert (keepers(), layer.groups) == ([], {})

    fast(test())


@pytest.mark.parametrize("error", [ConnectionError("no Redis today"), ZeroDivisionError("a bug")])
def test_a_layer_that_fails_to_renew_is_asked_again(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    async def test() -> None:
        layer = Remembering()
        plane = backplane(layer)
        for number in range(3):
            await plane.group_add(f"g{number}", "c")
        layer.error = error
        await asyncio.sleep(DAY / 2)
        (record,) = caplog.records
        assert record.getMessage().startswith(f"The channel layer failed: {error}. ")
        assert bool(record.exc_info) is isinstance(error, ZeroDivisionError)
        layer.error, back = None, asyncio.get_running_loop().time()
        await asyncio.sleep(20)
        assert all(back <= times[-1] <= back + 20 for times in layer.added.values())
        layer.error = error  # the next outage is told of, too
        await asyncio.sleep(DAY / 2)
        assert len(caplog.records) == 2
        for number in range(3):
            await plane.group_discard(f"g{number}", "c")

    fast(test())


@pytest.mark.parametrize(
    ("error", "tries"), [(ConnectionError("dead"), 3), (TypeError("a bug"), 1)]
)
async def test_what_may_be_a_dead_connection_is_tried_again(error: Exception, tries: int):
    layer = Remembering()
    layer.error = error
    with pytest.raises(type(error)):
        await backplane(layer).group_add("g", "c")
    assert layer.tries == tries
    await backplane(layer).group_discard("g", "c")


async def test_who_leaves_while_it_is_renewed_has_left(layer: InMemoryChannelLayer):
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Remembering):
        async def group_add(self, group: str, channel: str) -> None:
            if group in self.added:
                begun.set()
                await go_on.wait()
            await super().group_add(group, channel)

    slow = Slow(group_expiry=1)
    plane = backplane(slow)
    for group in ("leaves", "stays"):
        await plane.group_add(group, "c")
    await begun.wait()
    await plane.group_discard("leaves", "c")
    go_on.set()
    await until(lambda: len(slow.added["stays"]) > 1)
    assert set(slow.groups) == {"stays"}
    await plane.group_discard("stays", "c")
