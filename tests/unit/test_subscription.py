import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from cryptography.fernet import InvalidToken

from panther_channels._hub import subscription as _subscription
from panther_channels._hub.subscription import Subscription, event_handler, is_not_overridden
from panther_channels.layers import LocalChannelLayer
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.waiting import until

# Whose method it is


class Chat(GenericWebsocket):
    user = "alice"
    number = 5

    async def send(self, data: Any = None) -> None:
        pass

    async def chat_message(self, event):
        pass

    async def enter(self, event):
        pass

    async def _private(self, event):
        pass

    def synchronous(self, event):
        pass


class Child(Chat):
    pass


@pytest.mark.parametrize(("name", "ours"), [("send", False), ("close", True), ("enter", False)])
def test_is_ours(name: str, ours: bool):
    assert is_not_overridden(Chat, name) is is_not_overridden(Child, name) is ours
    assert is_not_overridden(GenericWebsocket, "send")


@pytest.mark.parametrize("consumer", [Chat, Child])
@pytest.mark.parametrize(
    ("kind", "name"),
    [("chat.message", "chat_message"), ("chat_message", "chat_message"), ("enter", "enter")],
)
def test_a_type_finds_the_method_of_the_user(consumer: Any, kind: str, name: str):
    assert event_handler(consumer, kind) == name


FORBIDDEN = {
    *("", "_private", ".private", "synchronous", "number", "unknown", "a b"),
    *("websocket.connect", "websocket.receive", "websocket.disconnect", "websocket_receive"),
    *("user", "scope", "dispatch", "as_asgi", "groups", "send.json", "__init__", "__call__"),
    *(name for base in Websocket.__mro__ for name in vars(base)),
}


def test_no_type_finds_a_method_of_ours():
    kinds = {*FORBIDDEN, *(kind.replace("_", ".") for kind in FORBIDDEN)}
    assert {kind: event_handler(Chat, kind) for kind in kinds} == dict.fromkeys(kinds)


# Subscription

_EAGER: Any = vars(asyncio).get("eager_task_factory")  # since Python 3.12


class Listener:
    """Handles events into a list, for as long as `is_wanted`; stops in one that says so."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.is_wanted = True
        self.arrived = asyncio.Event()
        self.resume = asyncio.Event()

    async def handle(self, event: Mapping[str, Any]) -> None:
        self.events.append(event["n"])
        self.arrived.set()
        if event.get("stop"):
            await self.resume.wait()
            self.events.append("done")


class Failing(InMemoryChannelLayer):
    """Raises in the methods that it is told, and loses the first cancellations of receive()."""

    def __init__(self, error: Exception | None = None, **failures: int) -> None:
        super().__init__()
        self.error = error or ConnectionError("no Redis today")
        self.failures = {"receive": 0, "group_discard": 0, "cancel": 0, **failures}

    def _is_due(self, name: str) -> bool:
        self.failures[name] -= 1
        return self.failures[name] >= 0

    async def receive(self, channel):
        if self._is_due("receive"):
            raise self.error
        try:
            return await super().receive(channel)
        except asyncio.CancelledError:
            if not self._is_due("cancel"):
                raise
            return await super().receive(channel)

    async def group_discard(self, group, channel):
        if self._is_due("group_discard"):
            raise self.error
        await super().group_discard(group, channel)


Use = Callable[..., AbstractAsyncContextManager[tuple[Subscription, str]]]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def use(layer: InMemoryChannelLayer, listener: Listener) -> Use:
    """An subscription that is started, with its channel; at the end of its block it leaves."""

    @asynccontextmanager
    async def begin(layer: Any = layer, *, is_running: bool = True) -> AsyncIterator[Any]:
        subscription = await Subscription.open(layer)
        for group in ("room", "hall"):
            await subscription.join(group)
        subscription.start(listener.handle, lambda: listener.is_wanted)
        if is_running:  # and the task waits in receive()
            await asyncio.sleep(0)
        yield subscription, subscription.name
        async with asyncio.timeout(3):  # an event in work would have five seconds
            await subscription.leave()
        await asyncio.sleep(0)
        assert (layer.channels, len(asyncio.all_tasks())) == ({}, 1)
        assert set(layer.groups) <= {"room"}

    return begin


async def test_events_come_in_order_from_every_group(
    use: Use, layer: InMemoryChannelLayer, listener: Listener
):
    async with use() as (_subscription, name):
        for number in range(50):
            await layer.group_send(("room", "hall")[number % 2], {"type": "x", "n": number})
        await layer.send(name, {"type": "x", "n": 50})
        await until(lambda: len(listener.events) == 51)
        assert listener.events == list(range(51))
    await layer.group_send("room", {"type": "x", "n": 1})
    assert (len(listener.events), layer.channels) == (51, {})


async def test_leaving_before_it_has_begun(
    use: Use, layer: InMemoryChannelLayer, listener: Listener
):
    for listener.is_wanted in (True, False):
        async with use(is_running=False):
            pass
    subscription = await Subscription.open(layer)
    await layer.send(subscription.name, {"type": "x"})
    await subscription.leave()  # it was never started


async def test_a_message_in_the_moment_of_leaving_stays_nowhere(
    use: Use, layer: InMemoryChannelLayer, listener: Listener
):
    async with use() as (_subscription, name):
        # The task is still in receive(), with this in its queue.
        await layer.send(name, {"type": "x", "n": 1})
        listener.is_wanted = False


async def test_leaving_waits_for_the_event_in_work_and_drops_the_rest(
    use: Use, layer: InMemoryChannelLayer, listener: Listener
):
    async with use() as (subscription, name):
        await layer.send(name, {"type": "x", "n": 1, "stop": True})
        await listener.arrived.wait()
        for number in range(2, 52):
            await layer.send(name, {"type": "x", "n": number})
        listener.is_wanted = False
        leaving = asyncio.create_task(subscription.leave())
        await asyncio.sleep(0)
        assert not leaving.done()
        listener.resume.set()
        await leaving
        assert listener.events == [1, "done"]


async def test_leaving_does_not_wait_for_ever(
    use: Use, layer: InMemoryChannelLayer, listener: Listener
):
    async with use() as (subscription, name):
        await layer.send(name, {"type": "x", "n": 1, "stop": True})
        await listener.arrived.wait()
        assert not await subscription.leave(lambda: 0.05)


async def test_leaving_that_is_cancelled_leaves_nothing(
    use: Use, layer: InMemoryChannelLayer, listener: Listener
):
    """As by daphne, ten seconds after its client has gone."""
    async with use() as (subscription, name):
        await layer.send(name, {"type": "x", "n": 1, "stop": True})
        await listener.arrived.wait()
        leaving = asyncio.create_task(subscription.leave())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        assert leaving.cancelled()
        assert (layer.channels, len(asyncio.all_tasks())) == ({}, 1)


@pytest.mark.parametrize(
    ("error", "level", "lines"),
    [
        (ConnectionError("no Redis today"), "ERROR", 1),  # not one for each connection and second
        (ValueError("int is not allowed for map key"), "WARNING", 3),
        (InvalidToken(), "WARNING", 3),
    ],
)
async def test_a_failing_layer_is_asked_again(
    use: Use,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    level: str,
    lines: int,
):
    """And a message that can't be read holds no other one up."""
    monkeypatch.setattr(_subscription, "_RETRY", 0.01 if lines == 1 else 1000)
    async with use(layer := Failing(error, receive=3)) as (_, name):
        await layer.send(name, {"type": "x", "n": 1})
        await until(lambda: listener.events == [1])
    told = [(record.levelname, record.exc_info) for record in caplog.records]
    assert told == [(level, None)] * lines


