"""What `manage.py check` says of us, for the tests of the checks."""

from typing import Any

from django.core import checks
from django.test import override_settings

URL = "redis://127.0.0.1:6379"
BACKEND = "panther_channels.layers.RedisChannelLayer"
PUBSUB = {"BACKEND": BACKEND, "CONFIG": {"hosts": [URL]}}


def found(**settings: Any) -> list[checks.CheckMessage]:
    """What `manage.py check` says of us."""
    with override_settings(**{"CHANNEL_LAYERS": {"default": PUBSUB}, **settings}):
        messages = checks.run_checks()
    return [message for message in messages if str(message.id).startswith("panther_channels.")]


def ids(**settings: Any) -> list[str]:
    return [str(message.id).removeprefix("panther_channels.") for message in found(**settings)]
