import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.test import override_settings
from django.utils.connection import ConnectionDoesNotExist
from django.utils.functional import SimpleLazyObject

from panther_channels import sync, websocket
from panther_channels.connections import EVENT_TYPE, group_name

ID = "0123456789abcdef" * 2
NAMES = sync.__all__
PERSON = User(pk=5)


class Recorder:
    """A channel layer of any event loop, which keeps what it gets, and where."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.sent.append((group, message))
        self.loops.append(asyncio.get_running_loop())


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
    ("close_user_websockets", (PERSON,), {}),
    ("close_user_websockets", (SimpleLazyObject(lambda: PERSON), 4001), {"reason": "bye"}),
]


@pytest.mark.parametrize("on_commit", [False, True])
@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS)
def test_it_does_what_its_async_twin_does(
    recorder: Recorder, db: None, name: str, args: Any, kwargs: Any, on_commit: bool
):
    asyncio.run(getattr(websocket, name)(*args, **kwargs))
    expected = recorder.sent.copy()
    recorder.sent.clear()
    with transaction.atomic():
        getattr(sync, name)(*args, **kwargs)
    assert recorder.sent == expected
    assert len(expected) == 1


@pytest.mark.parametrize("name", NAMES)
def test_it_is_called_as_its_async_twin(name: str):
    parameters = list(inspect.signature(getattr(sync, name)).parameters.values())
    twin = inspect.signature(getattr(websocket, name))
    assert parameters[:-2] == list(twin.parameters.values())
    assert [(each.name, each.default) for each in parameters[-2:]] == [
        ("on_commit", False),
        ("using", None),
    ]
    assert {each.kind for each in parameters[-2:]} == {inspect.Parameter.KEYWORD_ONLY}


def test_all_threads_share_one_event_loop(recorder: Recorder):
    def send(number: int) -> None:
        sync.send_message_to_websocket(ID, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(20)))
    send(20)
    assert len(set(recorder.loops)) == 1
    assert sorted(int(message["json"]) for _, message in recorder.sent) == list(range(21))


async def test_the_in_memory_layer_is_reached_on_the_loop_of_the_server(
    layer: InMemoryChannelLayer,
):
    channel = await layer.new_channel()
    await layer.group_add(group_name(ID), channel)
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    await sync_to_async(sync.send_message_to_websocket)(ID, "from a view")
    assert await asyncio.wait_for(receiving, 10) == {"type": EVENT_TYPE, "text": "from a view"}
    await layer.group_discard(group_name(ID), channel)


def test_the_in_memory_layer_elsewhere_does_nothing(layer: InMemoryChannelLayer):
    sync.send_message_to_websocket(ID, "to nobody")


# Mistakes are told in the call, whether it sends now or after the commit.


@pytest.fixture(params=[False, True])
def on_commit(request: pytest.FixtureRequest, db: None) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("name", NAMES)
async def test_an_event_loop_is_not_blocked(recorder: Recorder, name: str):
    with pytest.raises(
        SynchronousOnlyOperation, match=rf"await panther_channels\.websocket\.{name}\("
    ):
        getattr(sync, name)(ID, *["x"] * (name == "send_message_to_websocket"))
    assert recorder.sent == []


MISTAKES: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception]]] = [
    (sync.send_message_to_websocket, (ID, object()), TypeError),
    (sync.send_message_to_websocket, ("malformed", {1, 2}), TypeError),
    (sync.send_message_to_websocket, (ID, "\ud800"), UnicodeEncodeError),
    (sync.close_websocket_connection, (ID, 1005), ValueError),
    (sync.close_websocket_connection, (ID, 1000, "x" * 124), ValueError),
    (sync.close_websocket_connection, (ID, "1000"), TypeError),
    (sync.close_user_websockets, (User(),), ValueError),
    (sync.close_user_websockets, (PERSON, 1005), ValueError),
]


@pytest.mark.parametrize(("call", "args", "error"), MISTAKES)
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


# Transactions


@pytest.fixture
def _transactions(transactional_db: None) -> None:
    """Real ones, which commit."""


@pytest.mark.usefixtures("_transactions")
def test_it_is_sent_after_the_commit(recorder: Recorder):
    data = [1]
    with transaction.atomic():
        sync.send_message_to_websocket(ID, data, on_commit=True)
        with transaction.atomic():
            sync.close_websocket_connection(ID, on_commit=True)
            sync.close_user_websockets(PERSON, on_commit=True)
        data.append(2)
        assert recorder.sent == []
    assert [message.get("json", message.get("code")) for _, message in recorder.sent] == [
        "[1]",
        1000,
        1008,
    ]


@pytest.mark.usefixtures("_transactions")
def test_it_is_not_sent_after_a_rollback(recorder: Recorder):
    with transaction.atomic():
        with transaction.atomic():
            sync.send_message_to_websocket(ID, "rolled back", on_commit=True)
            sync.close_websocket_connection(ID, on_commit=True)
            sync.close_user_websockets(PERSON, on_commit=True)
            transaction.set_rollback(True)
        sync.send_message_to_websocket(ID, "committed", on_commit=True)
    assert [message["text"] for _, message in recorder.sent] == ["committed"]


@pytest.mark.usefixtures("_transactions")
def test_without_a_transaction_it_is_sent_at_once(recorder: Recorder):
    sync.send_message_to_websocket(ID, "at once", on_commit=True)
    assert [message["text"] for _, message in recorder.sent] == ["at once"]


def test_the_transaction_of_a_database(recorder: Recorder, db: None):
    for call in (
        lambda: sync.send_message_to_websocket(ID, "x", on_commit=True, using="nowhere"),
        lambda: sync.close_websocket_connection(ID, on_commit=True, using="nowhere"),
        lambda: sync.close_user_websockets(PERSON, on_commit=True, using="nowhere"),
    ):
        with pytest.raises(ConnectionDoesNotExist, match="nowhere"):
            call()
    sync.send_message_to_websocket(ID, "now", using="nowhere")
    assert [message["text"] for _, message in recorder.sent] == ["now"]


def test_too_large_a_message_fails_at_once(recorder: Recorder, on_commit: bool):
    with pytest.raises(ValueError, match="too large for Recorder"):
        sync.send_message_to_websocket(ID, "x" * 17_000_000, on_commit=on_commit)
    assert recorder.sent == []
