from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.core import checks

import panther_channels.layers
from tests.names import name_of
from tests.unit.system_checks import BACKEND, PUBSUB, URL, found, ids

LOCAL = "panther_channels.layers.LocalChannelLayer"
MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
CORE = "channels_redis.core.RedisChannelLayer"
PLAIN = "channels_redis.pubsub.RedisPubSubChannelLayer"


def over_redis(backend: str, *hosts: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "CONFIG": {"hosts": list(hosts)}}


def of_layer(layer: Any, alias: str = "default", **settings: Any) -> list[checks.CheckMessage]:
    return found(CHANNEL_LAYERS={alias: layer}, WS_CHANNEL_LAYER=alias, **settings)


def test_no_layer():
    (message,) = found(CHANNEL_LAYERS={})
    assert (message.id, message.level) == ("panther_channels.W004", checks.WARNING)
    assert 'CHANNEL_LAYERS["default"]' in message.msg
    assert recommends(message)
    assert found(CHANNEL_LAYERS={}, WS_URLS=None) == []
    assert ids(CHANNEL_LAYERS={"default": MEMORY}, WS_CHANNEL_LAYER="sockets") == ["E004"]
    assert of_layer(PUBSUB, "sockets") == []


def test_a_layer_in_memory():
    for kind in ("channels.layers.InMemoryChannelLayer", f"{__name__}.OwnMemory"):
        (message,) = of_layer({"BACKEND": kind}, "sockets", DEBUG=False)
        assert (message.id, message.level) == ("panther_channels.W005", checks.WARNING)
        assert 'CHANNEL_LAYERS["sockets"]' in message.msg
        assert kind in message.msg
        assert recommends(message)
        assert of_layer({"BACKEND": kind}, DEBUG=True) == []


class OwnMemory(InMemoryChannelLayer):
    pass


class OwnCore(RedisChannelLayer):
    def __init__(self, hosts=None):
        super().__init__([{**host, "socket_timeout": None} for host in hosts])


class OwnPlain(RedisPubSubChannelLayer):
    pass


class Own(panther_channels.layers.RedisChannelLayer):
    pass


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    ("backend", "costs"),
    [
        (CORE, ("capacity", "process", "groups")),
        (f"{__name__}.OwnCore", ("capacity", "process", "groups")),
        (PLAIN, ("connects to Redis again", "bursts", "number", "subscribes")),
        (f"{__name__}.OwnPlain", ("connects to Redis again", "bursts", "number", "subscribes")),
    ],
)
def test_a_layer_of_channels_redis(backend: str, costs: tuple[str, ...], debug: bool):
    layer = over_redis(backend, {"address": URL, "socket_timeout": None})
    (message,) = of_layer(layer, "sockets", DEBUG=debug)
    assert (message.id, message.level) == ("panther_channels.W006", checks.WARNING)
    for word in ("sockets", backend, *costs):
        assert word in message.msg
    assert f'CHANNEL_LAYERS["sockets"]["BACKEND"] to "{BACKEND}"' in str(message.hint)
    assert '"prefix"' in str(message.hint)


def test_our_layer_of_redis():
    for backend in (BACKEND, f"{__name__}.Own"):
        assert of_layer(over_redis(backend, URL), DEBUG=False) == []


SENTINEL = {"sentinels": [("127.0.0.1", 26379)], "master_name": "mymaster"}
RIGHT = {"address": URL, "socket_timeout": None}


@pytest.mark.parametrize(
    ("hosts", "wrong"),
    [
        ([URL], [0]),
        ([("127.0.0.1", 6379)], [0]),
        ([RIGHT, {"address": URL}, {"address": URL, "socket_timeout": 5}], [1, 2]),
        ([SENTINEL], [0]),
        ([{**SENTINEL, "socket_timeout": None}], []),
        ([{"address": URL, "socket_timeout": 6}, f"{URL}?socket_timeout=6"], []),
    ],
    ids=name_of,
)
def test_redis_that_is_not_waited_for(hosts: list[Any], wrong: list[int]):
    first, *others = of_layer(over_redis(CORE, *hosts))
    assert first.id == "panther_channels.W006"
    for message, index in zip(others, wrong, strict=True):
        assert (message.id, message.level) == ("panther_channels.W008", checks.WARNING)
        assert f"hosts[{index}]" in message.msg
        assert '"socket_timeout": None' in str(message.hint)
        assert recommends(message)


def recommends(message: checks.CheckMessage) -> bool:
    hint = str(message.hint)
    return "panther_channels.layers.LocalChannelLayer" in hint and BACKEND in hint


@pytest.mark.parametrize(
    "layer",
    [
        {"BACKEND": "no.such.Layer"},
        {},
        {"BACKEND": None},
        over_redis(CORE, "http://no.redis"),
        over_redis(BACKEND, "http://no.redis"),
        {"BACKEND": CORE, "CONFIG": {"hosts": URL}},
        {"BACKEND": CORE, "CONFIG": {"no": "such"}},
    ],
    ids=name_of,
)
def test_a_layer_that_is_none_is_left_to_channels(layer: dict[str, Any]):
    assert {message.id for message in of_layer(layer)} <= {"panther_channels.W006"}


def test_a_local_layer(tmp_path):
    assert of_layer({"BACKEND": LOCAL, "CONFIG": {"directory": "/run/project"}}) == []
    assert of_layer({"BACKEND": LOCAL}, BASE_DIR=tmp_path) == []
    for layer in (
        {"BACKEND": LOCAL},
        {"BACKEND": LOCAL, "CONFIG": {"directory": "/run/" + "x" * 100}},
    ):
        (message,) = of_layer(layer, "sockets")
        assert (message.id, message.level) == ("panther_channels.E011", checks.ERROR)
        assert '["CONFIG"]["directory"]' in message.msg
