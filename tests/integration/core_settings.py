"""The test project over the other Redis layer, set as it has to be."""

import os

from tests.project.settings import *  # noqa: F403

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # redis-py's default of 5 s is as long as this layer waits for a message.
            "hosts": [{"address": os.environ["REDIS_URL"], "socket_timeout": None}],
            "capacity": 5000,
        },
    }
}
