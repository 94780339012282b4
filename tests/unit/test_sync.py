import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock

import pytest
from asgiref.sync import sync_to_async
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.test import override_settings
from django.utils.connection import ConnectionDoesNotExist
from django.utils.functional import SimpleLazyObject

from panther_channels import sync, websocket
from panther_channels._hub.delivery import EVENT_TYPE
from panther_channels.layers.backplane import group_of_connection
from tests.names import name_of
from tests.waiting import until

ID = "0123456789abcdef" * 2
NAMES = sync.__all__
NONE = {"list_connections", "count_connections"}
TWO = {f"send_message_to_{to}" for to in ("websocket", "user", "group")}  # arguments at least
PERSON = User(pk=5)


class Recorder:
    """A channel layer of any event loop, which keeps what it gets, and where."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.sent.append((group, message))

    @property
    def said(self) -> list[Any]:
        """Data, or close code, of all that came, in its order."""
        kinds = ("text", "json", "code")
        return [next(event[key] for key in kinds if key in event) for _, event in self.sent]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    backend = f"{__name__}.Recorder"
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend}}):
        layer: Any = get_channel_layer()
        yield layer


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("send_message_to_websocket", (ID, "text"), {}),
    ("send_message_to_websocket", (ID, b"\xff"), {}),
    ("send_message_to_websocket", (), {"connection_id": ID, "data": {"a": [1, None]}}),
    ("close_websocket_connection", (ID,), {}),
    ("close_websocket_connection", (ID, 4001, "bye"), {}),
    ("close_websocket_connection", (), {"connection_id": ID, "reason": "bye"}),
    ("send_messages", ([(ID, "text")],), {}),
    ("send_message_to_user", (PERSON, "text"), {"exclude": [ID]}),
    ("send_message_to_user", (5, "text"), {}),
    ("send_message_to_group", ("any é", "text"), {"exclude": ID}),
    ("send_message_to_all", ("text",), {}),
    ("close_group_websockets", ("room-7", 4001), {}),
    ("close_all_websockets", (), {"reason": "bye", "exclude": ID}),
    ("close_user_websockets", (PERSON,), {}),
    ("close_user_websockets", (SimpleLazyObject(lambda: PERSON), 4001), {"reason": "bye"}),
    ("recheck_user_websockets", (PERSON,), {}),
    ("recheck_user_websockets", (SimpleLazyObject(lambda: PERSON),), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS)
def test_it_does_what_its_async_twin_does(recorder: Recorder, name: str, args: Any, kwargs: Any):
    asyncio.run(getattr(websocket, name)(*args, **kwargs))
    getattr(sync, name)(*args, **kwargs)
    first, second = recorder.sent
    assert first == second


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("send", "close"))])
def test_it_is_called_as_its_async_twin(name: str):
    parameters = list(inspect.signature(getattr(sync, name)).parameters.values())
    twin = inspect.signature(getattr(websocket, name))
    assert parameters[:-2] == list(twin.parameters.values())
    of_commit = [(each.name, each.default, each.kind) for each in parameters[-2:]]
    by_name = inspect.Parameter.KEYWORD_ONLY
    assert of_commit == [("on_commit", False, by_name), ("using", None, by_name)]


async def test_the_in_memory_layer_is_reached_on_the_loop_of_the_server(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
):
    channel, loops = await layer.new_channel(), []
    group_send = layer.group_send

    async def noted(*args: Any) -> None:
        loops.append(asyncio.get_running_loop())
        await group_send(*args)

    monkeypatch.setattr(layer, "group_send", noted)
    await layer.group_add(group_of_connection(ID), channel)
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    await sync_to_async(sync.send_message_to_websocket)(ID, "from a view")
    assert await asyncio.wait_for(receiving, 10) == {"type": EVENT_TYPE, "text": "from a view"}
    assert loops == [asyncio.get_running_loop()]
    await layer.group_discard(group_of_connection(ID), channel)


def test_the_in_memory_layer_elsewhere_does_nothing(layer: InMemoryChannelLayer):
    sync.send_message_to_websocket(ID, "to nobody")


# Mistakes are told in the call, whether it sends now or after the commit.


@pytest.fixture(params=[False, True])
def on_commit(request: pytest.FixtureRequest, db: None) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("name", NAMES)
async def test_an_event_loop_is_not_blocked(recorder: Recorder, name: str):
    right = rf"await panther_channels\.websocket\.{name}\("
    with pytest.raises(SynchronousOnlyOperation, match=right):
        getattr(sync, name)(*[] if name in NONE else [ID, "x"][: 2 if name in TWO else 1])
    assert recorder.sent == []


@pytest.mark.parametrize("name", ["close_user_websockets", *sorted(TWO)])
async def test_unless_django_is_told_to_let_it_be(
    recorder: Recorder, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    getattr(sync, name)(*[ID, "x"][: 2 if name in TWO else 1])
    assert len(recorder.sent) == 1


async def test_the_in_memory_layer_of_the_loop_that_runs_here(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    channel = await layer.new_channel()
    await layer.group_add(group_of_connection(ID), channel)
    for text in ("one", "two"):
        sync.send_message_to_websocket(ID, text)
    found = [(await asyncio.wait_for(layer.receive(channel), 10))["text"] for _ in range(2)]
    assert found == ["one", "two"]
    await layer.group_discard(group_of_connection(ID), channel)
    monkeypatch.setattr(layer, "group_send", AsyncMock(side_effect=OSError("not today")))
    sync.send_message_to_websocket(ID, "lost")
    await until(lambda: "could not be sent" in caplog.text)


MISTAKES: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception]]] = [
    (sync.send_message_to_websocket, (ID, object()), TypeError),
    (sync.send_message_to_websocket, ("malformed", {1, 2}), TypeError),
    (sync.send_message_to_websocket, (ID, "\ud800"), UnicodeEncodeError),
    (sync.send_message_to_websocket, (ID, "x" * 17_000_000), ValueError),
    (sync.close_websocket_connection, (ID, 1005), ValueError),
    (sync.close_websocket_connection, (ID, 1000, "x" * 124), ValueError),
    (sync.close_websocket_connection, (ID, "1000"), TypeError),
    (sync.close_user_websockets, (User(),), ValueError),
    (sync.recheck_user_websockets, (User(),), ValueError),
    (sync.send_message_to_user, (AnonymousUser(), "x"), ValueError),
    (sync.send_message_to_group, (5, "x"), TypeError),
    (sync.send_messages, ([(ID, "x"), (ID, object())],), TypeError),
    (sync.close_all_websockets, (1005,), ValueError),
    (sync.close_user_websockets, (PERSON, 1005), ValueError),
]


@pytest.mark.parametrize(("call", "args", "error"), MISTAKES, ids=name_of)
def test_bad_arguments(
    recorder: Recorder, on_commit: bool, call: Callable[..., Any], args: Any, error: type[Exception]
):
    with transaction.atomic(), pytest.raises(error):
        call(*args, on_commit=on_commit)
    assert recorder.sent == []


@pytest.mark.parametrize("connection_id", [ID, "malformed"])
def test_without_a_layer(on_commit: bool, connection_id: str):
    with (
        override_settings(CHANNEL_LAYERS={}),
        pytest.raises(ImproperlyConfigured, match=r'CHANNEL_LAYERS\["default"\]'),
    ):
        sync.send_message_to_websocket(connection_id, "x", on_commit=on_commit)


@pytest.mark.parametrize("connection_id", ["", "x\n y", "x" * 500, None, 5, b"x", ["x"]])
def test_an_id_of_nobody_does_nothing(recorder: Recorder, on_commit: bool, connection_id: Any):
    sync.send_message_to_websocket(connection_id, "x", on_commit=on_commit)
    sync.close_websocket_connection(connection_id, on_commit=on_commit)
    assert recorder.sent == []


def test_what_may_wait_is_gathered(recorder: Recorder):
    event, failures = {"type": EVENT_TYPE, "recheck": ""}, list[BaseException]()
    for _ in range(1000):
        sync.deliver_soon(["one", "two"], event, failures.append)
    until_sent(lambda: len(recorder.sent) == 2)
    # What comes once the first has gone out goes out, too.
    for _ in range(1000):
        sync.deliver_soon(["two"], event, failures.append)
    sync.deliver_soon(["two"], {**event, "recheck": "session"}, failures.append)
    until_sent(lambda: len(recorder.sent) == 4)
    assert [group for group, _ in recorder.sent] == ["one", "two", "two", "two"]
    assert (sync._soon, failures) == (set(), [])


def until_sent(condition: Callable[[], bool]) -> None:
    asyncio.run(until(condition))


def all_three(data: Any, **options: Any) -> None:
    sync.send_message_to_websocket(ID, data, **options)
    sync.close_websocket_connection(ID, **options)
    sync.close_user_websockets(PERSON, **options)


def test_it_is_sent_after_the_commit_and_not_after_a_rollback(
    recorder: Recorder, transactional_db: None
):
    data = [1]
    with transaction.atomic():
        all_three(data, on_commit=True)
        with transaction.atomic():
            all_three("rolled back", on_commit=True)
            transaction.set_rollback(True)
        data.append(2)
        assert recorder.said == []
    assert recorder.said == ["[1]", 1000, 1008]
    sync.send_message_to_websocket(ID, "without a transaction, at once", on_commit=True)
    assert recorder.said[3:] == ["without a transaction, at once"]


@pytest.mark.parametrize(("name", "args"), [(name, args) for name, args, _ in CALLS if args])
def test_the_transaction_of_a_database(recorder: Recorder, db: None, name: str, args: Any):
    with pytest.raises(ConnectionDoesNotExist, match="nowhere"):
        getattr(sync, name)(*args, on_commit=True, using="nowhere")
    assert recorder.sent == []
    getattr(sync, name)(*args, using="nowhere")  # now, and in no transaction
    assert len(recorder.sent) == 1
