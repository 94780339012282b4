INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "panther_channels",
]

ASGI_APPLICATION = "project.asgi.application"
WS_URLS = "project.urls.websocket_urls"
