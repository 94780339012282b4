"""How event loops ask each other, whatever their channel layer knows of who is there."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels import _survey
from panther_channels._survey import Answers, Survey, survey
from panther_channels.exceptions import ChannelLayerError
from panther_channels.layers import LocalChannelLayer
from tests.unit.survey_process import Process, at_once, first
from tests.waiting import until

LONG, SHORT = 60.0, 0.1  # seconds to wait for answers: too long for a test, or in vain


class Processes:
    """Each has a survey; what is left when a test ends must be nothing."""

    def __init__(self, layer: InMemoryChannelLayer, knows: str) -> None:
        self.layer, self.knows = layer, knows
        self.there: list[Process] = []
        self.surveys: list[Survey] = []

    async def new(self, answer: Any = None) -> Survey:
        """One that answers the topic "name" with a value, or with what a function gives."""
        found = survey(Process(self.layer, self.there, self.knows))
        self.surveys.append(found)
        if answer is not None:
            await found.answer("name", answer if callable(answer) else lambda _question: answer)
        return found

    async def kill(self, killed: Survey) -> None:
        """It hears nothing any more, but whether it is there isn't known yet."""
        await self.layer.group_discard(_survey._GROUP, killed._channel)

    def process(self, of: Survey) -> Process:
        return next(item for item in self.there if item.name == of.node)


@pytest.fixture(params=["names", "number", "nothing"])
async def processes(
    request: pytest.FixtureRequest, layer: InMemoryChannelLayer
) -> AsyncIterator[Processes]:
    found = Processes(layer, request.param)
    yield found
    for item in found.surveys:
        await item.close()


def only(knows: str) -> Any:
    return pytest.mark.parametrize("processes", [knows], indirect=True)


async def ask(asker: Survey, within: float = LONG, **options: Any) -> Answers:
    answers: Answers = await at_once(asker.ask("name", within=within, **options))
    return answers


async def acquainted(processes: Processes, *answers: Any) -> list[Survey]:
    """The first one has heard of all others, each of which answers."""
    found = [await processes.new(), *[await processes.new(answer) for answer in answers]]
    await ask(found[0], SHORT)
    return found


async def test_all_others_answer_and_nobody_waits_longer(processes: Processes):
    here, a, b = await acquainted(processes, "a", [{1: b"b"}])
    await (await processes.new()).answer("other", str)  # knows nothing of it, and says so
    answers = await ask(here)
    assert answers.given == {a.node: "a", b.node: [{1: b"b"}]}
    assert answers.is_complete


async def test_a_question_is_anything(processes: Processes):
    here, a = await acquainted(processes, lambda question: question)
    for question in (None, 1.5, ["x", {"y": [b"z"]}], {1: 2}):
        assert (await ask(here, question=question)).given == {a.node: question}


async def test_the_first_question_waits_where_nothing_is_known(processes: Processes):
    here, a = await processes.new(), await processes.new("a")
    answers = await ask(here, SHORT if processes.knows == "nothing" else LONG)
    assert answers.given == {a.node: "a"}
    assert answers.unnamed == (None if processes.knows == "nothing" else 0)
    assert answers.is_complete == (processes.knows != "nothing")


async def test_who_does_not_answer_is_named_and_not_waited_for_again(processes: Processes):
    here, a, b = await acquainted(processes, "a", "b")
    await processes.kill(b)
    answers = await ask(here, SHORT)
    assert answers == Answers({a.node: "a"}, {}, frozenset({b.node}), 0)
    if processes.knows == "nothing":  # it may be that nobody could be heard
        await ask(here, SHORT)
    assert (await ask(here)).given == {a.node: "a"}
    processes.there.remove(processes.process(b))
    answers = await ask(here)
    assert (answers.given, answers.is_complete) == ({a.node: "a"}, True)


