"""The test project with limits, from the environment: LIMITS is a dict of settings as JSON."""

import json
import os

from tests.project.settings import *  # noqa: F403

WS_URLS = "tests.faults.limited.websocket_urls"
globals().update(json.loads(os.environ["LIMITS"]))
