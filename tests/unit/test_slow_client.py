"""The end of a client that takes nothing: 1013, and then its TCP connection is cut off."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.test import override_settings

from panther_channels._hub import hub as _hub
from panther_channels._hub.hub import hub
from panther_channels._hub.subscription import Subscription
from panther_channels._socket import slow_client as _slow_client
from panther_channels._socket.tasks import Tasks
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer, StuckPeer
from tests.waiting import until

CLOSE = {"type": "websocket.close", "code": 1013, "reason": "slow consumer"}


@pytest.fixture(autouse=True)
def overflows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Where a layer that counts bytes would be told what to call when there are too many."""
    found: list[Any] = []
    monkeypatch.setattr(Subscription, "bound", lambda _self, _limit, call: found.append(call))
    monkeypatch.setattr(_slow_client, "_LINGER", 0.02)
    monkeypatch.setattr(_hub, "TICK", 0.01)
    with override_settings(WS_SEND_TIMEOUT=0.1):
        yield found


class Plain(GenericWebsocket):
    async def connect(self):
        if self.path == "/waits":
            await asyncio.sleep(100)
        await self.accept()

    async def disconnect(self, code: int):
        self.scope["journal"].append(code)


async def test_nothing_is_taken(caplog: pytest.LogCaptureFixture):
    async with StuckPeer(Plain.as_asgi()) as stuck:
        await stuck.accepted()
        started = time.monotonic()
        await until(lambda: stuck.aborted)
        assert time.monotonic() - started > 0.1
        assert await stuck.next() == CLOSE
        await stuck.left(1013)
        assert stuck.journal == [1013]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "WebSocket '/peer', connection " in record.message
    assert "slow consumer, nothing was taken for 0.1 seconds" in record.message


@pytest.mark.parametrize(
    ("takes", "is_ended"),
    [
        (lambda _step: (0, 1), True),
        (lambda step: (step // 3, 1), False),
        (lambda step: (0, step % 4), False),
        (lambda _step: (0, 0), False),
    ],
    ids=["nothing", "little", "all now and then", "all"],
)
async def test_what_its_client_takes(takes: Any, is_ended: bool):
    async with StuckPeer(Plain.as_asgi()) as peer:
        peer.backlog = 0
        await peer.accepted()
        (socket,) = hub().connections.values()
        clients = _slow_client.SlowClients(Tasks(print))
        for step in range(20):  # of 0.03 seconds, whatever the clock says
            taken, waiting = takes(step)
            peer.taken_so_far, peer.backlog = taken, waiting
            clients.check(1000 + step * 0.03, [socket])
        peer.backlog = 0
        assert socket.is_slow == is_ended


async def test_too_much_waits(overflows: list[Any], caplog: pytest.LogCaptureFixture):
    async with StuckPeer(Plain.as_asgi()) as peer:
        peer.backlog = 0
        await peer.accepted()
        overflows[0]()
        overflows[0]()
        await until(lambda: peer.aborted)
        assert await peer.next() == CLOSE
        overflows[0]()
        assert (peer.unread, peer.aborted) == (0, 2)
    (record,) = caplog.records
    assert "slow consumer, more than 1048576 bytes wait" in record.message


async def test_what_is_not_open_is_cut_off(overflows: list[Any], caplog: pytest.LogCaptureFixture):
    async with StuckPeer(Plain.as_asgi(), "/waits") as peer:
        await until(lambda: overflows)
        overflows[0]()
        assert (peer.unread, peer.aborted) == (0, 1)
    assert "connection (not accepted): slow consumer" in caplog.records[0].message


async def test_without_a_transport_it_is_closed_all_the_same(overflows: list[Any]):
    async with Peer(Plain.as_asgi()) as peer:
        await peer.accepted()
        overflows[0]()
        assert await peer.next() == CLOSE
        overflows[0]()
        assert await peer.left(1013) == []


async def test_what_waits_after_the_end_is_dropped_in_the_end(layer: InMemoryChannelLayer):
    async with StuckPeer(Plain.as_asgi()) as stuck, StuckPeer(Plain.as_asgi()) as reading:
        for peer in (stuck, reading):
            await peer.accepted()
            await peer.left()
        reading.backlog = 0
        await until(lambda: stuck.aborted)
        await asyncio.sleep(0.05)
    assert (stuck.aborted, reading.aborted) == (1, 0)
