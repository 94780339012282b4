"""The ASGI application of the project."""

from panther_channels.asgi import get_asgi_application

application = get_asgi_application()
