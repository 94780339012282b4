"""The Django application."""

import sys

from django.apps import AppConfig
from django.core import checks

from panther_channels.checks import (
    check_authentication,
    check_channel_layer,
    check_middlewares,
    check_urls,
)


class PantherChannelsConfig(AppConfig):
    """Registers the system checks, and mends daphne where it is the server."""

    name = "panther_channels"
    verbose_name = "WebSockets"

    def ready(self) -> None:
        """Called by Django when the settings are there."""
        for check in (check_urls, check_middlewares, check_authentication, check_channel_layer):
            checks.register(check, checks.Tags.urls)
        if "daphne.server" in sys.modules:
            from panther_channels.servers import daphne

            daphne.install()
