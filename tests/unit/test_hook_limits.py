"""How long hooks may take; tests/faults/test_hooks.py has it on servers."""

import asyncio
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from tests.unit.noted import Sleepy, warnings
from tests.unit.peer import Peer
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("short_limits")


async def test_a_hook_that_closes_has_its_time(caplog: pytest.LogCaptureFixture):
    class Closing(Sleepy):
        async def receive(self, data: str | bytes):
            await self.close(4002)
            await asyncio.sleep(100)

    async with Peer(Closing.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        assert (await peer.next())["code"] == 4002
        await peer.ended()
        assert peer.journal == [("disconnect", 4002)]
    assert len(warnings(caplog)) == 1


async def test_hooks_have_all_of_their_time(settings: Any, caplog: pytest.LogCaptureFixture):
    class Pausing(Sleepy):
        async def sleep(self, hook: str) -> None:
            await asyncio.sleep(0.06)
            self.note(hook)

    settings.WS_CONNECT_TIMEOUT = 30
    settings.WS_DISCONNECT_GRACE = 0.15  # of which an idle time before is no part
    settings.WS_SHUTDOWN_TIMEOUT = 0.1
    async with Peer(Pausing.as_asgi()) as peer:
        await peer.accepted()
        await asyncio.sleep(0.2)
        peer.push("one")
        await peer.journaled("receive")
        await asyncio.sleep(0.2)
        peer.push("two")
        await peer.left(4001)
    hooks = ["auth", "permissions", "connect", "accepted", "one", "receive", "two", "receive"]
    assert peer.journal == [*hooks, ("disconnect", 4001), "disconnect"]
    assert warnings(caplog) == []


async def test_leaving_the_channel_layer_is_no_hook(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    discard = layer.group_discard

    async def slow(group: str, channel: str) -> None:
        await asyncio.sleep(0.3)
        await discard(group, channel)

    class Failing(Sleepy):
        async def connect(self):
            await self.accept()
            raise ZeroDivisionError

    monkeypatch.setattr(layer, "group_discard", slow)
    async with Peer(Failing.as_asgi()) as peer:
        await peer.accepted()
        await peer.ended()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("earlier", [0, 1])
async def test_a_cancellation_by_the_server_at_the_same_time_is_not_lost(earlier: int):
    class Waiting(Sleepy):
        async def receive(self, data: str | bytes):
            for number in range(earlier + 1):
                self.note(number)
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    if number == earlier:
                        self.scope["peer"].task.cancel()  # by the server, as ours comes
                        await asyncio.sleep(0)

    peer = Peer(Waiting.as_asgi())
    peer.scope["peer"] = peer
    async with peer:
        await peer.accepted()
        peer.push("one")
        for number in range(earlier):  # and one that a hook has swallowed before
            await peer.journaled(number)
            peer.task.cancel()
        await peer.journaled(earlier)
        peer.leave(4001)
        await asyncio.wait({peer.task}, timeout=2)
        assert peer.task.cancelled()
        assert peer.journal[-1] == ("disconnect", 4001)


async def test_a_cancellation_that_was_swallowed_before_is_nobodys_now():
    class Swallowing(Sleepy):
        async def receive(self, data: str | bytes):
            try:
                self.note("waits")
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(100)

    async with Peer(Swallowing.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        await peer.journaled("waits")
        peer.task.cancel()
        await peer.left(4001)  # without an exception
        assert peer.task.cancelling() == 1


async def test_who_read_ahead_ends_with_the_connection(layer: InMemoryChannelLayer):
    class Failing(Sleepy):
        async def receive(self, data: str | bytes):
            await asyncio.sleep(0.1)
            self.note(len(asyncio.all_tasks()))
            raise ZeroDivisionError

    before = asyncio.all_tasks()
    async with Peer(Failing.as_asgi()) as peer:
        await peer.accepted()
        await until(lambda: layer.channels)  # the connection listens
        idle = asyncio.all_tasks()
        peer.push("one")
        await peer.ended()
        assert peer.journal[0] == len(idle) + 1
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
