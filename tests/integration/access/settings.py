"""Settings of a project whose WebSockets want to know who connects."""

import json
import os
from typing import Any

from tests.project.settings import *  # noqa: F403

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "rest_framework_simplejwt.token_blacklist",
    "panther_channels",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Signatures and password hashes are no subject here, and their cost would be.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def is_not_bob(user: Any) -> bool:
    """A rule about whom a token may let in."""
    return bool(user.is_active) and user.username != "bob"


ROOT_URLCONF = "tests.integration.access.urls"
WS_URLS = "tests.integration.access.urls.websocket_urls"
WS_AUTHENTICATION = "panther_channels.authentications.JWTAuthentication"
WS_MIDDLEWARES = ["panther_channels.middlewares.WebsocketMonitoringMiddleware"]

# A test's own settings once more: they come last.
globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
