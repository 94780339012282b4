from datetime import timedelta
from typing import Any

import pytest

from panther_channels.throttling import Throttle
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer, subclass

SECOND = timedelta(seconds=1)


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)

    async def disconnect(self, code: int):
        self.scope["journal"].append(code)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time.monotonic() says to a throttle."""
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr("panther_channels.throttling.time", Clock)
    return now


def throttled(*args: Any, **options: Any) -> Peer:
    return Peer(subclass("Throttled", Echo, throttle=Throttle(*args, **options)).as_asgi())


async def echoed(peer: Peer, *texts: str) -> None:
    for text in texts:
        peer.push(text)
        assert (await peer.next())["text"] == text


async def test_above_the_rate_it_closes_with_a_reason(
    clock: list[float], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "panther_channels")
    async with throttled(rate=2, duration=SECOND) as peer:
        await peer.accepted()
        await echoed(peer, "1", "2")
        peer.push("3")
        peer.push("4")
        assert await peer.next() == {
            "type": "websocket.close",
            "code": 1008,
            "reason": "more than 2 messages in 1 s",
        }
        assert await peer.ended() == []
        assert peer.journal == [1008]
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_a_window_begins_with_a_message_and_then_anew(clock: list[float]):
    async with throttled(2, SECOND) as peer:
        await peer.accepted()
        for clock[0] in (5.0, 5.9, 6.0, 6.9, 8.0, 8.9):
            await echoed(peer, str(clock[0]))
        clock[0] = 8.99
        peer.push("too many")
        assert (await peer.next())["code"] == 1008


async def test_dropped_by_choice_and_told_once_a_window(
    clock: list[float], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "panther_channels")
    async with throttled(rate=1, duration=SECOND, drop=True) as peer:
        await peer.accepted()
        await echoed(peer, "kept")
        peer.push("dropped")
        peer.push("dropped")
        assert await peer.left() == []
        assert peer.journal == [1000]
    assert caplog.messages == ["WebSocket '/peer': messages above 1 in 1 s are dropped."]


async def test_connections_of_a_class_do_not_share_it(clock: list[float]):
    application = subclass("Throttled", Echo, throttle=Throttle(1, SECOND)).as_asgi()
    async with Peer(application) as one, Peer(application) as other:
        for peer in (await one.accepted(), await other.accepted()):
            await echoed(peer, "1")


async def test_set_in_connect():
    class ForSome(Echo):
        async def connect(self):
            self.throttle = Throttle(1, timedelta(hours=1))
            await self.accept()

    async with Peer(ForSome.as_asgi()) as peer:
        await peer.accepted()
        await echoed(peer, "1")
        peer.push("2")
        assert (await peer.next())["code"] == 1008


@pytest.mark.parametrize(
    ("rate", "duration", "error"),
    [
        (0, SECOND, ValueError),
        (-1, SECOND, ValueError),
        (1, timedelta(0), ValueError),
        (True, SECOND, TypeError),
        (1.5, SECOND, TypeError),
        ("1", SECOND, TypeError),
        (1, 1.0, TypeError),
    ],
)
def test_refuses_what_is_no_rate(rate: Any, duration: Any, error: type[Exception]):
    with pytest.raises(error, match=r"rate|duration"):
        Throttle(rate, duration)


def test_says_what_it_is():
    assert repr(Throttle(20, SECOND)) == "Throttle(rate=20, duration=datetime.timedelta(seconds=1))"
    assert "drop=True" in repr(Throttle(20, SECOND, drop=True))
