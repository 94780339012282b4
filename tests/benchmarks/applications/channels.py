"""Channels as its documentation shows it, with a group per connection where there is a layer."""

import os
from typing import Any
from uuid import uuid4

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()


class Echo(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        if self.channel_layer is not None:
            self.id = uuid4().hex
            await self.channel_layer.group_add(f"client.{self.id}", self.channel_name)
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)

    async def disconnect(self, code: int) -> None:
        if self.channel_layer is not None:
            await self.channel_layer.group_discard(f"client.{self.id}", self.channel_name)


class Outside(Echo):
    async def connect(self) -> None:
        await super().connect()
        await self.send(text_data=f"{os.getpid()} {self.id}")

    async def outside_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter([path("ws", Echo.as_asgi()), path("outside", Outside.as_asgi())]),
    }
)
