"""The limits of daphne's protocol without a server; the tests of faults have them at work."""
# ruff: noqa: N802, N815 - the names are Twisted's

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from panther_channels.servers._flow import FlowProtocol, IncomingQueue


class Transport:
    connected = True
    dataBuffer = b""
    offset = 0
    _tempDataLen = 0
    socket = None
    is_reading = True
    is_aborted = False

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = True

    def abortConnection(self) -> None:
        self.is_aborted = True


class Own(FlowProtocol):
    """Without a factory, which would need a reactor."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.application_queue = IncomingQueue(self)
        self.state = self.STATE_OPEN
        self.sent: list[Any] = []

    def handle_reply(self, message: Any) -> None:
        self.sent.append(message)

    def __repr__(self) -> str:
        return "own"


def text(number: int) -> dict[str, Any]:
    return {"type": "websocket.send", "text": str(number)}


async def test_send_waits_while_the_transport_is_full():
    protocol = Own()
    await protocol.reply(text(1))
    protocol.set_full(True)
    protocol.set_full(True)
    sending = [asyncio.create_task(protocol.reply(text(number))) for number in (2, 3)]
    close = {"type": "websocket.close"}
    await protocol.reply(close)
    assert protocol.sent == [text(1), close]
    protocol.set_full(False)
    protocol.set_full(False)
    await asyncio.gather(*sending)
    assert protocol.sent == [text(1), close, text(2), text(3)]


async def test_the_first_that_goes_on_lets_the_next_wait_again():
    protocol = Own()

    def fill(message: Any) -> None:
        protocol.sent.append(message)
        protocol.set_full(True)

    protocol.handle_reply = fill  # type: ignore[method-assign]
    protocol.set_full(True)
    sending = [asyncio.create_task(protocol.reply(text(number))) for number in (1, 2)]
    for count in (1, 2):
        await asyncio.sleep(0)
        protocol.set_full(False)
        while len(protocol.sent) < count:  # noqa: ASYNC110 - a list wakes nobody
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(protocol.sent) == count
    await asyncio.gather(*sending)


async def test_who_waits_is_told_of_the_end():
    protocol = Own()
    protocol.set_full(True)
    sending = asyncio.create_task(protocol.reply(text(1)))
    await asyncio.sleep(0)
    protocol.state = protocol.STATE_CLOSED
    protocol.set_full(False)
    with pytest.raises(OSError, match="has ended"):
        await sending
    assert protocol.sent == []


@pytest.mark.parametrize("payload", [b"", b"x" * 5000])
async def test_reading_pauses_and_goes_on(payload: bytes):
    protocol = Own()
    count = 0
    while protocol.transport.is_reading:
        protocol.onMessage(payload, isBinary=count % 2 == 0)
        count += 1
    assert 10 < count < 150
    for number in range(count):
        assert not protocol.transport.is_reading
        message = await protocol.application_queue.get()
        assert message["bytes" if number % 2 == 0 else "text"] in (payload, payload.decode())
    assert protocol.transport.is_reading
    protocol.onMessage(payload, isBinary=True)
    assert protocol.transport.is_reading


@pytest.mark.parametrize("attribute", [{"muted": True}, {"state": FlowProtocol.STATE_CLOSING}])
def test_messages_that_nobody_wants(attribute: dict[str, Any]):
    protocol = Own()
    for name, value in attribute.items():
        setattr(protocol, name, value)
    protocol.onMessage(b"late", isBinary=True)
    assert protocol.application_queue.empty()


def test_the_transport():
    protocol = Own()
    transport = protocol.application_queue.asgi_transport
    assert (transport.waiting(), transport.taken()) == (0, 0)
    protocol.transport.dataBuffer = b"x" * 10
    protocol.transport.offset, protocol.transport._tempDataLen = 4, 5
    assert (transport.waiting(), transport.taken()) == (11, -11)
    transport.unblock()
    transport.abort()
    assert protocol.transport.is_aborted
    protocol.transport.connected = protocol.transport.is_aborted = False
    transport.abort()  # has nothing to end any more, and over TLS it would raise
    assert not protocol.transport.is_aborted
    assert transport.waiting() == 0


def test_one_ping_at_a_time():
    protocol = Own()
    calls: list[Any] = []
    protocol.autoPingTimeout = 5
    protocol.autoPingTimeoutCall = "pending"
    protocol._sendAutoPing()  # else autobahn's own would fail for lack of a factory
    timer = SimpleNamespace(call_later=lambda *call: calls.append(call))
    protocol.factory = SimpleNamespace(_batched_timer=timer)
    protocol.set_reading(False)
    protocol.onAutoPingTimeout()
    assert calls == [(5, protocol.onAutoPingTimeout)]
    protocol.set_reading(True)
    protocol._taken_at_ping = -1  # and it has taken 0, which is more
    protocol.onAutoPingTimeout()
    assert len(calls) == 2
