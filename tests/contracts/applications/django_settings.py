"""The contract's classes under Django: the same settings as Panther's, in Django's spelling."""

import os

SECRET_KEY = "contract"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["daphne", "panther_channels"]
ROOT_URLCONF = "tests.contracts.applications.django_settings"
ASGI_APPLICATION = "tests.contracts.applications.django_application.app"
USE_TZ = True
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "panther_channels.layers.RedisChannelLayer",
        "CONFIG": {"hosts": [f"redis://127.0.0.1:{os.environ.get('REDIS_PORT')}/0"]},
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

WS_URLS = "tests.contracts.applications.urls.urls"
WS_AUTHENTICATION = "tests.contracts.applications.middlewares.DefaultAuthentication"
WS_MIDDLEWARES = [
    "tests.contracts.applications.middlewares.Outer",
    "tests.contracts.applications.middlewares.Inner",
]

urlpatterns: list[object] = []
