import asyncio
import time

import pytest

from panther_channels import _second_try
from panther_channels._second_try import SecondTry
from tests.waiting import until

SECONDS = 10.0


class Sender:
    """Takes what is due, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.second_try = SecondTry(self.send)
        self.sent: list[tuple[str, bytes]] = []
        self.calls = 0

    async def send(self) -> None:
        self.calls += 1
        self.sent += self.second_try.take()

    async def until_sent(self, count: int) -> None:
        await until(lambda: len(self.sent) >= count)


async def test_a_message_is_sent_after_a_moment():
    sender = Sender()
    start = time.monotonic()
    sender.second_try.add("a", b"1")
    assert "a" in sender.second_try
    assert "b" not in sender.second_try
    await sender.until_sent(1)
    assert time.monotonic() - start >= _second_try._DELAY
    assert sender.sent == [("a", b"1")]
    assert "a" not in sender.second_try


async def test_each_channel_has_its_moment(monkeypatch: pytest.MonkeyPatch):
    """No message to it waits longer than the first one, or some would wait for ever."""
    sender = Sender()
    sender.second_try.add("a", b"1")
    monkeypatch.setattr(_second_try, "_DELAY", 2 * _second_try._DELAY)
    sender.second_try.add("b", b"2")
    sender.second_try.add("a", b"3")
    await sender.until_sent(2)
    assert sender.sent == [("a", b"1"), ("a", b"3")]
    assert "a" not in sender.second_try
    assert "b" in sender.second_try
    await sender.until_sent(3)
    assert sender.sent[2:] == [("b", b"2")]


async def test_many_wait_for_one_task():
    sender = Sender()
    for number in range(_second_try._COUNT):
        assert not sender.second_try.is_full
        sender.second_try.add(f"c{number}", b"x")
    assert sender.second_try.is_full
    assert len(asyncio.all_tasks()) == 2
    await sender.until_sent(_second_try._COUNT)
    assert sender.calls < 10
    assert not sender.second_try.is_full


async def test_bytes_count_as_well():
    sender = Sender()
    sender.second_try.add("a", b"x" * _second_try._SIZE)
    assert sender.second_try.is_full
    assert sender.second_try.take() == []
    await sender.second_try.finish()
    assert not sender.second_try.is_full


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_none_waits_at_the_end(is_cancelled: bool):
    sender = Sender()
    await sender.second_try.finish()
    sender.second_try.add("a", b"1")
    if is_cancelled:
        await asyncio.sleep(0)
        task = sender.second_try._task
        assert task is not None
        task.cancel()
    await asyncio.wait_for(sender.second_try.finish(), SECONDS)
    assert sender.sent == [("a", b"1")]


async def test_the_end_waits_for_what_is_on_its_way():
    class Slow(Sender):
        async def send(self) -> None:
            taken = self.second_try.take()
            self.calls += 1
            await asyncio.sleep(0.1)
            self.sent += taken

    sender = Slow()
    sender.second_try.add("a", b"1")
    await until(lambda: sender.calls)
    await asyncio.wait_for(sender.second_try.finish(), SECONDS)
    assert sender.sent == [("a", b"1")]


async def test_not_each_end_waits(monkeypatch: pytest.MonkeyPatch):
    """Or async_to_sync() would take its time for each id that nobody has."""
    monkeypatch.setattr(_second_try, "_next_end", 0.0)
    senders = [Sender() for _ in range(3)]
    for sender in senders:
        await sender.second_try.end()  # with nothing to wait for
        sender.second_try.add("a", b"1")
        await sender.second_try.end()
    assert [sender.sent for sender in senders] == [[("a", b"1")], [], []]
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert [len(sender.sent) for sender in senders] == [1, 0, 0], "the tasks were cancelled"
    monkeypatch.setattr(_second_try, "_next_end", 0.0)
    sender = Sender()
    sender.second_try.add("a", b"1")
    await sender.second_try.end()
    assert sender.sent == [("a", b"1")]


async def test_it_goes_on_after_a_pause():
    sender = Sender()
    for number in range(2):
        sender.second_try.add("a", b"x")
        await sender.until_sent(number + 1)
        await sender.second_try.finish()
