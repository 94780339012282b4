"""Channels as its documentation shows it, with a group per connection where there is a layer."""

from uuid import uuid4

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()


class Echo(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        if self.channel_layer is not None:
            self.group = f"connection.{uuid4().hex}"
            await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)

    async def disconnect(self, code: int) -> None:
        if self.channel_layer is not None:
            await self.channel_layer.group_discard(self.group, self.channel_name)


application = ProtocolTypeRouter(
    {"http": django_application, "websocket": URLRouter([path("ws", Echo.as_asgi())])}
)
