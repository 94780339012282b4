"""The test project with the live pages of the documentation."""

from tests.project.settings import *  # noqa: F403

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "tests.docs.live_urls"
WS_URLS = "tests.docs.live_urls.websocket_urls"
