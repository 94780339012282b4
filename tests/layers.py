"""The channel layer of this process, for tests of layers and of those who send over one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import channels_redis.pubsub
import pytest
from channels.layers import channel_layers
from channels_redis.pubsub import RedisSingleShardConnection

from panther_channels import _pubsub


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
