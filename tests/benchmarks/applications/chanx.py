"""The echo of chanx on Channels: each message is JSON, and validated in both directions."""

from typing import Literal

from channels.routing import ProtocolTypeRouter, URLRouter
from chanx.channels.websocket import AsyncJsonWebsocketConsumer
from chanx.core.decorators import channel, ws_handler
from chanx.messages.base import BaseMessage
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()


class Message(BaseMessage):
    action: Literal["echo"] = "echo"
    payload: str


class Answer(BaseMessage):
    action: Literal["answer"] = "answer"
    payload: str


@channel(name="echo")
class Echo(AsyncJsonWebsocketConsumer):
    send_authentication_message = False

    @ws_handler(output_type=Answer)
    async def echo(self, message: Message) -> Answer:
        return Answer(payload=message.payload)


application = ProtocolTypeRouter(
    {"http": django_application, "websocket": URLRouter([path("ws", Echo.as_asgi())])}
)
