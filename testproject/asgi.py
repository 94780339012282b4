"""The ASGI application of the demo site, for any ASGI server."""

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from panther_channels.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

# runserver serves static files by itself, other servers don't: they get them from Django here,
# where a real site would have them from its web server.
application = ASGIStaticFilesHandler(get_asgi_application())  # type: ignore[arg-type] # any ASGI
