from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

from panther_channels.routing import build_url_patterns
from panther_channels.websocket import GenericWebsocket

django_application = get_asgi_application()


class Hello(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send("hello")


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter(build_url_patterns({"ws/hello": Hello})),
    }
)