@pytest.mark.parametrize("error", [ConnectionError("no Redis today"), ValueError("odd")])
async def test_a_layer_that_always_fails_is_not_asked_all_the_time(
    use: Use, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setattr(_subscription, "_MANY", 0)
    async with use(layer := Failing(error, receive=1000)):
        # A single failure costs no time, since messages may be waiting.
        await until(lambda: layer.failures["receive"] == 998)
        for _ in range(100):
            await asyncio.sleep(0)
        assert layer.failures["receive"] == 998
        layer.failures["receive"] = 0


@pytest.mark.skipif(_EAGER is None, reason="this Python has no eager tasks")
async def test_eager_tasks(folder: Path, listener: Listener):
    """They may have ended before anybody knows them, and an event may send the next one."""
    asyncio.get_running_loop().set_task_factory(_EAGER)
    layer = LocalChannelLayer(directory=folder)
    subscription = await Subscription.open(layer)
    name = subscription.name

    async def handle(event: Mapping[str, Any]) -> None:
        if event["n"] == 1:
            await layer.send(name, {"n": 2})
        await listener.handle(event)

    subscription.start(handle, lambda: True)
    for number in (0, 1, 3):
        await layer.send(name, {"n": number})
    await until(lambda: listener.events == [0, 1, 2, 3])
    await subscription.leave()


async def test_too_many_bytes(folder: Path):
    layer = LocalChannelLayer(directory=folder)
    subscription = await Subscription.open(layer)
    overflow = asyncio.Event()
    subscription.bound(5, overflow.set)
    for _ in range(2):
        await layer.send(subscription.name, {"type": "x"})
    assert overflow.is_set()
    await subscription.leave()


async def test_a_failing_discard_does_not_keep_the_other_groups(
    use: Use, caplog: pytest.LogCaptureFixture
):
    async with use(layer := Failing(group_discard=1)):
        pass
    assert list(layer.groups) == ["room"]
    (line,) = caplog.messages
    assert line.startswith("The channel layer failed: no Redis today. ")


async def test_a_cancellation_that_is_lost_is_repeated(use: Use, listener: Listener):
    """As redis-py may lose it under Python 3.11; what comes meanwhile isn't handled any more."""
    async with use(layer := Failing(cancel=1)) as (subscription, name):
        leaving = asyncio.create_task(subscription.leave())
        await until(lambda: layer.failures["cancel"] == 0)
        await layer.send(name, {"type": "x", "n": 1})
        await leaving
    async with use(Failing(cancel=1)):
        pass
    assert listener.events == []
