"""The limits of hooks, without a server; tests/faults has them at work."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.test import override_settings

from panther_channels import _watch
from panther_channels._state import Socket
from panther_channels._watch import Watch, watch
from panther_channels.exceptions import WebsocketError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer
from tests.waiting import until

LIMITS = {"WS_CONNECT_TIMEOUT": 0.1, "WS_DISCONNECT_GRACE": 0.1}
DENIAL: Any = {"websocket.http.response": {}}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_watch, "_INTERVAL", 0.02)
    with override_settings(**LIMITS):
        yield


class Sleepy(GenericWebsocket):
    """Sleeps for ever in the hook that its path names."""

    async def auth(self, connection: Any) -> None:
        await self.sleep("auth")

    async def permissions(self, connection: Any) -> bool:
        await self.sleep("permissions")
        return True

    async def connect(self):
        await self.sleep("connect")
        await self.accept()
        await self.sleep("accepted")

    async def receive(self, data: str | bytes):
        self.scope["journal"].append(data)
        await self.sleep("receive")

    async def disconnect(self, code: int):
        self.scope["journal"].append(("disconnect", code))
        await self.sleep("disconnect")

    async def sleep(self, hook: str) -> None:
        if self.path == f"/{hook}":
            await asyncio.sleep(100)


class Slow(WebsocketMiddleware):
    async def __call__(self, connection: Any) -> Any:
        await asyncio.sleep(100)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.name == "panther_channels"]
    assert all(record.exc_info is None for record in found)
    return [record.getMessage() for record in found if record.levelno == logging.WARNING]


@pytest.mark.parametrize("hook", ["auth", "permissions", "connect"])
async def test_a_handshake_has_its_time(hook: str, caplog: pytest.LogCaptureFixture):
    async with Peer(Sleepy.as_asgi(), f"/{hook}", extensions=DENIAL) as peer:
        assert (await peer.next())["status"] == 503
        peer.leave(1006)
        peer.leave(1006)
        await peer.ended()
        assert peer.journal == []
        assert peer.task.cancelling() == 0
    assert warnings(caplog) == [
        f"Sleepy (WebSocket '/{hook}', connection (not accepted)) did not accept within 0.1 s, "
        "and refuses the client."
    ]


async def test_a_middleware_counts(caplog: pytest.LogCaptureFixture):
    with override_settings(WS_MIDDLEWARES=[Slow]):
        async with Peer(Sleepy.as_asgi(), extensions=DENIAL) as peer:
            assert (await peer.next())["status"] == 503
            peer.leave(1006)
            peer.leave(1006)
            await peer.ended()
    assert len(warnings(caplog)) == 1


async def test_hooks_have_all_of_their_time(caplog: pytest.LogCaptureFixture):
    class Pausing(Sleepy):
        async def sleep(self, hook: str) -> None:
            await asyncio.sleep(5 * _watch._INTERVAL)
            self.scope["journal"].append(hook)

    limits = {"WS_CONNECT_TIMEOUT": 30, "WS_DISCONNECT_GRACE": 30, "WS_SHUTDOWN_TIMEOUT": 0.1}
    with override_settings(**limits):
        async with Peer(Pausing.as_asgi()) as peer:
            await peer.accepted()
            peer.push("one")
            await peer.journaled("receive")
            (vigil,) = watch()._vigils.values()
            vigil._since -= 100  # it has been idle for long
            peer.leave(4001)
            await peer.ended()
    hooks = ["auth", "permissions", "connect", "accepted"]
    expected = [*hooks, "one", "receive", ("disconnect", 4001), "disconnect"]
    assert peer.journal == expected
    assert warnings(caplog) == []


@pytest.mark.parametrize(("hook", "name"), [("accepted", "connect()"), ("receive", "receive()")])
async def test_a_hook_has_its_time_after_the_end(
    hook: str, name: str, caplog: pytest.LogCaptureFixture
):
    async with Peer(Sleepy.as_asgi(), f"/{hook}") as peer:
        await peer.accepted()
        if hook == "receive":
            peer.push("one")
            await peer.journaled("one")
        await asyncio.sleep(0.3)
        assert not peer.task.done()  # as long as the client is there, there is no limit
        peer.leave(4001)
        assert await peer.ended() == []
        assert peer.journal[-1] == ("disconnect", 4001)
    (text,) = warnings(caplog)
    assert f"{name} 0.1 s after the client has gone" in text


async def test_a_hook_that_closes_has_its_time(caplog: pytest.LogCaptureFixture):
    class Closing(Sleepy):
        async def receive(self, data: str | bytes):
            await self.close(4002)
            await asyncio.sleep(100)

    async with Peer(Closing.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        assert (await peer.next())["code"] == 4002
        await peer.ended()
        assert peer.journal == [("disconnect", 4002)]
    assert len(warnings(caplog)) == 1


async def test_leaving_the_channel_layer_is_no_hook(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    discard = layer.group_discard

    async def slow(group: str, channel: str) -> None:
        await asyncio.sleep(0.3)
        await discard(group, channel)

    class Failing(Sleepy):
        async def connect(self):
            await self.accept()
            raise ZeroDivisionError

    monkeypatch.setattr(layer, "group_discard", slow)
    async with Peer(Failing.as_asgi()) as peer:
        await peer.accepted()
        await peer.ended()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_who_looked_ahead_ends_with_the_connection():
    class Failing(Sleepy):
        async def receive(self, data: str | bytes):
            (vigil,) = watch()._vigils.values()
            await until(lambda: vigil._lookout is not None)
            raise ZeroDivisionError

    before = asyncio.all_tasks()
    async with Peer(Failing.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        await peer.ended()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_what_was_read_ahead_is_handled(caplog: pytest.LogCaptureFixture):
    class Pausing(Sleepy):
        async def receive(self, data: str | bytes):
            await asyncio.sleep(float(data))
            self.scope["journal"].append(data)

    async with Peer(Pausing.as_asgi()) as peer:
        await peer.accepted()
        texts = ["0.08", "0.081", "0.082", "0", "0.083"]
        for text in texts:
            peer.push(text)
        peer.leave(4001)
        await peer.ended()
        assert peer.journal == [*texts, ("disconnect", 4001)]
    assert warnings(caplog) == []


async def test_a_disconnect_has_its_time(caplog: pytest.LogCaptureFixture):
    async with Peer(Sleepy.as_asgi(), "/disconnect") as peer:
        await peer.accepted()
        peer.leave(4001)
        await peer.ended()
        assert peer.journal == [("disconnect", 4001)]
    (text,) = warnings(caplog)
    assert "is still in disconnect() after 0.1 s, which is cancelled" in text


@pytest.mark.parametrize("hook", ["receive", "disconnect"])
async def test_when_the_server_stops_there_is_less_time(hook: str):
    limits = {"WS_DISCONNECT_GRACE": 100, "WS_SHUTDOWN_TIMEOUT": 0.5}
    with override_settings(**limits):
        async with Peer(Sleepy.as_asgi(), f"/{hook}") as peer:
            await peer.accepted()
            peer.push("one")
            await peer.journaled("one")
            peer.leave(1012)
            await peer.ended()
            assert peer.journal == ["one", ("disconnect", 1012)]


async def test_a_hook_that_takes_no_notice_is_asked_again(caplog: pytest.LogCaptureFixture):
    class Deaf(Sleepy):
        async def receive(self, data: str | bytes):
            for _ in range(3):
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    self.scope["journal"].append("goes on")
            await asyncio.sleep(100)

    async with Peer(Deaf.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        peer.leave(4001)
        await peer.ended()
        assert peer.journal == [*["goes on"] * 3, ("disconnect", 4001)]
        assert peer.task.cancelling() == 0
    assert len(warnings(caplog)) == 1


async def test_a_cancellation_by_the_server_at_the_same_time_is_not_lost():
    async with Peer(Sleepy.as_asgi(), "/receive") as peer:
        await peer.accepted()
        peer.push("one")
        await peer.journaled("one")
        (vigil,) = watch()._vigils.values()
        vigil.cut_off("is cut off by the test")
        peer.task.cancel()
        await asyncio.wait({peer.task}, timeout=2)
        assert peer.task.cancelled()
        assert (await peer.next())["code"] == 1012


@pytest.mark.parametrize("earlier", [0, 1])
async def test_whose_cancellation_it_is(earlier: int):
    answers: list[Any] = []

    async def serve() -> None:
        for _ in range(earlier):  # swallowed, as by a hook
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(100)
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            answers.append(vigil.was_cut_off())

    task = asyncio.create_task(serve())
    socket: Any = SimpleNamespace(scope={"path": "/"})
    vigil = _watch.Vigil(task, socket, "Any")
    for _ in range(earlier):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    vigil.cut_off("is cut off by the test")
    assert not vigil.was_cut_off(), "asked by another task, of which nobody cut off anything"
    await asyncio.wait({task}, timeout=2)
    assert answers == [True]
    assert task.cancelling() == earlier


async def test_the_server_stops(caplog: pytest.LogCaptureFixture):
    stopping = watch()
    async with Peer(Sleepy.as_asgi()) as idle, Peer(Sleepy.as_asgi(), "/receive") as busy:
        for peer in (idle, busy):
            await peer.accepted()
            peer.push("one")
            await peer.journaled("one")
        ended = asyncio.create_task(stopping.stop(10))
        for peer in (idle, busy):
            close = {"type": "websocket.close", "code": 1012, "reason": "service restart"}
            assert await peer.next() == close
            peer.leave(1012)
        await asyncio.wait_for(ended, 5)
        for peer in (idle, busy):
            assert await peer.ended() == []
            assert peer.journal[-1] == ("disconnect", 1012)
    assert stopping.is_stopping


async def test_the_server_waits_for_the_last_one():
    async with Peer(Sleepy.as_asgi()) as early:
        await early.accepted()
        early.leave()
        await early.ended()
    async with Peer(Sleepy.as_asgi()) as first, Peer(Sleepy.as_asgi()) as last:
        for peer in (first, last):
            await peer.accepted()
        stopping = asyncio.create_task(watch().stop(60))
        for peer in (first, last):
            assert (await peer.next())["code"] == 1012
            assert not stopping.done()
            peer.leave(1012)
            await peer.ended()
        await asyncio.wait_for(stopping, 5)


async def test_who_sends_while_the_server_stops_made_no_mistake(caplog: pytest.LogCaptureFixture):
    class Sending(Sleepy):
        async def receive(self, data: str | bytes):
            await until(lambda: watch().is_stopping and self.state != "OPEN")
            await self.send("late")

    async with Peer(Sending.as_asgi()) as peer:
        await peer.accepted()
        peer.push("one")
        stopping = asyncio.create_task(watch().stop(10))
        assert (await peer.next())["code"] == 1012
        peer.leave(1012)
        await peer.ended()
        await asyncio.wait_for(stopping, 5)
        assert peer.journal == [("disconnect", 1012)]
    assert caplog.records == []


@pytest.mark.parametrize(("count", "seconds"), [(100, 0.0), (101, 101 / 300), (10**6, 3.0)])
def test_how_long_it_takes_to_close_many(count: int, seconds: float):
    assert _watch.seconds_to_close(count, 10) == pytest.approx(seconds)


async def test_one_timer_for_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_watch, "_INTERVAL", 60)
    calls: list[Any] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *call: calls.append(call))
    task = asyncio.current_task()
    assert task is not None
    found = watch()
    vigil, *_ = [found.enter(Socket(), "Any") for _ in range(3)]
    looks = [call for call in calls if found._look in call]
    found.leave(vigil)
    assert len(looks) == 1
    assert found._pulse._is_beating


async def test_a_handshake_is_refused_when_the_server_stops(settings: Any):
    settings.WS_CONNECT_TIMEOUT = 30
    async with Peer(Sleepy.as_asgi(), "/connect", extensions=DENIAL) as peer:
        await until(lambda: watch()._vigils)
        ended = asyncio.create_task(watch().stop(10))
        assert (await peer.next())["status"] == 503
        peer.leave(1006)
        peer.leave(1006)
        await asyncio.wait_for(ended, 5)


async def test_a_disconnect_goes_on_when_the_server_stops(
    settings: Any, caplog: pytest.LogCaptureFixture
):
    class Pausing(Sleepy):
        async def disconnect(self, code: int):
            self.scope["journal"].append("begins")
            await until(lambda: watch().is_stopping)
            await asyncio.sleep(0.1)
            self.scope["journal"].append("ends")

    settings.WS_DISCONNECT_GRACE = 30
    async with Peer(Pausing.as_asgi()) as peer:
        await peer.accepted()
        peer.leave(4001)
        await peer.journaled("begins")
        await asyncio.wait_for(watch().stop(10), 5)
        assert peer.journal == ["begins", "ends"]
    assert warnings(caplog) == []


async def test_a_server_without_connections_stops_at_once():
    await asyncio.wait_for(watch().stop(60), 5)


async def test_the_server_does_not_wait_for_ever():
    async with Peer(Sleepy.as_asgi()) as peer:  # whose server never tells of the end
        await peer.accepted()
        await asyncio.wait_for(watch().stop(0.2), 5)
        assert not peer.task.done()


async def test_a_close_frame_that_is_not_taken_is_given_up():
    class Stuck(Peer):
        async def _take(self, message: dict[str, Any]) -> None:
            if message["type"] == "websocket.close":
                await asyncio.sleep(100)
            await super()._take(message)

    def closing() -> bool:
        return any("Socket.close" in repr(task) for task in asyncio.all_tasks())

    async with Stuck(Sleepy.as_asgi()) as peer:
        await peer.accepted()
        stopping = asyncio.create_task(watch().stop(0.2))
        await until(closing)
        await asyncio.wait_for(stopping, 5)
        await until(lambda: not closing())


async def test_many_are_closed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    peers = [Peer(Sleepy.as_asgi()) for _ in range(150)]
    for peer in peers:
        await peer.__aenter__()
        await peer.accepted()
    for peer in peers:
        peer.leave(1012)
    with monkeypatch.context() as patched:
        patched.setattr("panther_channels._watch.asyncio.sleep", sleep)
        await asyncio.wait_for(watch().stop(10), 5)
    assert len(pauses) > 100
    for peer in peers:
        await peer.__aexit__()


async def test_the_timer_ends_with_the_last_connection():
    async with Peer(Sleepy.as_asgi()) as peer:
        await peer.accepted()
        assert watch()._is_scheduled
        peer.leave()
        await peer.ended()
        await until(lambda: not watch()._is_scheduled)
        assert watch()._vigils == {}


async def test_who_is_idle_is_not_looked_at(monkeypatch: pytest.MonkeyPatch):
    looks: list[object] = []
    looked_at: list[object] = []
    look = Watch._look

    def counting(found: Watch) -> None:
        looks.append(found)
        look(found)

    monkeypatch.setattr(Watch, "_look", counting)
    monkeypatch.setattr(_watch.Vigil, "look", lambda vigil, _now: looked_at.append(vigil))
    async with Peer(Sleepy.as_asgi()) as peer:
        await peer.accepted()
        (vigil,) = watch()._vigils.values()
        peer.push("one")
        await until(lambda: vigil.socket.received == vigil.socket.handled == 1)
        looks.clear()
        looked_at.clear()
        await until(lambda: len(looks) > 3)
        assert looked_at == []
        assert watch()._name_of(peer.task) == watch().names()[0]
        assert watch()._name_of(asyncio.current_task()) is None


def test_a_loop_is_not_kept():
    loop = asyncio.new_event_loop()

    async def main() -> None:
        assert watch() is watch()
        async with Peer(Sleepy.as_asgi()) as peer:
            await peer.accepted()

    loop.run_until_complete(main())
    loop.close()
    kept = weakref.ref(loop)
    del loop
    gc.collect()
    assert kept() is None


async def test_tasks_of_a_connection(caplog: pytest.LogCaptureFixture):
    class Working(Sleepy):
        async def connect(self):
            self.create_task(self.work())
            await self.accept()
            self.scope["journal"].append(self.connection_id)

        async def receive(self, data: str | bytes):
            if data == "fail":
                self.create_task(self.fail(), name="failing")
            else:
                self.create_task(self.say())

        async def work(self):
            try:
                await asyncio.sleep(100)
            finally:
                self.scope["journal"].append("work ends")

        async def fail(self):
            raise ZeroDivisionError

        async def say(self):
            await self.send("said")

        async def disconnect(self, code: int):
            with pytest.raises(WebsocketError, match="create_task"):
                self.create_task(self.work())
            await super().disconnect(code)

    async with Peer(Working.as_asgi()) as peer:
        await peer.accepted()
        peer.push("fail")
        peer.push("say")
        assert (await peer.next())["text"] == "said"
        peer.failure = OSError("gone")
        peer.push("say")  # nobody's mistake
        await asyncio.sleep(0.05)
        peer.leave(4001)
        await peer.ended()
        assert peer.journal[1:] == ["work ends", ("disconnect", 4001)]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    start = f"WebSocket '/peer', connection {peer.journal[0]}: a task of "
    assert record.getMessage().startswith(start)
    assert record.getMessage().endswith("Working failed")


async def test_the_names_of_who_is_busy():
    async with Peer(Sleepy.as_asgi(), "/disconnect") as idle:
        await idle.accepted()
        assert [name.partition(",")[0] for name in watch().names()] == [
            "Sleepy (WebSocket '/disconnect'"
        ]
        async with Peer(Sleepy.as_asgi(), "/receive") as busy:
            await busy.accepted()
            busy.push("one")
            await busy.journaled("one")
            (name,) = watch().names()
            assert name.startswith("Sleepy (WebSocket '/receive'")
            busy.leave(1000)
            await busy.ended()
        idle.leave(1000)
        await idle.ended()
    assert watch().names() == []


async def test_the_watch_needs_a_task():
    found = watch()
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            found.enter(None, "")  # type: ignore[arg-type]
        except RuntimeError as error:
            failures.append(error)

    asyncio.get_running_loop().call_soon(enter)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(failures) == 1
