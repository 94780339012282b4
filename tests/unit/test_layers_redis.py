"""The parts of RedisChannelLayer that need no Redis: frames, mailboxes, and a second try."""

import asyncio
import time
from typing import Any

import pytest

from panther_channels.layers.mailbox import Mailbox
from panther_channels.layers.redis import second_try
from panther_channels.layers.redis.frames import pack, unpack
from panther_channels.layers.redis.second_try import SecondTry
from tests.waiting import SECONDS, until

# Frames


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)), b"x" * 70_000])
@pytest.mark.parametrize("name", ["specific.01234567!89", f"connection.{'0' * 32}"])
def test_a_frame(name: str, payload: bytes):
    frame = pack(name, payload)
    assert unpack(frame) == (name, payload)
    assert len(frame) < len(name) + len(payload) + 12


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b"\xc1", b"\x05", b"\xc0", b"garbage", b"\x90", b"\x91\xa1a", b"\x92\xa1a\xa1b"),
        *(b"\x92\xc4\x01a\xc4\x01b", b"\x93\xa1a\xc4\x01b\xc0", b"\x81\x80\xc0", b"\xa2\xff\xff"),
        *(pack("name", b"payload")[:-1], pack("name", b"payload") + b"\x00"),
    ],
    ids=bytes.hex,
)
def test_what_is_no_frame(frame: bytes):
    with pytest.raises(ValueError, match=r"^"):
        unpack(frame)


# Mailboxes


async def test_what_waits_comes_in_order_to_who_asks():
    mailbox = Mailbox("c")
    getting = [asyncio.create_task(mailbox.get()) for _ in range(2)]
    await asyncio.sleep(0)
    assert mailbox.is_awaited
    for number in range(5):
        mailbox.put(b"%d" % number)
    assert await asyncio.gather(*getting) == [b"0", b"1"]
    assert [await mailbox.get() for _ in range(3)] == [b"2", b"3", b"4"]
    assert not mailbox.is_awaited


@pytest.mark.parametrize("is_woken", [True, False])
async def test_who_is_cancelled_takes_no_message(is_woken: bool):
    mailbox = Mailbox("c")
    first, second = [asyncio.create_task(mailbox.get()) for _ in range(2)]
    await asyncio.sleep(0)
    if is_woken:
        mailbox.put(b"x")
    first.cancel()
    await asyncio.wait({first})
    if not is_woken:
        mailbox.put(b"x")
    assert await asyncio.wait_for(second, SECONDS) == b"x"


async def test_a_mailbox_with_a_limit_in_bytes():
    mailbox, overflows = Mailbox("c"), list[int]()
    mailbox.bound(10, lambda: overflows.append(1))
    mailbox.put(b"x" * 20)  # a single message may have any size
    assert await mailbox.get() == b"x" * 20
    for _ in range(5):
        mailbox.put(b"xx")
    assert overflows == []
    getting = asyncio.create_task(mailbox.get())
    await getting
    mailbox.put(b"xxx")
    assert overflows == [1]
    mailbox.put(b"xx")
    getting = asyncio.create_task(mailbox.get())
    await asyncio.wait({getting}, timeout=0.05)
    assert not getting.done(), "all that waited is dropped, and what comes"
    assert overflows == [1]
    getting.cancel()


# Messages that nobody got


class Sender:
    """Takes what is due, in some time, and counts how often it was asked to."""

    def __init__(self, seconds: float = 0) -> None:
        self.waiting = SecondTry(self.send)
        self.sent: list[tuple[str, bytes]] = []
        self.calls = 0
        self._seconds = seconds

    async def send(self) -> None:
        taken = self.waiting.take()
        self.calls += 1
        await asyncio.sleep(self._seconds)
        self.sent += taken

    async def until_sent(self, count: int) -> None:
        await until(lambda: len(self.sent) >= count)


async def test_a_message_is_sent_after_a_moment_again_and_again():
    sender = Sender()
    for number in range(2):
        start = time.monotonic()
        sender.waiting.add("a", b"1")
        assert "a" in sender.waiting
        assert "b" not in sender.waiting
        await sender.until_sent(number + 1)
        assert time.monotonic() - start >= second_try._DELAY
        assert "a" not in sender.waiting
        await sender.waiting.finish()
    assert sender.sent == [("a", b"1")] * 2


async def test_each_channel_has_its_moment(monkeypatch: pytest.MonkeyPatch):
    """No message to it waits longer than the first one, or some would wait for ever."""
    sender = Sender()
    sender.waiting.add("a", b"1")
    monkeypatch.setattr(second_try, "_DELAY", 2 * second_try._DELAY)
    sender.waiting.add("b", b"2")
    sender.waiting.add("a", b"3")
    await sender.until_sent(2)
    assert sender.sent == [("a", b"1"), ("a", b"3")]
    assert "b" in sender.waiting
    await sender.until_sent(3)
    assert sender.sent[2:] == [("b", b"2")]


@pytest.mark.parametrize(("count", "size"), [(second_try._COUNT, 1), (2, second_try._SIZE // 2)])
async def test_many_wait_for_one_task(count: int, size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(second_try, "_DELAY", 2.0)  # for a busy machine
    sender = Sender()
    for number in range(count):
        assert not sender.waiting.is_full
        sender.waiting.add(f"c{number}", b"x" * size)
    assert sender.waiting.is_full
    assert sender.waiting.take() == []
    assert len(asyncio.all_tasks()) == 2
    await sender.until_sent(count)
    assert sender.calls < 10
    assert not sender.waiting.is_full


@pytest.mark.parametrize("state", ["waiting", "cancelled", "sending"])
async def test_none_waits_at_the_end(state: str):
    sender = Sender(seconds=0.1)
    await sender.waiting.finish()
    sender.waiting.add("a", b"1")
    task: Any = sender.waiting._task
    if state == "cancelled":
        await asyncio.sleep(0)
        task.cancel()
    elif state == "sending":
        await until(lambda: sender.calls)
    await asyncio.wait_for(sender.waiting.finish(), SECONDS)
    assert sender.sent == [("a", b"1")]


async def test_not_each_end_waits(monkeypatch: pytest.MonkeyPatch):
    """Or async_to_sync() would take its time for each id that nobody has."""
    senders = [Sender() for _ in range(4)]
    for sender, is_due in zip(senders, (True, False, False, True), strict=True):
        if is_due:
            monkeypatch.setattr(second_try, "_next_end", 0.0)
        await sender.waiting.end()  # with nothing to wait for
        sender.waiting.add("a", b"1")
        await sender.waiting.end()
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert [len(sender.sent) for sender in senders] == [1, 0, 0, 1], "the tasks were cancelled"
