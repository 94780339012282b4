"""Asking other event loops, in this process and in others, for what each has at that moment.

A question has a topic and goes to all who take part on a channel layer, or to one of them. So
nothing about connections has to be stored anywhere, and a process that is killed leaves nothing.

Whom an answer is waited for is known to some layers by name, to some as a number, and to others not
at all: there, those count of whom was heard before.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from inspect import isawaitable
from typing import Any, NamedTuple

import msgpack

from panther_channels._hub.subscription import Ear
from panther_channels._process.log_lines import Repeats
from panther_channels._process.loops import OnePerLayer
from panther_channels._process.outage import TO_JOIN, TO_SEND, limited, log_failed_task, log_failure
from panther_channels._socket.tasks import Tasks
from panther_channels.layers.backplane import backplane, group_of_node

#: Seconds in which an answer that comes late is heard.
LATE = 5.0

_GROUP = "panther_channels.survey"
_TYPE = "panther_channels.survey"
_AGAIN = (0.3, 1.5)  # seconds until those are asked again who haven't answered: one after the other
_FAREWELL = 0.2  # seconds to say goodbye
_MOST = 10_000  # nodes that are remembered, whatever strangers send

_odd = Repeats(logging.getLogger("panther_channels"), logging.WARNING, interval=60.0)


class Answers(NamedTuple):
    """What came in time, by the node of which it came.

    A node that knows nothing of the topic, or says goodbye meanwhile, is in none of these.

    Attributes:
        given: the answers.
        errors: why a node couldn't answer, or why its answer can't be read.
        missing: the nodes that are known not to have answered.
        unnamed: how many more haven't; ``None`` where it isn't known how many there are.
    """

    given: dict[str, Any]
    errors: dict[str, str]
    missing: frozenset[str]
    unnamed: int | None

    @property
    def is_complete(self) -> bool:
        """Whether all have answered, as far as that can be known."""
        return not self.missing and self.unnamed == 0


class _Question:
    """One that is being asked, or whose late answers are yet to be heard.

    Attributes:
        expected: the nodes that are known to be there.
        total: how many there are, where that is all that is known.
        waiting: the nodes that are waited for.
        number: how many must have replied, whoever they are.
        replied: who has, be it only to say goodbye.
        is_of_names: whether the layer names those who are there.
        is_late: whether the asker doesn't wait any more.
    """

    def __init__(self, topic: str, group: str, hear: Callable[[str, Any], object] | None) -> None:
        self.id = secrets.token_hex(8)
        self.topic = topic
        self.group = group
        self.hear = hear
        self.given: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.expected: frozenset[str] | set[str] = frozenset()
        self.total: int | None = None
        self.waiting: frozenset[str] | set[str] = frozenset()
        self.number: float = math.inf  # until it is known: somebody may say goodbye before
        self.replied: set[str] = set()
        self.is_of_names = False
        self.is_late = False
        self.is_answered = asyncio.Event()

    def look(self) -> None:
        """Note whether there is nobody more to wait for."""
        if self.waiting <= self.replied and len(self.replied) >= self.number:
            self.is_answered.set()

    def let_go(self, there: frozenset[str]) -> None:
        """Wait for none who isn't there any more."""
        self.expected &= there
        self.waiting &= there
        self.look()

    def take(self, node: str, event: Mapping[str, Any]) -> None:
        """A reply; a second one of the same node is ignored."""
        if node in self.replied or len(self.replied) >= _MOST:
            return
        self.replied.add(node)
        try:
            if "error" in event:
                self.errors[node] = str(event["error"])
            elif "content" in event:
                answer = _unpacked(event["content"])
                if self.hear is not None:
                    self.hear(node, answer)
                self.given[node] = answer
        except Exception as error:
            self.errors[node] = repr(error)
            raise
        finally:
            self.look()

    def answers(self) -> Answers:
        missing = frozenset(self.expected - self.replied)
        if self.total is None:
            is_known = self.number != math.inf
            return Answers(self.given, self.errors, missing, 0 if is_known else None)
        lacking = max(0, self.total - len(self.replied))
        if not lacking:  # and whoever was expected beyond that is gone
            missing = frozenset()
        return Answers(self.given, self.errors, missing, max(0, lacking - len(missing)))


