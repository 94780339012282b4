"""The settings of tests/project with the WebSockets of hooks.py, and with limits from outside."""

import json
import os

from tests.project.settings import *  # noqa: F403

WS_URLS = "tests.faults.hooks.websocket_urls"
globals().update(json.loads(os.environ.get("LIMITS", "{}")))
