"""The channel layer of this process, for tests of layers and of those who send over one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import channels_redis.pubsub
import pytest
from channels.layers import channel_layers
from channels_redis.pubsub import RedisSingleShardConnection
from redis import Redis

from panther_channels import _pubsub
from tests.servers import RedisServer


def install_pubsub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the connections to Redis by ours; monkeypatch puts back what was there."""
    name = "RedisSingleShardConnection"
    monkeypatch.setattr(channels_redis.pubsub, name, RedisSingleShardConnection)
    _pubsub.install()


@contextmanager
def default_layer(layer: Any) -> Iterator[None]:
    """Makes a layer the default one; afterwards it is as it was before, even if there was none."""
    before = channel_layers.backends.pop("default", None)
    channel_layers.backends["default"] = layer
    try:
        yield
    finally:
        del channel_layers.backends["default"]
        if before is not None:
            channel_layers.backends["default"] = before


def calls(redis: RedisServer, command: str) -> int:
    """How often a redis-server was asked for a command, whether or not it has refused it."""
    with Redis(host=redis.host, port=redis.port) as client:
        found = client.info("commandstats").get(f"cmdstat_{command}", {})
    return int(found.get("calls", 0)) + int(found.get("rejected_calls", 0))