class Survey:
    """What one event loop asks others over a channel layer, and answers them.

    It listens at one channel, and only while it answers for a topic, or has asked a moment ago; or
    for good, where others would wait for it anyway.

    Args:
        layer: the channel layer.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = backplane(layer)
        self._answering: dict[str, Callable[[Any], Any]] = {}  # by topic
        self._asked: dict[str, _Question] = {}
        self._ear = Ear(layer, self._on_event)
        self._tasks = Tasks(log_failed_task)
        self._idle: object = None  # since when; no timer, which keeps its event loop for ever
        self._heard: set[str] = set()  # the nodes of which was heard
        self._are_all_heard = False
        self._silent: set[str] = set()  # those of them that didn't answer, and aren't waited for
        self._number = 0

    @property
    def node(self) -> str:
        """Eight hexadecimal digits that name this event loop in the answers."""
        return self._layer.node()

    async def answer(self, topic: str, function: Callable[[Any], Any]) -> None:
        """Answer the questions on a topic from now on.

        Args:
            topic: a name.
            function: gets the question, and gives the answer: anything that msgpack can pack. It
                may be asynchronous, and is called again where a question is asked again. What it
                raises is logged, and told to who asks.

        Raises:
            ChannelLayerError: the layer is in trouble, or gave no answer within 1.5 seconds.
        """
        self._answering[topic] = function
        await self._join()

    async def attend(self) -> None:
        """Listen at the layer for something else, so that others may wait for an answer.

        Raises:
            ChannelLayerError: the layer is in trouble, or gave no answer within 1.5 seconds.
        """
        if self._layer.names_all:
            await self._join()

    def attend_soon(self) -> None:
        """The same in a task, which logs what the layer raises."""
        self._tasks.create(self.attend(), None)

    async def withdraw(self, topic: str) -> None:
        """Answer no questions on a topic any more, and hear no late answers on it.

        With the last topic the others are told, so that nobody waits for this event loop. What
        the layer raises is logged.
        """
        self._answering.pop(topic, None)
        for question in [*self._asked.values()]:
            if question.topic == topic and question.is_late:
                del self._asked[question.id]
        if not self._layer.names_all:
            await self._leave()

    async def close(self) -> None:
        """Withdraw from all topics, before the event loop ends; questions end without answers."""
        self._idle = None
        self._answering.clear()
        for question in self._asked.values():
            question.is_answered.set()
        self._asked.clear()
        await self._leave()
        await self._tasks.end()

    async def ask(
        self,
        topic: str,
        question: Any = None,
        *,
        within: float,
        node: str | None = None,
        hear: Callable[[str, Any], object] | None = None,
        is_patient: bool = False,
    ) -> Answers:
        """Ask all others, or one, and return as soon as all have answered.

        The event loop that asks isn't asked: it can look for itself. Any number of questions may
        be asked at a time. Cancelling is safe: what comes then is ignored.

        Args:
            topic: the name under which others answer.
            question: anything that msgpack can pack.
            within: seconds to wait for answers, once the question is out. Where nothing is known
                of who is there, all of them pass.
            node: the one to ask.
            hear: called with the node and the answer as soon as there is one, also for five
                seconds after this has returned. Meanwhile those who haven't answered are asked
                twice more: what they do about a question must bear that.
            is_patient: wait the whole time also for those who gave no answer before; it begins with
                this call.

        Raises:
            ChannelLayerError: the layer is in trouble, or took more than 1.5 seconds for a step.
            TypeError: msgpack can't pack the question.
            ValueError: the question is too large for the layer.
        """
        content, started = self._packed(question), asyncio.get_running_loop().time()
        asked = _Question(topic, _GROUP if node is None else group_of_node(node, 0), hear)
        self._asked[asked.id] = asked
        try:
            await self._join()
            await limited(self._expect(asked, node, is_patient), TO_JOIN)
            if node is None or asked.waiting:
                await self._send(asked, content)
                if asked.is_of_names:  # who was killed is found by who writes to it
                    nodes = await limited(self._layer.nodes(asked.group), TO_JOIN)
                    asked.let_go(nodes.names or frozenset())
                if is_patient:
                    within -= asyncio.get_running_loop().time() - started
                with suppress(TimeoutError):
                    async with asyncio.timeout(within):
                        await asked.is_answered.wait()
            # Where Redis was away, it may count fewer than there are: who was heard may come back.
            doubtful = asked.expected - asked.replied - self._silent
            if node is None:
                self._learn(asked)
            if hear is not None and asked.id in self._asked:
                asked.is_late = True
                asyncio.get_running_loop().call_later(LATE, self._forget, asked)
                if doubtful or not asked.is_answered.is_set():
                    self._tasks.create(self._ask_again(asked, content, doubtful), None)
            return asked.answers()
        finally:
            if not asked.is_late:
                self._forget(asked)

    # Who is there

    async def _expect(self, asked: _Question, node: str | None, is_patient: bool) -> None:
        """Find out whom to wait for."""
        silent = set[str]()
        if is_patient:
            silent, self._silent = self._silent, silent
        nodes = await self._layer.nodes(asked.group)
        asked.number = 0
        if node is not None:
            asked.expected = {node}
            asked.is_of_names = nodes.names is not None
            is_there = nodes.number != 0 if nodes.names is None else node in nodes.names
            asked.waiting = {node} if is_there else set()
        elif nodes.names is not None:
            asked.is_of_names = True
            self._silent &= nodes.names
            asked.expected = nodes.names - {self.node}
            asked.waiting = asked.expected - self._silent
        elif nodes.number is not None:
            if nodes.number != self._number:  # who is silent may be the one who is gone
                self._silent.clear()
                self._number = nodes.number
            asked.expected = self._heard | silent
            asked.total = max(0, nodes.number - 1)
            asked.number = asked.total - len(self._silent)
        else:
            asked.expected = asked.waiting = set(self._heard)
            asked.number = 0 if self._are_all_heard else math.inf
        asked.look()

    def _learn(self, asked: _Question) -> None:
        """From a question to all: whom to wait for when the next one is asked."""
        lacking = None if asked.total is None else asked.total - len(asked.replied)
        if lacking is not None and lacking <= 0:
            self._heard &= asked.replied  # and no one else is there
        if asked.is_answered.is_set():
            return
        missing = asked.answers().missing
        # Who has died isn't waited for again. But where those count who were heard, it may be that
        # nobody could be heard, so that the next question waits the whole time.
        self._heard -= missing
        self._are_all_heard = not missing
        if lacking is None or len(missing) <= lacking:  # else some of them may be gone
            self._silent |= missing

    def _note_heard(self, node: str) -> None:
        self._silent.discard(node)
        if len(self._heard) < _MOST:
            self._heard.add(node)

    def _note_gone(self, node: str) -> None:
        self._silent.discard(node)
        self._heard.discard(node)
        for asked in [*self._asked.values()]:
            asked.take(node, {})

    # What is sent

    async def _send(self, asked: _Question, content: bytes) -> None:
        event = self._event("ask", asked.id, topic=asked.topic, content=content)
        event.update(channel=self._ear.name, but=[*asked.replied])
        await limited(self._layer.group_send(asked.group, event), TO_JOIN)

    async def _ask_again(
        self, asked: _Question, content: bytes, doubtful: frozenset[str] | set[str]
    ) -> None:
        for pause in _AGAIN:
            await asyncio.sleep(pause)
            is_done = asked.is_answered.is_set() and doubtful <= asked.replied
            if is_done or asked.id not in self._asked:
                return
            await self._send(asked, content)

    async def _reply(self, event: Mapping[str, Any]) -> None:
        found = await self._answer_to(event)
        reply = self._event("answer", event["ask"], **found)
        await limited(self._layer.send(event["channel"], reply), TO_SEND)

    async def _answer_to(self, event: Mapping[str, Any]) -> dict[str, Any]:
        topic = event["topic"]
        if topic not in self._answering:
            return {}
        try:
            answer = self._answering[topic](_unpacked(event["content"]))
            return {"content": self._packed(await answer if isawaitable(answer) else answer)}
        except Exception as error:  # noqa: BLE001 - whatever it was, who asks must not wait for it
            _odd.add(f"{topic} {error!r}", f"A question on {topic!r} has no answer: {error!r}")
            return {"error": str(error) or type(error).__name__}

    def _event(self, kind: str, subject: str, **more: Any) -> dict[str, Any]:
        return {"type": _TYPE, "node": self.node, kind: subject, **more}

    def _packed(self, value: Any) -> bytes:
        packed: bytes = msgpack.packb(value)
        if len(packed) > (most := self._layer.largest_message):
            raise ValueError(
                f"{len(packed):,} bytes are too large for the channel layer, which takes {most:,}."
            )
        return packed

    # What comes

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next one is handled
            text = f"A question or an answer of another process was ignored: {error!r}"
            _odd.add(repr(error), text)

    def _take(self, event: Mapping[str, Any]) -> None:
        node = event["node"]
        if not isinstance(node, str):
            raise TypeError(f"A node is a str, not {node!r}.")
        if node == self.node:
            return
        if "bye" in event:
            self._note_gone(node)
            return
        self._note_heard(node)
        if "answer" in event:
            if (asked := self._asked.get(event["answer"])) is not None:
                asked.take(node, event)
        elif "ask" in event and self.node not in event["but"]:
            self._tasks.create(self._reply(dict(event)), None)

    # To be a member, or not

    async def _join(self) -> None:
        self._idle = None
        await self._ear.listen((_GROUP, group_of_node(self.node, 0)), self._say_hello)

    async def _say_hello(self) -> None:
        # Who is to be waited for by those who know of nobody else.
        await self._layer.group_send(_GROUP, self._event("hello", ""))

    async def _leave(self) -> None:
        await self._ear.rest(lambda: self._answering or self._asked, self._say_goodbye)

    async def _say_goodbye(self) -> None:
        self._heard.clear()  # who comes from now on isn't heard
        self._are_all_heard = False
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._layer.group_send(_GROUP, self._event("bye", ""))
        except Exception as error:  # noqa: BLE001 - then they wait for us in vain once
            log_failure(error)

    def _forget(self, asked: _Question) -> None:
        self._asked.pop(asked.id, None)
        # Who is waited for goes on to say that there is nothing to tell.
        is_needed = self._answering or self._asked or self._layer.names_all
        if self._ear.subscription is not None and not is_needed and not self._idle:
            # Not at once: the next question may follow, and another would cost another channel.
            idle = self._idle = object()
            asyncio.get_running_loop().call_later(LATE, self._rest, idle)

    def _rest(self, idle: object) -> None:
        if self._idle is idle:
            self._idle = None
            self._tasks.create(self._leave(), None)


def _unpacked(content: bytes) -> Any:
    return msgpack.unpackb(content, strict_map_key=False)


#: Of a channel layer in the running event loop; the first call may raise a ``ChannelLayerError``.
survey = OnePerLayer(Survey)
