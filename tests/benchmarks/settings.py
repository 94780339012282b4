"""Django's settings for the applications; what differs between them comes from the environment."""

import os
from typing import Any

SECRET_KEY = "benchmarks"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = os.environ.get("BENCHMARK_APPS", "").split()
USE_TZ = True
ROOT_URLCONF = __name__
BOLT_API = ["tests.benchmarks.applications.bolt:api"]
urlpatterns: list[object] = []
# Channels looks after database connections at every message; without a database it would be spared.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

# Bare Channels is measured with the layer that it has.
_pubsub = "channels_redis.pubsub.RedisPubSubChannelLayer"
if "panther_channels" in INSTALLED_APPS:
    _pubsub = "panther_channels.layers.RedisChannelLayer"
# URLs of Redis, or a directory.
_address = os.environ.get("BENCHMARK_ADDRESS", "")
_layers: dict[str, dict[str, Any]] = {
    "local": {
        "BACKEND": "panther_channels.layers.LocalChannelLayer",
        "CONFIG": {"directory": _address},
    },
    "pubsub": {
        "BACKEND": _pubsub,
        "CONFIG": {"hosts": _address.split()},
    },
    "core": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # redis-py's default of 5 s is as long as this layer waits for a message.
            "hosts": [{"address": _address, "socket_timeout": None}],
            # Of a process, not of a connection: 100 would lose most of what is under way here.
            "capacity": 5000,
        },
    },
}
if _layer := os.environ.get("BENCHMARK_LAYER"):
    CHANNEL_LAYERS = {"default": _layers[_layer]}