async def test_who_is_heard_again_is_waited_for_again(processes: Processes):
    here, a = await acquainted(processes, "a")
    processes.process(a).loses = first("answer")
    assert not (await ask(here, SHORT)).given
    await a.ask("name", within=SHORT)  # which tells that it is there
    if processes.knows == "nothing":  # whether others are there, too
        await ask(here, SHORT)
    assert (await ask(here)).given == {a.node: "a"}


@only("number")
async def test_of_whom_was_never_heard_is_a_number(processes: Processes):
    here, a = await processes.new("h"), await processes.new("a")
    processes.there.append(Process(processes.layer, [], "number"))
    answers = await ask(here, SHORT)
    assert answers == Answers({a.node: "a"}, {}, frozenset(), 1)
    assert not answers.is_complete


async def test_who_says_goodbye_is_not_waited_for(processes: Processes):
    blocked = asyncio.Event()
    here, a = await acquainted(processes, lambda _question: blocked.wait())
    asking = asyncio.create_task(ask(here))
    await until(lambda: a._tasks._tasks)
    await a.withdraw("name")
    assert (await asking).given == {}
    processes.there.remove(processes.process(a))
    assert (await ask(here)).is_complete


@only("nothing")
async def test_who_comes_later_says_so(processes: Processes):
    (here,) = await acquainted(processes)
    a = await processes.new("a")
    await until(lambda: here._heard)
    assert (await ask(here)).given == {a.node: "a"}


@pytest.mark.parametrize("lost", ["ask", "answer"])
async def test_what_is_lost_is_asked_again(processes: Processes, lost: str):
    calls: list[str] = []
    here, a, b = await acquainted(processes, lambda _question: calls.append("a"), "b")
    heard: dict[str, Any] = {}
    calls.clear()
    processes.process(here if lost == "ask" else b).loses = first(lost)
    answers = await ask(here, SHORT, hear=heard.__setitem__)
    assert b.node in answers.missing
    await until(lambda: b.node in heard)
    assert heard == {a.node: None, b.node: "b"}
    assert calls == ["a"], "who has answered isn't asked again"


@only("names")
async def test_what_nobody_hears_is_not_asked_again(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_survey, "_AGAIN", (0.01,))
    here, a = await acquainted(processes, "a")
    processes.process(here).loses = first("ask")
    await ask(here, SHORT)
    assert (here._asked, here._tasks._tasks) == ({}, set())
    assert (await ask(here, SHORT)).missing == {a.node}, "it isn't waited for"


@only("names")
async def test_a_late_answer_is_heard_for_some_time(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_survey, "LATE", 0.5)
    go_on = asyncio.Event()
    heard: list[tuple[str, Any]] = []

    async def slow(_question: Any) -> str:
        await go_on.wait()
        return "a"

    async def hear(is_late: bool) -> None:
        go_on.clear()
        await here.ask("name", within=SHORT, hear=lambda *answer: heard.append(answer))
        if is_late:
            await until(lambda: not here._asked)
        go_on.set()
        await until(lambda: not a._tasks._tasks)
        await until(lambda: is_late or heard)

    here, a = await acquainted(processes, slow)
    await here.answer("other", str)  # so that it goes on listening
    await hear(is_late=False)
    assert heard == [(a.node, "a")]
    await hear(is_late=True)
    assert heard == [(a.node, "a")]


async def test_one_is_asked(processes: Processes):
    here, a, b = await acquainted(processes, "a", "b")
    assert (await ask(here, node=b.node)).given == {b.node: "b"}
    processes.there.remove(processes.process(a))
    await a.close()
    answers = await ask(here, SHORT if processes.knows == "nothing" else LONG, node=a.node)
    assert answers == Answers({}, {}, frozenset({a.node}), 0)


@only("names")
async def test_many_questions_cost_one_channel_which_is_given_up(
    processes: Processes, layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_survey, "LATE", 0.2)
    here, a = await processes.new(), await processes.new("a")
    for _ in range(2):
        answers = await asyncio.gather(*(ask(here) for _ in range(50)))
        assert [item.given for item in answers] == [{a.node: "a"}] * 50
        assert len(layer.groups[_survey._GROUP]) == 2
    await until(lambda: len(layer.groups[_survey._GROUP]) == 1)
    await a.withdraw("name")
    assert layer.groups == {}
    assert (await ask(here, SHORT)).given == {}  # and whoever asks next joins anew


