"""The settings of tests/project with the WebSockets here, and those of SETTINGS, which is JSON."""

import json
import os

from tests.project.settings import *  # noqa: F403

WS_URLS = "tests.faults.websockets.websocket_urls"
globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
