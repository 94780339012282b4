import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from cryptography.fernet import InvalidToken

from panther_channels._inbox import Inbox, event_handler, is_ours
from panther_channels.layers.backplane import Backplane
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.waiting import until

# Whose method it is


class Chat(GenericWebsocket):
    user = "alice"

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        pass

    async def disconnect(self, code: int):
        pass

    async def send(self, data: Any = None) -> None:
        pass

    async def chat_message(self, event):
        pass

    async def join(self, event):
        pass

    async def _private(self, event):
        pass

    async def __dunder(self, event):
        pass

    def synchronous(self, event):
        pass

    number = 5


class Child(Chat):
    pass


@pytest.mark.parametrize(("name", "ours"), [("send", False), ("close", True), ("join", False)])
def test_is_ours(name: str, ours: bool):
    assert is_ours(Chat, name) is ours
    assert is_ours(Child, name) is ours
    assert is_ours(GenericWebsocket, "send")


@pytest.mark.parametrize("consumer", [Chat, Child])
@pytest.mark.parametrize(
    ("kind", "name"),
    [("chat.message", "chat_message"), ("chat_message", "chat_message"), ("join", "join")],
)
def test_a_type_finds_the_method_of_the_user(consumer: Any, kind: str, name: str):
    assert event_handler(consumer, kind) == name


FORBIDDEN = {
    *("", "_private", ".private", "__dunder", "synchronous", "number", "unknown", "a b"),
    *("websocket.connect", "websocket.receive", "websocket.disconnect", "websocket_receive"),
    *("user", "scope", "dispatch", "as_asgi", "groups", "send.json", "__init__", "__call__"),
    *(name for base in Websocket.__mro__ for name in vars(base)),
}


@pytest.mark.parametrize("kind", sorted(FORBIDDEN))
def test_no_type_finds_a_method_of_ours(kind: str):
    assert event_handler(Chat, kind) is None
    assert event_handler(Chat, kind.replace("_", ".")) is None


# Inbox


class Listener:
    """Handles events into a list, for as long as `wanted`; stops in one that says so."""

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

    def wanted(self) -> bool:
        return self.is_wanted


async def build(layer: Any, listener: Listener) -> tuple[Inbox, str]:
    name = await layer.new_channel()
    inbox = Inbox(layer, name)
    await inbox.join(["room", "hall"])
    inbox.start(listener.handle, listener.wanted)
    return inbox, name


async def test_events_come_in_order_from_every_group(layer: InMemoryChannelLayer):
    listener = Listener()
    inbox, name = await build(layer, listener)
    for number in range(50):
        await layer.group_send(("room", "hall")[number % 2], {"type": "x", "n": number})
    await layer.send(name, {"type": "x", "n": 50})
    await until(lambda: len(listener.events) == 51)
    assert listener.events == list(range(51))
    await inbox.leave()


async def test_after_leave_nothing_is_on_the_layer(layer: InMemoryChannelLayer):
    listener = Listener()
    inbox, _name = await build(layer, listener)
    await asyncio.sleep(0)  # the task waits in receive() now
    await inbox.leave()
    assert (layer.groups, layer.channels) == ({}, {})
    await layer.group_send("room", {"type": "x", "n": 1})
    assert (listener.events, layer.channels) == ([], {})


async def test_leave_before_the_task_has_run(layer: InMemoryChannelLayer):
    listener = Listener()
    inbox, _name = await build(layer, listener)
    listener.is_wanted = False
    await inbox.leave()
    assert (layer.groups, layer.channels) == ({}, {})


async def test_leave_before_the_task_has_run_waits_for_nothing(layer: InMemoryChannelLayer):
    inbox, _name = await build(layer, Listener())
    async with asyncio.timeout(3):  # an event in work would have five seconds
        await inbox.leave()
    assert (layer.groups, layer.channels) == ({}, {})


async def test_leave_without_start(layer: InMemoryChannelLayer):
    name = await layer.new_channel()
    inbox = Inbox(layer, name)
    await layer.send(name, {"type": "x"})
    await inbox.leave()
    assert (layer.groups, layer.channels) == ({}, {})


async def test_a_message_in_the_moment_of_leave_stays_nowhere(layer: InMemoryChannelLayer):
    listener = Listener()
    inbox, name = await build(layer, listener)
    await asyncio.sleep(0)
    # The task is still in receive(), with this in its queue.
    await layer.send(name, {"type": "x", "n": 1})
    listener.is_wanted = False
    await inbox.leave()
    assert (layer.groups, layer.channels) == ({}, {})


async def test_leave_waits_for_the_event_in_work_and_drops_the_rest(layer: InMemoryChannelLayer):
    listener = Listener()
    inbox, name = await build(layer, listener)
    await layer.send(name, {"type": "x", "n": 1, "stop": True})
    await listener.arrived.wait()
    for number in range(2, 52):
        await layer.send(name, {"type": "x", "n": number})
    listener.is_wanted = False
    leaving = asyncio.create_task(inbox.leave())
    await asyncio.sleep(0)
    assert not leaving.done()
    listener.resume.set()
    await leaving
    assert listener.events == [1, "done"]
    assert (layer.groups, layer.channels) == ({}, {})


