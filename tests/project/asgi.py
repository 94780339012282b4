"""The ASGI application of the test project."""

import os

from panther_channels._hub import presence
from panther_channels.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")

if beat := os.environ.get("PRESENCE_BEAT"):  # seconds, for a test that waits for many of them
    presence.BEAT = float(beat)

application = get_asgi_application()
