import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.layers import InMemoryChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from panther_channels import sync
from panther_channels._hub import addresses
from panther_channels._hub.addresses import is_connection_id, new_connection_id
from panther_channels._hub.delivery import check_size, find_channel_layer, message_event
from panther_channels._process.log_lines import Repeats
from panther_channels.connections import (
    close_websocket_connection,
    count_connections,
    list_connections,
    send_message_to_all,
    send_message_to_user,
    send_message_to_websocket,
    send_messages,
)
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.backplane import backplane, group_of_connection, node_of
from panther_channels.test import WebsocketClient
from panther_channels.websocket import GenericWebsocket
from tests.layers import default_layer

ID = "0123456789abcdef" * 2


async def test_an_id_says_where_its_connection_is(layer: InMemoryChannelLayer):
    ids = {new_connection_id(layer) for _ in range(100)}
    assert len(ids) == 100
    assert {node_of(group_of_connection(each)) for each in ids} == {backplane(layer).node()}
    assert all(layer.require_valid_group_name(group_of_connection(each)) for each in ids)
    for each in ids:
        assert is_connection_id(each)


NO_IDS = ["f" * 31, "f" * 33, "F" * 32, "g" * 32, f"{ID}\n", "٣" * 32, "x\n y", "x" * 500, ""]


@pytest.mark.parametrize("value", [*NO_IDS, None, 5, ID.encode(), ["x"]])
async def test_no_ids(value: Any):
    assert not is_connection_id(value)
    await send_message_to_websocket(value, "x")
    await close_websocket_connection(value)


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [(1005, "", ValueError), (1000, "\ud800", ValueError), (True, "", TypeError)],
)
async def test_what_can_not_stand_in_a_close_frame(code: int, reason: str, error: type[Exception]):
    with pytest.raises(error):
        await close_websocket_connection(ID, code, reason)


async def test_many_messages_are_pairs():
    messages: Any = {ID: "x"}
    with pytest.raises(TypeError, match=r"items\(\)"):
        await send_messages(messages)
    with pytest.raises(TypeError, match=r"items\(\)"):
        await sync_to_async(sync.send_messages)(messages)


async def test_bad_data_fails_at_the_sender_whatever_the_id():
    for data, error in ((object(), TypeError), ("x" * 17_000_000, ValueError)):
        for connection_id in (ID, "malformed"):
            with pytest.raises(error):
                await send_message_to_websocket(connection_id, data)


class Quiet(GenericWebsocket):
    async def connect(self):
        await self.accept()


@pytest.mark.parametrize("path", ["/ws/chat", "ws/chat", "ws/*", "*chat", "*"])
async def test_a_path_with_and_without_its_first_slash(path: str):
    async with WebsocketClient(Quiet.as_asgi()).connect("/ws/chat"):
        assert [each.path for each in await list_connections(path=path)] == ["/ws/chat"]
        assert await count_connections(path=path) == 1
        assert await sync_to_async(sync.count_connections)(path=path) == 1


async def test_an_event_loop_with_channels_alone_is_not_missing(folder: Path):
    """As a process that has only consumers of Channels, which know nothing of this package."""
    layer = LocalChannelLayer(folder)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        making = asyncio.run_coroutine_threadsafe(layer.new_channel(), loop)
        await asyncio.wrap_future(making)
        with default_layer(layer):
            assert (await list_connections(within=5)).missing == ()
            assert await send_message_to_all("x", confirm_within=5) == 0
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()


@pytest.fixture
def told_of_keys(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    repeats = Repeats(logging.getLogger("panther_channels"), logging.WARNING, interval=60)
    monkeypatch.setattr(addresses, "_no_keys", repeats)
    return caplog


async def test_a_username_is_no_primary_key(told_of_keys: pytest.LogCaptureFixture):
    for user in ("ada", "eve"):  # one line of both
        assert await list_connections(user=user) == []
    await sync_to_async(sync.send_message_to_user)("ada", "x")
    (line,) = told_of_keys.messages
    assert line.startswith("'ada' can't be a primary key of auth.User")


async def test_what_may_be_a_primary_key(told_of_keys: pytest.LogCaptureFixture):
    of_a_token = SimpleNamespace(pk="a|b")
    for user in (5, "5", uuid4(), of_a_token):
        await send_message_to_user(user, "x")
    with override_settings(AUTH_USER_MODEL="sessions.Session"):  # whose keys are texts
        await send_message_to_user("ada", "x")
    with override_settings(AUTH_USER_MODEL="nothing.User"):
        await send_message_to_user("ada", "x")
    assert told_of_keys.messages == []


@pytest.mark.parametrize(
    ("alias", "layers"),
    [("default", {}), ("default", {"other": {"BACKEND": "x.Y"}}), ("sockets", {"default": {}})],
)
@pytest.mark.parametrize("connection_id", [ID, "malformed"])
async def test_without_a_layer(alias: str, layers: dict[str, Any], connection_id: str):
    calls = [send_message_to_websocket(connection_id, "x"), close_websocket_connection(ID)]
    with override_settings(CHANNEL_LAYERS=layers, WS_CHANNEL_LAYER=alias):
        for call in calls:
            with pytest.raises(ImproperlyConfigured, match=rf'CHANNEL_LAYERS\["{alias}"\]'):
                await call


class Slow(InMemoryChannelLayer):
    """A layer whose making takes a while, as the import of a Redis client does."""

    made = 0

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        threading.Event().wait(0.1)
        Slow.made += 1


def test_threads_that_come_first_get_one_layer():
    barrier = threading.Barrier(4, timeout=10)

    def find(_: int) -> Any:
        barrier.wait()
        return find_channel_layer()

    with (
        override_settings(CHANNEL_LAYERS={"default": {"BACKEND": f"{__name__}.Slow"}}),
        ThreadPoolExecutor(4) as pool,
    ):
        assert len(set(pool.map(find, range(4)))) == 1
    assert Slow.made == 1


KIB = 1024


class Own(RedisPubSubChannelLayer):
    pass


@pytest.mark.parametrize(
    ("kind", "largest"),
    [(RedisPubSubChannelLayer, KIB), (Own, KIB), (InMemoryChannelLayer, 16 * KIB - 1)],
)
def test_the_largest_message(kind: Any, largest: int):
    layer, size = kind(), largest * KIB
    check_size(layer, message_event("x" * size))
    check_size(layer, message_event("é" * (size // 2)))
    check_size(layer, message_event(["x" * (size - 4)]))
    check_size(layer, message_event(b"x" * (size // 4 * 3)))
    too_large: list[Any] = ["x" * (size + 1), "é" * (size // 2 + 1), ["x" * size], b"x" * size]
    for data in too_large:
        with pytest.raises(ValueError, match=f"too large for {kind.__name__}, .*: send a ref"):
            check_size(layer, message_event(data))