async def test_leave_does_not_wait_for_ever(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("panther_channels._inbox._GRACE", 0.05)
    listener = Listener()
    inbox, name = await build(layer, listener)
    await layer.send(name, {"type": "x", "n": 1, "stop": True})
    await listener.arrived.wait()
    await asyncio.wait_for(inbox.leave(), 1)
    assert (layer.groups, layer.channels) == ({}, {})


class Failing(InMemoryChannelLayer):
    """Raises in the methods that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, int] = {}
        self.error: Exception | None = None

    def _maybe_fail(self, name: str) -> None:
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            raise self.error or ConnectionError(f"no {name} today")

    async def receive(self, channel):
        self._maybe_fail("receive")
        return await super().receive(channel)

    async def group_discard(self, group, channel):
        self._maybe_fail("group_discard")
        await super().group_discard(group, channel)


async def test_a_failing_layer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("panther_channels._inbox._RETRY", 0.01)
    layer, listener = Failing(), Listener()
    layer.failures["receive"] = 3
    inbox, name = await build(layer, listener)
    await layer.send(name, {"type": "x", "n": 1})
    await until(lambda: listener.events == [1])
    await inbox.leave()
    assert (layer.groups, layer.channels) == ({}, {})
    told = [(record.levelname, record.exc_info) for record in caplog.records]
    assert told == [("ERROR", None)]  # and not once for each connection and second


@pytest.mark.parametrize("error", [ValueError("int is not allowed for map key"), InvalidToken()])
async def test_a_message_that_can_not_be_read_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """And holds no other one up."""
    monkeypatch.setattr("panther_channels._inbox._RETRY", 1000)
    layer, listener = Failing(), Listener()
    layer.failures["receive"] = 3
    layer.error = error
    inbox, name = await build(layer, listener)
    await layer.send(name, {"type": "x", "n": 1})
    await until(lambda: listener.events == [1])
    await inbox.leave()
    told = [(record.levelname, record.exc_info) for record in caplog.records]
    assert told == [("WARNING", None)] * 3


async def test_a_single_failure_costs_no_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("panther_channels._inbox._RETRY", 1000)
    layer, listener = Failing(), Listener()
    layer.failures["receive"] = 1
    inbox, name = await build(layer, listener)
    await layer.send(name, {"type": "x", "n": 1})
    await until(lambda: listener.events == [1])
    await inbox.leave()


@pytest.mark.parametrize("error", [ConnectionError("no receive today"), ValueError("odd")])
async def test_a_layer_that_always_fails_is_not_asked_all_the_time(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("panther_channels._inbox._RETRY", 0.05)
    monkeypatch.setattr("panther_channels._inbox._MANY", 0)
    layer, listener = Failing(), Listener()
    layer.error = error
    layer.failures["receive"] = 1000
    inbox, _name = await build(layer, listener)
    start = time.monotonic()
    await until(lambda: layer.failures["receive"] <= 994)
    assert time.monotonic() - start > 0.2
    await inbox.leave()


async def test_what_comes_after_leaving_is_not_handled():
    """On channels_redis.core the task may outlive it: see `_redis_core`."""
    layer, listener = Stubborn(), Listener()
    inbox, name = await build(layer, listener)
    await asyncio.sleep(0)
    leaving = asyncio.create_task(inbox.leave())
    await asyncio.sleep(0.01)  # the cancellation is lost
    await layer.send(name, {"type": "x", "n": 1})
    await asyncio.wait_for(leaving, 3)
    assert listener.events == []


async def test_a_failing_discard_does_not_keep_the_other_groups(caplog: pytest.LogCaptureFixture):
    layer, listener = Failing(), Listener()
    layer.failures["group_discard"] = 1
    inbox, _name = await build(layer, listener)
    await asyncio.sleep(0)
    await inbox.leave()
    assert list(layer.groups) == ["room"]
    (line,) = caplog.messages
    assert line.startswith("The channel layer failed: no group_discard today. ")


class Stubborn(InMemoryChannelLayer):
    """As redis-py may under Python 3.11: the first cancellation of receive() gets lost."""

    async def receive(self, channel):
        try:
            return await super().receive(channel)
        except asyncio.CancelledError:
            return await super().receive(channel)


async def test_a_swallowed_cancellation_is_repeated():
    layer, listener = Stubborn(), Listener()
    inbox, _name = await build(layer, listener)
    await asyncio.sleep(0)
    await asyncio.wait_for(inbox.leave(), 3)


async def test_a_layer_that_counts_bytes_is_told_the_limit(layer: InMemoryChannelLayer):
    told: list[Any] = []

    class Counting(Backplane, InMemoryChannelLayer):
        def bound_channel(self, *arguments: Any) -> None:
            told.append(arguments)

    def overflow() -> None:
        pass

    Inbox(Counting(), "c").bound(5, overflow)
    Inbox(layer, "c").bound(5, overflow)  # has a limit of messages
    assert told == [("c", 5, overflow)]
