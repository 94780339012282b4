"""The contract's classes under this package, for ``daphne`` and ``uvicorn``."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.contracts.applications.django_settings")

from panther_channels.asgi import get_asgi_application

app = get_asgi_application()
