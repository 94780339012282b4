import channels_redis.core
import channels_redis.pubsub
import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels.layers import LocalChannelLayer, RedisChannelLayer
from panther_channels.layers.plain_redis import kind_of


class Own(channels_redis.core.RedisChannelLayer):
    pass


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (channels_redis.core.RedisChannelLayer, "core"),
        (Own, "core"),
        (channels_redis.pubsub.RedisPubSubChannelLayer, "pubsub"),
        *((layer, "") for layer in (RedisChannelLayer, LocalChannelLayer, InMemoryChannelLayer)),
    ],
)
def test_kinds(layer: type, kind: str):
    assert kind_of(layer) == kind
