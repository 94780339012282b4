"""Processes are played by several censuses of one event loop, on the in-memory layer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels import _census
from panther_channels._census import Census, Seat, census
from panther_channels.exceptions import ChannelLayerError
from tests.waiting import until

GROUP = "panther_channels.limits"


class Noting(Seat):
    """A settled seat under one key, that notes its end."""

    def __init__(self, key: str = "user.1") -> None:
        super().__init__({key: 1}, self._ended)
        self.is_settled = True
        self.key = key
        self.has_ended = False
        self.answer = False

    def look(self) -> bool:
        return self.answer

    async def _ended(self) -> None:
        self.has_ended = True

    def ids(self, place: Census) -> list[str]:
        return [holder.id for holder in place.holders(self, self.key)]


@pytest.fixture
async def processes(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator["Processes"]:
    monkeypatch.setattr(_census, "_PATIENCE", 0.4)
    async with AsyncExitStack() as stack:
        yield Processes(layer, stack)


class Processes:
    def __init__(self, layer: Any, stack: AsyncExitStack) -> None:
        self.layer = layer
        self._stack = stack

    async def seated(self, place: Census, seat: Noting) -> Noting:
        self._stack.push_async_callback(place.leave, seat)
        await place.enter(seat, self.layer)
        return seat

    async def asked(self, place: Census, seat: Noting) -> bool:
        """Whether it learned all there is to know, instead of waiting in vain."""
        seat.is_known.clear()
        await place.ask(seat)
        await place.wait(seat)
        return seat.is_known.is_set()


async def test_every_process_answers_for_what_it_has(processes: Processes):
    places = [Census(), Census(), Census()]
    seats = [await processes.seated(place, Noting()) for place in (*places, places[0])]
    await processes.seated(places[1], Noting("user.2"))
    await processes.asked(places[0], seats[0])
    assert seats[0].ids(places[0]) == [seat.id for seat in seats]
    assert seats[1].ids(places[1]) == [seats[1].id]  # who doesn't ask learns nothing


async def test_only_the_first_question_waits_in_vain(processes: Processes):
    here, there = Census(), Census()
    mine = await processes.seated(here, Noting())
    await processes.seated(there, Noting())
    assert not await processes.asked(here, mine)  # any number of processes may be there
    for _ in range(3):
        assert await processes.asked(here, mine)


async def test_who_asks_is_known_from_then_on(processes: Processes):
    here, there = Census(), Census()
    mine = await processes.seated(here, Noting())
    await processes.asked(here, mine)
    theirs = await processes.seated(there, Noting())
    await there.ask(theirs)
    await until(lambda: here._peers)
    await processes.asked(here, mine)
    assert mine.ids(here) == [mine.id, theirs.id]


async def test_who_was_killed_is_waited_for_once(processes: Processes, layer: InMemoryChannelLayer):
    here, there = Census(), Census()
    mine = await processes.seated(here, Noting())
    theirs = await processes.seated(there, Noting())
    await processes.asked(here, mine)
    await layer.group_discard(GROUP, there._name)  # it hears nothing from now on
    mine.heard[mine.key].clear()
    for is_known in (False, False, True):  # once more, since perhaps it was we whom nobody heard
        assert await processes.asked(here, mine) is is_known
    assert mine.ids(here) == [mine.id]
    assert theirs.id not in mine.ids(here)


async def test_who_says_goodbye_is_not_waited_for(processes: Processes):
    here, there = Census(), Census()
    mine = await processes.seated(here, Noting())
    theirs = Noting()
    await there.enter(theirs, processes.layer)
    await processes.asked(here, mine)
    assert here._peers
    await there.leave(theirs)
    await until(lambda: not here._peers)
    assert await processes.asked(here, mine)


async def test_a_goodbye_in_the_midst_of_a_question_ends_the_waiting(processes: Processes):
    here = Census()
    mine = await processes.seated(here, Noting())
    await processes.asked(here, mine)
    here._peers.add("dying")
    asking = asyncio.create_task(processes.asked(here, mine))
    await until(lambda: "dying" in mine.missing)
    await here._on_event({"process": "dying", "bye": True})
    assert await asking


async def test_what_settles_it_ends_the_waiting(processes: Processes):
    here = Census()
    mine = await processes.seated(here, Noting())
    mine.answer = True
    here._peers.add("slow")
    assert await processes.asked(here, mine)
    assert here._peers == {"slow"}, "it had no time to answer"


async def test_an_answer_that_comes_late_is_heard_and_then_forgotten(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_census, "_LATE", 0.2)
    here = Census()
    mine = await processes.seated(here, Noting())
    await here.ask(mine)
    late = {"process": "busy", "answer": [mine.id, [[mine.key, 1.0, "old", True]]]}
    await here._on_event(late)
    assert mine.ids(here) == ["old", mine.id]
    await until(lambda: not mine.heard)
    await here._on_event(late)
    assert mine.ids(here) == [mine.id]


async def test_a_candidate_learns_of_another_by_its_question(processes: Processes):
    here, there = Census(), Census()
    mine, settled = [await processes.seated(here, Noting()) for _ in range(2)]
    theirs = await processes.seated(there, Noting())
    mine.is_settled = False
    await there.ask(theirs)
    await until(lambda: theirs.heard[theirs.key])
    assert theirs.id in mine.ids(here)
    assert theirs.id not in settled.ids(here)  # it would keep them for as long as it is open


async def test_ends_the_connection_of_a_holder_wherever_it_is(processes: Processes):
    here, there = Census(), Census()
    mine = await processes.seated(here, Noting())
    theirs = await processes.seated(there, Noting())
    await processes.asked(here, mine)
    for holder in here.holders(mine, mine.key):
        here.dismiss(holder)
    await until(lambda: mine.has_ended and theirs.has_ended)


async def test_nothing_is_left_on_the_layer_after_the_last_seat(layer: InMemoryChannelLayer):
    place = Census()
    seats = [Noting(), Noting("user.2")]
    for seat in seats:
        await place.enter(seat, layer)
        await place.ask(seat)
    await place.leave(seats[0])
    assert len(layer.groups[GROUP]) == 1
    await place.leave(seats[1])
    await place.leave(seats[1])
    assert (layer.groups, layer.channels, place._seats, place._asking) == ({}, {}, {}, {})
    # Whoever comes next joins anew.
    await place.enter(seats[0], layer)
    assert len(layer.groups[GROUP]) == 1
    await place.leave(seats[0])


async def test_what_nobody_waits_for_is_kept_until_it_ends(caplog: pytest.LogCaptureFixture):
    place = Census()
    calls = [asyncio.ensure_future(asyncio.sleep(0.01)), asyncio.ensure_future(asyncio.sleep(60))]
    for call in calls:
        place.spawn(call)
    calls[1].cancel()
    assert place._tasks == set(calls)
    await until(lambda: not place._tasks)
    assert caplog.records == []


async def test_one_that_leaves_takes_no_other_along(processes: Processes):
    place = Census()
    stays, goes = [await processes.seated(place, Noting()) for _ in range(2)]
    await place.leave(goes)
    assert stays.ids(place) == [stays.id]


async def test_who_was_away_knows_nobody(processes: Processes):
    here, there = Census(), Census()
    mine = await processes.seated(here, Noting())
    await processes.seated(there, Noting())
    await processes.asked(here, mine)
    assert await processes.asked(here, mine)
    await here.leave(mine)
    await processes.seated(here, mine)  # who knows who has come meanwhile
    assert here._peers == set()
    assert not await processes.asked(here, mine)


async def test_leaving_while_an_answer_is_on_its_way(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(channel, event):
        begun.set()
        await go_on.wait()

    place, seat = Census(), Noting()
    await place.enter(seat, layer)
    question = {"type": "x", "process": "x", "ask": [["user.1"], 1.0, "id"]}
    await layer.send(place._name, question)
    monkeypatch.setattr(layer, "send", slow)
    await asyncio.wait_for(begun.wait(), 3)
    asyncio.get_running_loop().call_later(0.5, go_on.set)
    await asyncio.wait_for(place.leave(seat), 3)  # not the five seconds that an event may take


async def test_one_that_comes_while_the_last_one_leaves(layer: InMemoryChannelLayer):
    place = Census()
    first, second = Noting(), Noting()
    await place.enter(first, layer)
    await asyncio.gather(place.leave(first), place.enter(second, layer))
    assert place._name in layer.groups[GROUP]
    await place.leave(second)


async def test_without_a_layer_it_asks_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_census, "_PATIENCE", 60)
    place = Census()
    seat = Noting()
    await place.enter(seat, None)
    await place.ask(seat)
    await asyncio.wait_for(place.wait(seat), 5)
    assert seat.ids(place) == [seat.id]
    place.dismiss(place.holders(seat, seat.key)[0])
    await until(lambda: seat.has_ended)
    await place.leave(seat)


class Broken(InMemoryChannelLayer):
    async def group_add(self, group, channel):
        raise ConnectionError("away")


async def test_a_layer_that_fails_tells_the_newcomer():
    place, seat, broken = Census(), Noting(), Broken()
    with pytest.raises(ChannelLayerError):
        await place.enter(seat, broken)
    await place.leave(seat)
    assert place._seats == {}


async def test_a_layer_that_fails_in_the_midst_keeps_nothing():
    class Late(InMemoryChannelLayer):
        async def group_add(self, group, channel):
            await super().group_add(group, channel)
            raise ConnectionError("away")

    place, seat, late = Census(), Noting(), Late()
    with pytest.raises(ChannelLayerError):
        await place.enter(seat, late)
    assert late.groups == {}
    await place.leave(seat)


async def test_a_layer_that_fails_at_the_end_hinders_nobody(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    async def failing(group, event):
        raise ConnectionError("away")

    place, seat = Census(), Noting()
    await place.enter(seat, layer)
    monkeypatch.setattr(layer, "group_send", failing)
    await place.leave(seat)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"process": "x"},
        {"process": "x", "ask": 1},
        {"process": "x", "ask": [["user.1"], 1.0]},
        {"process": "x", "answer": ["id"]},
        {"process": ["x"], "bye": True},
    ],
)
async def test_a_message_that_is_none_is_ignored(
    processes: Processes, caplog: pytest.LogCaptureFixture, event: dict[str, Any]
):
    place = Census()
    await processes.seated(place, Noting())
    await processes.layer.group_send(GROUP, {"type": "panther_channels.limits", **event})
    await until(lambda: caplog.records)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert place._inbox is not None
    assert place._inbox._task is not None
    assert not place._inbox._task.done()


async def test_what_fails_in_the_background_is_logged(caplog: pytest.LogCaptureFixture):
    async def failing():
        raise ConnectionError("away")

    Census().spawn(failing())
    await until(lambda: caplog.records)
    assert "could not be kept" in caplog.text


async def test_one_for_each_event_loop():
    mine = census()
    assert census() is mine

    async def other() -> Census:
        return census()

    assert await asyncio.to_thread(lambda: asyncio.run(other())) is not mine
