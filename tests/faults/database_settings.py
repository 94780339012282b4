"""The test project on PostgreSQL, with what the environment says of it."""

import json
import os

from tests.project.settings import *  # noqa: F403

WS_URLS = "tests.faults.asking.websocket_urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "USER": "site",
        "NAME": "postgres",
        **json.loads(os.environ["DATABASE"]),
    }
}
