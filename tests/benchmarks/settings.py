"""Django's settings for the applications; what differs between them comes from the environment."""

import os

SECRET_KEY = "benchmarks"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = os.environ.get("BENCHMARK_APPS", "").split()
USE_TZ = True
ROOT_URLCONF = __name__
urlpatterns: list[object] = []
# Channels looks after database connections at every message; without a database it would be spared.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

if redis_url := os.environ.get("BENCHMARK_REDIS_URL"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_url]},
        }
    }
