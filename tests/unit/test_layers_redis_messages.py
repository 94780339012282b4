"""The messages of pub/sub, and what else may come over their connection."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from panther_channels.layers.redis.messages import Messages


class Stream(asyncio.Protocol):
    """What redis-py reads from."""

    def __init__(self) -> None:
        self.received = b""
        self.error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc


class Transport:
    """A connection, from which it is read what a test tells."""

    def __init__(self) -> None:
        self.protocol: Any = Stream()
        self.is_closed = False

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def read(self, data: bytes) -> None:
        while data and not self.is_closed:
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            self.protocol.buffer_updated(count)
            data = data[count:]


class Subscriber:
    """What has subscribed, and redis-py, which reads what is left to it at once or when told."""

    def __init__(self, *, is_reading: bool = True) -> None:
        self.transport = Transport()
        self.stream: Stream = self.transport.protocol
        self.heard: list[tuple[str, bytes]] = []
        self.messages = Messages(self.transport, self.deliver)
        self.is_reading = is_reading

    def deliver(self, channel: str, message: bytes) -> None:
        if message == b"bad":
            raise LookupError(channel)
        self.heard.append((channel, message))

    def read(self, *pieces: bytes) -> None:
        for piece in pieces:
            before = self.stream.received
            self.transport.read(piece)
            if self.is_reading and self.stream.received != before:
                self.note_read(len(OTHERS))  # at least as many as it was

    def note_read(self, count: int = 1) -> None:
        for _ in range(count):
            self.messages.note_read()


def message(channel: bytes, text: bytes, kind: bytes = b"*") -> bytes:
    sizes = len(channel), len(text)
    return b"%b3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        *(kind, sizes[0], channel),
        *(sizes[1], text),
    )


CONFIRMATION = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n"
OTHERS = [
    CONFIRMATION,
    b">3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
    b"-NOPERM *3\r\n",
    b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    b"+PONG\r\n",
    b">2\r\n+moving\r\n*-1\r\n",
    b"!5\r\nERR x\r\n",
    b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n:5\r\n",  # there is none like it
    b"_\r\n",
]
HEARD = [("room", b"x"), ("é\r\n$1\r\nx", b"\r\n*3\r\n$7\r\n"), ("a", b""), ("", b"x" * 300)]
MESSAGES = [message(channel.encode(), text) for channel, text in HEARD]
MESSAGES += [message(channel.encode(), text, kind=b">") for channel, text in HEARD]
MIXED = b"".join(other + each for other, each in zip(OTHERS, [*MESSAGES, MESSAGES[0]], strict=True))


def heard_and_left(pieces: Sequence[bytes]) -> None:
    subscriber = Subscriber()
    subscriber.read(*pieces)
    assert subscriber.heard == [HEARD[number % len(HEARD)] for number in range(len(OTHERS))]
    assert subscriber.stream.received == b"".join(OTHERS)


def test_messages_are_told_and_all_else_is_left():
    heard_and_left([MIXED])


def test_two_pieces():
    for split in range(len(MIXED)):
        heard_and_left([MIXED[:split], MIXED[split:]])


def test_many_pieces():
    for size in range(1, 50):
        heard_and_left([MIXED[at : at + size] for at in range(0, len(MIXED), size)])


def test_a_message_is_told_as_soon_as_it_is_whole():
    subscriber = Subscriber()
    subscriber.read(MESSAGES[0][:-1])
    assert not subscriber.heard
    subscriber.read(MESSAGES[0][-1:])
    assert subscriber.heard == [HEARD[0]]


def test_large_messages_and_many():
    texts = [b"x" * 3_000_000, b"y", b"z" * 40_000, *[b"%d" % number for number in range(10_000)]]
    subscriber = Subscriber()
    subscriber.read(b"".join(message(b"room", text) for text in texts) + CONFIRMATION)
    assert [text for _, text in subscriber.heard] == texts
    assert subscriber.stream.received == CONFIRMATION


def test_a_large_message_is_joined_once():
    subscriber = Subscriber()
    large = message(b"room", b"x" * 3_000_000)
    subscriber.read(large[:-1])
    assert sum(map(len, subscriber.messages._parts)) == len(large) - 1
    assert len(subscriber.messages._parts) > 100
    subscriber.read(large[-1:])
    assert subscriber.heard == [("room", b"x" * 3_000_000)]


def test_what_is_behind_something_else_waits_until_that_has_been_read():
    subscriber = Subscriber(is_reading=False)
    subscriber.read(MESSAGES[0] + CONFIRMATION + MESSAGES[1] + CONFIRMATION * 2 + MESSAGES[2])
    assert subscriber.stream.received == CONFIRMATION * 3
    subscriber.read(MESSAGES[3])
    heard = [1]
    for _ in range(3):
        subscriber.note_read()
        heard.append(len(subscriber.heard))
    assert heard == [1, 2, 2, 4]
    subscriber.read(MESSAGES[0])
    assert subscriber.heard == [*HEARD, HEARD[0]]


def test_what_is_behind_something_else_when_the_connection_is_lost():
    subscriber = Subscriber(is_reading=False)
    subscriber.read(CONFIRMATION + MESSAGES[0])
    assert not subscriber.heard
    subscriber.messages.connection_lost(ConnectionResetError())
    assert subscriber.heard == [HEARD[0]]
    assert isinstance(subscriber.stream.error, ConnectionResetError)


def test_silence_is_no_reply_that_has_been_read():
    subscriber = Subscriber(is_reading=False)
    subscriber.messages.note_silence()
    subscriber.read(CONFIRMATION + MESSAGES[0])
    subscriber.messages.note_silence()  # they came when redis-py had given up, but not yet told so
    assert not subscriber.heard
    subscriber.note_read()
    assert subscriber.heard == [HEARD[0]]


def test_a_reply_that_redis_py_keeps_to_itself():
    subscriber = Subscriber(is_reading=False)
    subscriber.read(CONFIRMATION + MESSAGES[0])
    subscriber.messages.note_silence()
    subscriber.messages.note_silence()
    assert subscriber.heard == [HEARD[0]]


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_message_that_cannot_be_told(is_behind: bool):
    subscriber = Subscriber(is_reading=False)
    subscriber.read(CONFIRMATION * is_behind + MESSAGES[0] + message(b"room", b"bad") + MESSAGES[1])
    subscriber.note_read()
    subscriber.read(MESSAGES[2])
    subscriber.note_read()
    assert subscriber.heard == [HEARD[0]]
    assert isinstance(subscriber.stream.error, LookupError)
    assert subscriber.transport.is_closed


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"HTTP/1.1 400", b"\x00", b"\r\n", b"*x\r\n", b"$\r\n", b"$-2\r\n", b"*1\r\n;\r\n"),
        *(b"*3\r\n$7\r\nmessage\r\n$1\r\nlonger", b"+PO\rNG\r\n"),
    ],
)
def test_garbage_is_left_to_redis_py(garbage: bytes):
    subscriber = Subscriber()
    subscriber.read(MESSAGES[0] + garbage)
    assert subscriber.heard == [HEARD[0]]
    assert subscriber.stream.received == garbage


def test_a_size_beyond_all_measure():
    subscriber = Subscriber()
    subscriber.read(b"*3\r\n$7\r\nmessage\r\n$" + b"9" * 5000 + b"\r\n")
    assert isinstance(subscriber.stream.error, ValueError)


def test_a_connection_that_is_closed_hears_nothing():
    subscriber = Subscriber()
    subscriber.transport.is_closed = True
    subscriber.transport.protocol.get_buffer(-1)[: len(MESSAGES[0])] = MESSAGES[0]
    subscriber.messages.buffer_updated(len(MESSAGES[0]))
    assert not subscriber.heard
