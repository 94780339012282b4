"""The test project over the other Redis layer, set as it has to be.

The environment may leave redis-py's defaults in place (REDIS_DEFAULTS), and set GROUP_EXPIRY.
"""

import os

from tests.project.settings import *  # noqa: F403

REDIS_URL = os.environ["REDIS_URL"]
# redis-py's default of 5 s is as long as this layer waits for a message.
RIGHT = {"address": REDIS_URL, "socket_timeout": None}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [REDIS_URL if os.environ.get("REDIS_DEFAULTS") else RIGHT],
            "capacity": 5000,
            "group_expiry": int(os.environ.get("GROUP_EXPIRY", "86400")),
        },
    }
}
# What this layer costs is what the tests are about.
SILENCED_SYSTEM_CHECKS = ["panther_channels.W006"]
