"""The test project with Channels alone: panther_channels is not in it, and mends nothing."""

import json
import os
from typing import Any

from tests.project.settings import *  # noqa: F403

INSTALLED_APPS = ["daphne", "django.contrib.auth", "django.contrib.contenttypes"]
ROOT_URLCONF = "tests.faults.plain.asgi"
ASGI_APPLICATION = "tests.faults.plain.asgi.application"

if database := os.environ.get("DATABASE"):
    address = {"HOST": "127.0.0.1", "USER": "site", "NAME": "postgres"}
    engine = {"ENGINE": "django.db.backends.postgresql"}
    DATABASES = {"default": {**engine, **address, **json.loads(database)}}

layer: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
if url := os.environ.get("REDIS_URL"):
    layer = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [url]},
    }
elif url := os.environ.get("CORE_URL"):
    # With the default of redis-py, 5 s, a connection is dropped every 5 s.
    hosts = [{"address": url, "socket_timeout": None}]
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": hosts}}
CHANNEL_LAYERS = {"default": layer}
