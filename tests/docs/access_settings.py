"""The test project with the classes of the documentation's pages on access."""

from tests.project.settings import *  # noqa: F403
from tests.project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "rest_framework.authtoken"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "tests.docs.access_urls"
WS_URLS = "tests.docs.access_urls.websocket_urls"
WS_MIDDLEWARES = ["panther_channels.middlewares.WebsocketMonitoringMiddleware"]
