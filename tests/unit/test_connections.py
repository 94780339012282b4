import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from panther_channels.connections import (
    EVENT_TYPE,
    check_close,
    check_size,
    close_websocket_connection,
    find_channel_layer,
    group_name,
    is_connection_id,
    message_event,
    send_message_to_websocket,
)

ID = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ID, True),
        ("f" * 32, True),
        ("f" * 31, False),
        ("f" * 33, False),
        ("F" * 32, False),
        ("g" * 32, False),
        (f"{ID}\n", False),
        ("٣" * 32, False),
        ("", False),
        (None, False),
        (5, False),
        (ID.encode(), False),
    ],
)
def test_ids(value: object, expected: bool):
    assert is_connection_id(value) is expected


def test_a_group_has_a_legal_name(layer: InMemoryChannelLayer):
    assert layer.require_valid_group_name(group_name(ID))
    assert group_name(ID) != group_name("f" * 32)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1014, 3000, 4999])
def test_codes_that_may_be_sent(code: int):
    check_close(code, "é" * 61 + "x")


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70_000])
def test_codes_that_may_not_be_sent(code: int):
    with pytest.raises(ValueError, match=rf"^{code} .*4000 to 4999"):
        check_close(code, "")


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (1000, "x" * 124, ValueError),
        (1000, "é" * 62, ValueError),
        (1000, "\ud800", ValueError),
        (1000, None, TypeError),
        (1000, b"bye", TypeError),
        ("1000", "", TypeError),
        (1000.0, "", TypeError),
        (True, "", TypeError),
        (None, "", TypeError),
    ],
)
def test_what_can_not_stand_in_a_close_frame(code: Any, reason: Any, error: type[Exception]):
    with pytest.raises(error):
        check_close(code, reason)


OUTSIDE: list[Callable[..., Any]] = [
    functools.partial(send_message_to_websocket, data="x"),
    close_websocket_connection,
]


@pytest.mark.parametrize("call", OUTSIDE)
@pytest.mark.parametrize("layers", [{}, {"other": {"BACKEND": "x.Y"}}])
@pytest.mark.parametrize("connection_id", [ID, "malformed"])
async def test_without_a_layer(
    call: Callable[..., Any], layers: dict[str, Any], connection_id: str
):
    with (
        override_settings(CHANNEL_LAYERS=layers),
        pytest.raises(ImproperlyConfigured, match=r'CHANNEL_LAYERS\["default"\]'),
    ):
        await call(connection_id)


async def test_the_missing_layer_is_named():
    with (
        override_settings(WS_CHANNEL_LAYER="sockets"),
        pytest.raises(ImproperlyConfigured, match=r'CHANNEL_LAYERS\["sockets"\]'),
    ):
        await send_message_to_websocket(ID, "x")


@pytest.mark.parametrize("call", OUTSIDE)
@pytest.mark.parametrize("connection_id", [ID, "", "x\n y", "x" * 500, None, 5, b"x", ["x"]])
async def test_an_id_of_nobody_does_nothing(call: Callable[..., Any], connection_id: Any):
    await call(connection_id)


@pytest.mark.parametrize("data", [object(), {1, 2}, {"a": b"x"}])
async def test_bad_data_fails_at_the_sender_whatever_the_id(data: Any):
    for connection_id in (ID, "malformed"):
        with pytest.raises(TypeError):
            await send_message_to_websocket(connection_id, data)


async def test_a_bad_close_fails_at_the_sender():
    with pytest.raises(ValueError, match="1005"):
        await close_websocket_connection(ID, 1005)
    with pytest.raises(ValueError, match="123 bytes"):
        await close_websocket_connection(ID, reason="x" * 124)


async def test_the_events_are_plain_text_and_numbers(layer: InMemoryChannelLayer):
    channel = await layer.new_channel()
    await layer.group_add(group_name(ID), channel)
    for data in ("a", b"b", {"c": 1}):
        await send_message_to_websocket(ID, data)
    await close_websocket_connection(ID, 4001, "bye")
    events = [await layer.receive(channel) for _ in range(4)]
    assert events == [
        {"type": EVENT_TYPE, "text": "a"},
        {"type": EVENT_TYPE, "base64": "Yg=="},
        {"type": EVENT_TYPE, "json": '{"c":1}'},
        {"type": EVENT_TYPE, "code": 4001, "close": "bye"},
    ]
    await layer.group_discard(group_name(ID), channel)


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


async def test_too_large_a_message_fails_at_the_sender():
    with pytest.raises(ValueError, match="too large for InMemoryChannelLayer"):
        await send_message_to_websocket("nobody", "x" * 17_000_000)
