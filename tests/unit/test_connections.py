import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from panther_channels._hub.addresses import group_name, is_connection_id, new_connection_id
from panther_channels._hub.delivery import check_size, find_channel_layer, message_event
from panther_channels.connections import close_websocket_connection, send_message_to_websocket
from panther_channels.layers.backplane import backplane, node_of

ID = "0123456789abcdef" * 2


async def test_an_id_says_where_its_connection_is(layer: InMemoryChannelLayer):
    ids = {new_connection_id(layer) for _ in range(100)}
    assert len(ids) == 100
    assert {node_of(group_name(each)) for each in ids} == {backplane(layer).node()}
    assert all(layer.require_valid_group_name(group_name(each)) for each in ids)
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


async def test_bad_data_fails_at_the_sender_whatever_the_id():
    for data, error in ((object(), TypeError), ("x" * 17_000_000, ValueError)):
        for connection_id in (ID, "malformed"):
            with pytest.raises(error):
                await send_message_to_websocket(connection_id, data)


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
