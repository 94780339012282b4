"""What the hub does for all connections of an event loop: expiry, and the end of the server."""

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels._hub import hub as _hub
from panther_channels._hub.hub import hub
from panther_channels.websocket import GenericWebsocket
from tests.unit.noted import Sleepy, busy, warnings
from tests.unit.peer import DENIAL, Peer, StuckPeer
from tests.waiting import until

RESTART = {"type": "websocket.close", "code": 1012, "reason": "service restart"}


pytestmark = pytest.mark.usefixtures("short_limits")


# Expiry


class Expiring(GenericWebsocket):
    close_on_token_expiry = True

    async def connect(self):
        self.token = {"exp": self.scope["exp"]}
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.close(4001)


async def test_tokens_expire_one_by_one():
    now = time.time()
    # NaN is no deadline, and must not hide those of others.
    expiries = [now + 0.3, float("nan"), now + 0.1, now - 10, now + 1e9, 1e300, None, "x"]
    peers = [Peer(Expiring.as_asgi(), exp=expiry) for expiry in expiries]
    for peer in peers:
        await peer.__aenter__()
        await peer.accepted()
    for number in (3, 2, 0):
        close = await peers[number].next()
        assert (close["code"], close["reason"]) == (1008, "token expired")
        assert time.time() >= (expiries[number] or 0.0)  # type: ignore[operator]
        peers[number].leave(1008)
        await peers[number].ended()
    for number in (1, 4, 5, 6, 7):
        peers[number].push("close")
        assert (await peers[number].next())["code"] == 4001
    for peer in peers:
        await peer.__aexit__()


async def test_who_has_gone_does_not_expire(caplog: pytest.LogCaptureFixture):
    async with Peer(Expiring.as_asgi(), exp=time.time() + 0.1) as gone:
        await gone.accepted()
        assert await gone.left() == []
        assert hub()._expiries == {}, "nor is it kept until then"
        async with Peer(Expiring.as_asgi(), exp=time.time() + 0.2) as other:
            await other.accepted()
            await other.next()
        assert gone.unread == 0
    assert caplog.records == []


async def test_an_expiry_that_fails_does_not_keep_the_others(caplog: pytest.LogCaptureFixture):
    class Failing(Expiring):
        async def close(self, code: int = 1000, reason: str = "") -> None:
            raise ZeroDivisionError

    soon = time.time() + 0.05
    async with (
        Peer(Failing.as_asgi(), exp=soon) as failing,
        Peer(Expiring.as_asgi(), exp=soon) as other,
    ):
        for peer, code in ((failing, 1011), (other, 1008)):
            await peer.accepted()
            assert (await peer.next())["code"] == code
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# The end of the server


async def test_who_sends_when_the_server_stops_made_no_mistake(caplog: pytest.LogCaptureFixture):
    class Sending(Sleepy):
        async def receive(self, data: str | bytes):
            await until(lambda: self.state == "Closed")
            await self.send("late")

    stopping = hub()
    async with Peer(Sending.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        ended = asyncio.create_task(stopping.stop(10))
        assert await peer.next() == RESTART
        assert not ended.done(), "before the last one has gone"
        assert await peer.left(1012) == []
        assert peer.journal == [("disconnect", 1012)]
        await asyncio.wait_for(ended, 5)
    assert stopping.is_stopping
    assert warnings(caplog) == []


async def test_a_handshake_is_refused_when_the_server_stops(settings: Any):
    settings.WS_CONNECT_TIMEOUT = 30
    async with Peer(Sleepy.as_asgi(), "/connect", extensions=DENIAL) as peer:
        await until(hub().names)
        ended = asyncio.create_task(hub().stop(10))
        assert (await peer.next())["status"] == 503
        peer.leave(1006)
        peer.leave(1006)
        await asyncio.wait_for(ended, 5)


async def test_a_disconnect_goes_on_when_the_server_stops(
    settings: Any, caplog: pytest.LogCaptureFixture
):
    class Pausing(Sleepy):
        async def disconnect(self, code: int):
            self.note("begins")
            await until(lambda: hub().is_stopping)
            await asyncio.sleep(0.1)
            self.note("ends")

    settings.WS_DISCONNECT_GRACE = 30
    async with Peer(Pausing.as_asgi()) as peer:
        await peer.accepted()
        peer.leave(4001)
        await peer.journaled("begins")
        await asyncio.wait_for(hub().stop(10), 5)
        assert peer.journal == ["begins", "ends"]
    assert warnings(caplog) == []


async def test_a_server_without_connections_stops_at_once():
    await asyncio.wait_for(hub().stop(60), 5)


async def test_the_server_does_not_wait_for_ever(layer: InMemoryChannelLayer):
    async with StuckPeer(Sleepy.as_asgi()) as peer:
        await peer.accepted()
        await until(lambda: layer.channels)  # the connection listens
        idle = asyncio.all_tasks()
        await asyncio.wait_for(hub().stop(0.2), 5)
        assert not peer.task.done()
        assert peer.aborted == 1
        await until(lambda: asyncio.all_tasks() == idle)  # nobody closes it


@pytest.mark.parametrize(("count", "seconds"), [(100, 0.0), (101, 101 / 300), (10**6, 3.0)])
def test_how_long_it_takes_to_close_many(count: int, seconds: float):
    assert _hub._seconds_to_close(count, 10) == pytest.approx(seconds)


# Who is there


async def test_the_names_of_who_is_busy():
    assert hub().names() == []
    async with Peer(Sleepy.as_asgi(), "/disconnect") as idle:
        await idle.accepted()
        assert [name.partition(",")[0] for name in hub().names()] == [
            "Sleepy (WebSocket '/disconnect'"
        ]
        async with Peer(Sleepy.as_asgi(), "/receive") as slow:
            await busy(slow)
            (name,) = hub().names()
            assert name.startswith("Sleepy (WebSocket '/receive'")
            await slow.left(1000)
        await idle.left(1000)
    assert hub().names() == []


def test_a_loop_is_not_kept():
    loop = asyncio.new_event_loop()

    async def main() -> None:
        assert hub() is hub()
        async with Peer(Sleepy.as_asgi()) as peer:
            await peer.accepted()

    loop.run_until_complete(main())
    loop.close()
    kept = weakref.ref(loop)
    del loop
    gc.collect()
    assert kept() is None


async def test_a_connection_is_served_by_a_task():
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            Peer(Sleepy.as_asgi()).served().send(None)
        except RuntimeError as error:
            failures.append(error)

    asyncio.get_running_loop().call_soon(serve)
    await until(lambda: failures)
    assert hub().names() == []
