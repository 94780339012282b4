"""How event loops ask each other, whatever their channel layer knows of who is there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels._hub import survey as _survey
from panther_channels._hub.survey import Answers
from panther_channels.exceptions import ChannelLayerError
from panther_channels.layers.backplane import Nodes
from tests.unit.processes import Process, failing
from tests.waiting import until

GROUP = "panther_channels.survey"
LONG, SHORT = 60.0, 0.1  # seconds to wait for answers: too long for a test, or in vain


@pytest.fixture(params=["names", "number", "nothing"])
async def new(
    request: pytest.FixtureRequest, layer: InMemoryChannelLayer
) -> AsyncIterator[Callable[[], Process]]:
    """Makes processes."""
    made: list[Process] = []
    there: set[str] = set()

    def make() -> Process:
        made.append(Process(layer, there, request.param))
        return made[-1]

    yield make
    for process in made:
        await process.survey.close()


def only(knows: str) -> Any:
    return pytest.mark.parametrize("new", [knows], indirect=True)


async def acquainted(new: Callable[[], Process], *answers: Any) -> list[Process]:
    """The first one has heard of all others, each of which answers, or calls a function."""
    found = [new() for _ in (None, *answers)]
    for process, answer in zip(found[1:], answers, strict=True):
        function = answer if callable(answer) else lambda _question, answer=answer: answer
        await process.survey.answer("name", function)
    await ask(found[0], SHORT)
    return found


async def ask(asker: Process, within: float = LONG, question: Any = None, **more: Any) -> Answers:
    async with asyncio.timeout(5):
        return await asker.survey.ask("name", question, within=within, **more)


async def test_all_others_answer_and_nobody_waits_longer(new: Callable[[], Process]):
    here, a, b = await acquainted(new, "a", lambda question: question)
    await here.survey.answer("name", str)  # but who asks isn't asked
    await new().survey.answer("other", str)  # knows nothing of it, and says so
    for question in (None, 1.5, ["x", {"y": [b"z"]}], {1: 2}):
        answers = await ask(here, question=question)
        assert answers == Answers({a.name: "a", b.name: question}, {}, frozenset(), 0)
        assert answers.is_complete


async def test_the_first_question_waits_where_nothing_is_known(new: Callable[[], Process]):
    here, a = new(), new()
    await a.survey.answer("name", str)
    is_known = here.knows != "nothing"
    answers = await ask(here, LONG if is_known else SHORT)
    assert answers == Answers({a.name: "None"}, {}, frozenset(), 0 if is_known else None)
    assert answers.is_complete is is_known
    b = new()
    await b.survey.answer("name", str)  # and says that it is there
    await until(lambda: b.name in here.survey._heard)
    assert (await ask(here)).given == {a.name: "None", b.name: "None"}


async def test_a_goodbye_before_it_is_known_who_is_there(new: Callable[[], Process]):
    """It is an answer of one, and not of all."""
    here, a, b = await acquainted(new, "a", "b")
    nodes = here.nodes

    async def while_one_leaves(group: str) -> Nodes:
        await here.survey._on_event({"node": "0" * 8, "bye": ""})
        return await nodes(group)

    here.nodes = while_one_leaves  # type: ignore[method-assign]
    assert set((await ask(here)).given) == {a.name, b.name}


async def test_who_does_not_answer_is_named_and_not_waited_for_again(
    new: Callable[[], Process], layer: InMemoryChannelLayer
):
    here, a, b = await acquainted(new, "a", "b")
    await layer.group_discard(GROUP, b.survey._ear.name)  # it was killed
    answers = await ask(here, SHORT)
    assert answers == Answers({a.name: "a"}, {}, frozenset({b.name}), 0)
    assert not answers.is_complete
    if here.knows == "nothing":  # it may be that nobody could be heard
        assert (await ask(here, SHORT)).unnamed is None
    assert (await ask(here)).given == {a.name: "a"}
    here.there.discard(b.name)
    assert await ask(here) == Answers({a.name: "a"}, {}, frozenset(), 0)
    here.there.add("unheard")
    answers = await ask(here, SHORT)
    assert answers.unnamed == (1 if here.knows == "number" else 0)
    assert answers.missing == ({"unheard"} if here.knows == "names" else set())


async def test_who_is_heard_again_is_waited_for_again(new: Callable[[], Process]):
    here, a = await acquainted(new, "a")
    a.lose_next("answer")
    assert not (await ask(here, SHORT)).given
    await ask(a, SHORT)  # which tells that it is there
    if here.knows == "nothing":  # but others may be there, too
        await ask(here, SHORT)
    assert (await ask(here)).given == {a.name: "a"}


async def test_who_says_goodbye_is_not_waited_for(new: Callable[[], Process]):
    here, a = await acquainted(new, "a")
    await a.survey.answer("name", lambda _question: asyncio.sleep(60))
    asking = asyncio.create_task(ask(here))
    await until(lambda: here.count("ask") == 2)
    await a.survey.withdraw("name")
    assert await asking == Answers({}, {}, frozenset(), 0)
    here.there.discard(a.name)
    assert (await ask(here)).is_complete


@pytest.mark.parametrize("lost", ["ask", "answer"])
async def test_those_are_asked_again_who_have_not_answered(new: Callable[[], Process], lost: str):
    heard: dict[str, Any] = {}
    here, a, b = await acquainted(new, "a", "b")
    (here if lost == "ask" else b).lose_next(lost)
    assert b.name in (await ask(here, SHORT, hear=heard.__setitem__)).missing
    await until(lambda: b.name in heard)
    assert heard == {a.name: "a", b.name: "b"}
    assert a.count("answer") == 2


@only("number")
async def test_who_was_heard_is_asked_again_though_the_layer_counts_fewer(
    new: Callable[[], Process], layer: InMemoryChannelLayer
):
    heard: dict[str, Any] = {}
    here, a = await acquainted(new, "a")
    here.there.discard(a.name)  # as after a restart of Redis
    await layer.group_discard(GROUP, a.survey._ear.name)
    assert (await ask(here, hear=heard.__setitem__)).is_complete
    await layer.group_add(GROUP, a.survey._ear.name)
    await until(lambda: heard == {a.name: "a"})


@only("names")
async def test_a_late_answer_is_heard_for_some_time(
    new: Callable[[], Process], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_survey, "LATE", 1.5)
    go_on = asyncio.Event()
    heard: list[Any] = []

    async def slow(_question: Any) -> str:
        await go_on.wait()
        return "a"

    here, a = await acquainted(new, "a")
    await a.survey.answer("name", slow)
    await here.survey.answer("other", str)  # so that it goes on listening
    await ask(here, SHORT, hear=lambda *answer: heard.append(answer))
    await until(lambda: here.count("ask") == 3)  # and there are two answers
    go_on.set()
    await until(lambda: a.count("answer") == 3)
    await until(lambda: here.survey._asked == {})
    assert heard == [(a.name, "a")]
    go_on.clear()
    await ask(a, SHORT)  # which tells that it is there
    await ask(here, SHORT)  # nobody hears what comes later, nor is anybody asked again
    assert here.survey._asked == {}


async def test_one_is_asked(new: Callable[[], Process]):
    here, _, b = await acquainted(new, "a", "b")
    assert await ask(here, node=b.name) == Answers({b.name: "b"}, {}, frozenset(), 0)
    here.there.discard(b.name)
    await b.survey.close()
    within = SHORT if here.knows == "nothing" else LONG
    assert await ask(here, within, node=b.name) == Answers({}, {}, frozenset({b.name}), 0)


@only("names")
async def test_many_questions_cost_one_channel_which_is_given_up(
    new: Callable[[], Process], layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_survey, "LATE", 0.2)
    here, a = new(), new()
    await a.survey.answer("name", str)
    for _ in range(2):
        answers = await asyncio.gather(*(ask(here) for _ in range(50)))
        assert [item.given for item in answers] == [{a.name: "None"}] * 50
        assert len(layer.groups[GROUP]) == 2
    await until(lambda: len(layer.groups[GROUP]) == 1)
    await a.survey.withdraw("name")
    assert layer.groups == {}
    await asyncio.gather(a.survey.answer("name", str), a.survey.withdraw("other"))
    assert (await ask(here)).given == {a.name: "None"}


@only("names")
async def test_why_there_is_no_answer(new: Callable[[], Process], caplog: pytest.LogCaptureFixture):
    here, a, b, c = await acquainted(new, b"x" * 100, lambda _question: 1 / 0, "c")
    a.largest_message = 100

    def hear(node: str, _answer: Any) -> None:
        raise LookupError("odd")

    assert (await ask(here, hear=hear)).errors == {
        a.name: "102 bytes are too large for the channel layer, which takes 100.",
        b.name: "division by zero",
        c.name: "LookupError('odd')",
    }
    assert "has no answer: ZeroDivisionError" in caplog.text
    with pytest.raises(ValueError, match="too large"):
        await ask(a, question=b"x" * 100)
    with pytest.raises(TypeError):
        await ask(here, question=object())


@only("names")
@pytest.mark.parametrize(
    "event",
    [{}, {"node": ["x"], "hello": ""}, {"node": "x", "ask": "1"}, {"node": "x", "answer": ["1"]}],
)
async def test_what_cannot_be_read_is_ignored_and_logged_once(
    new: Callable[[], Process], caplog: pytest.LogCaptureFixture, event: dict[str, Any]
):
    here, a = await acquainted(new, "a")
    for _ in range(2):
        await here.group_send(GROUP, {"type": GROUP, **event})
    assert (await ask(here)).given == {a.name: "a"}
    assert [(item.levelname, item.exc_info) for item in caplog.records] == [("WARNING", None)]


@only("names")
async def test_who_is_cancelled_leaves_nothing(new: Callable[[], Process]):
    here, a = await acquainted(new, "a")
    await a.survey.answer("name", lambda _question: asyncio.sleep(60))
    asking = asyncio.create_task(ask(here, hear=lambda *_: None))
    await until(lambda: here.count("ask") == 2)
    asking.cancel()
    await asyncio.wait({asking})
    assert here.survey._asked == {}


async def test_a_layer_that_fails(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture):
    process = Process(layer, set())
    process.loses = failing
    with pytest.raises(ChannelLayerError, match="away"):
        await process.survey.answer("name", str)
    assert (layer.groups, layer.channels) == ({}, {})
    process.loses = lambda _event: False
    await process.survey.answer("name", str)
    process.loses = failing
    with pytest.raises(ChannelLayerError, match="away"):
        await ask(process)
    assert caplog.records == []
    await process.survey.withdraw("name")
    assert "The channel layer failed: away" in caplog.text
