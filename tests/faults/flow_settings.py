"""The test project with the WebSockets of flow_websockets; WS_SETTINGS has more settings."""

import json
import os

from tests.project.settings import *  # noqa: F403

WS_URLS = "tests.faults.flow_websockets.urls"

globals().update(json.loads(os.environ.get("WS_SETTINGS", "{}")))