@only("names")
async def test_why_there_is_no_answer(processes: Processes, caplog: pytest.LogCaptureFixture):
    here, a, b = await acquainted(processes, lambda _question: b"x" * 100, lambda _question: 1 / 0)
    processes.process(a).largest_message = 100
    answers = await ask(here)
    assert answers.errors == {
        a.node: "102 bytes are too large for the channel layer, which takes 100.",
        b.node: "division by zero",
    }
    assert "has no answer: ZeroDivisionError" in caplog.text
    with pytest.raises(ValueError, match="too large"):
        await a.ask("name", b"x" * 100, within=LONG)
    with pytest.raises(TypeError):
        await here.ask("name", object(), within=LONG)

    def failing(_node: str, _answer: Any) -> None:
        raise LookupError("odd")

    await a.answer("name", lambda _question: "a")
    assert (await ask(here, hear=failing)).errors[a.node] == "LookupError('odd')"


@only("names")
@pytest.mark.parametrize(
    "event",
    [
        {},
        {"node": ["x"], "hello": ""},
        {"node": "x", "ask": "1"},
        {"node": "x", "answer": ["1"]},
        {"node": "x", "ask": "1", "but": 1},
    ],
)
async def test_what_cannot_be_read_is_ignored_and_logged_once(
    processes: Processes, caplog: pytest.LogCaptureFixture, event: dict[str, Any]
):
    here, a = await acquainted(processes, "a")
    for _ in range(2):
        await processes.layer.group_send(_survey._GROUP, {"type": _survey._TYPE, **event})
    assert (await ask(here)).given == {a.node: "a"}
    assert [(item.levelname, item.exc_info) for item in caplog.records] == [("WARNING", None)]


@only("names")
async def test_who_is_cancelled_leaves_nothing(processes: Processes):
    here, a = await acquainted(processes, lambda _question: asyncio.sleep(60))
    asking = asyncio.create_task(ask(here, hear=lambda *_: None))
    await until(lambda: a._tasks._tasks)
    asking.cancel()
    await asyncio.wait({asking})
    assert (here._asked, here._tasks._tasks) == ({}, set())


async def test_a_layer_that_fails(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture):
    def failing(event: dict[str, Any]) -> bool:
        raise ConnectionError("away")

    process = Process(layer, [])
    found = Survey(process)
    process.loses = failing
    with pytest.raises(ChannelLayerError, match="away"):
        await found.answer("name", str)
    assert (layer.groups, layer.channels) == ({}, {})
    process.loses = lambda _event: False
    await found.answer("name", str)
    process.loses = failing
    with pytest.raises(ChannelLayerError, match="away"):
        await found.ask("name", within=LONG)
    assert caplog.records == []
    await found.withdraw("name")
    assert "The channel layer failed: away" in caplog.text


async def test_each_event_loop_has_one_of_its_own(folder: Path):
    """Over Unix sockets, between threads."""
    layer = LocalChannelLayer(directory=folder)
    started, ended = threading.Event(), threading.Event()

    async def other() -> Survey:
        found = survey(layer)
        await found.answer("name", lambda question: [question, threading.get_ident()])
        started.set()
        await asyncio.to_thread(ended.wait, 20)
        await found.close()
        return found

    here = survey(layer)
    assert survey(layer) is here
    thread = asyncio.create_task(asyncio.to_thread(asyncio.run, other()))
    await asyncio.to_thread(started.wait, 20)
    try:
        answers = await here.ask("name", "?", within=1.0)
    finally:
        ended.set()
    there = await thread
    (answer,) = answers.given.values()
    assert answer[0] == "?"
    assert answer[1] != threading.get_ident()
    assert there is not here
    await here.close()
