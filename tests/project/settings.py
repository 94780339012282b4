"""Settings of the project that the tests serve, and of pytest itself."""

import json
import os

SECRET_KEY = "for tests only, long enough for every signature"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
TIME_ZONE = "UTC"
USE_TZ = True

INSTALLED_APPS = [
    "daphne",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "panther_channels",
]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
ROOT_URLCONF = "tests.project.urls"
ASGI_APPLICATION = "tests.project.asgi.application"
WS_URLS = "tests.project.urls.websocket_urls"

# A file, where a test wants to share rows with a server.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("TEST_DATABASE", ":memory:"),
        # Nothing here has to outlive a crash, and a commit that does waits for the disk.
        "OPTIONS": {"init_command": "PRAGMA synchronous = OFF"},
    }
}

if redis_url := os.environ.get("REDIS_URL"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "panther_channels.layers.RedisChannelLayer",
            "CONFIG": {"hosts": [redis_url]},
        }
    }
elif directory := os.environ.get("LOCAL_LAYER"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "panther_channels.layers.LocalChannelLayer",
            "CONFIG": {"directory": directory},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# Everything goes to standard error, which the harness keeps as the server's log.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

# A test's own settings: see tests.servers.with_settings().
globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
