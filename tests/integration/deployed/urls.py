"""The site that the deployment tests serve."""

import os

from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse

from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.websocket import GenericWebsocket


class Door(GenericWebsocket):
    """Tells how it was reached, and then sends back what it gets."""

    async def connect(self):
        await self.accept()
        await self.send(
            {
                "id": self.connection_id,
                "pid": os.getpid(),
                "client": self.client.ip if self.client else None,
                "scheme": self.scheme,
                "root_path": self.scope.get("root_path", ""),
                "index": reverse(index),
            }
        )

    async def receive(self, data: str | bytes):
        await self.send(data)


async def nobody(connection):
    raise AuthenticationAPIError


class Private(Door):
    """For users only, of whom there are none."""

    auth = nobody


class Shut(GenericWebsocket):
    """Accepts nobody."""

    async def connect(self):
        await self.close(4003, "not you")


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("secure" if request.is_secure() else "insecure")


urlpatterns = [path("", index)]

websocket_urls = {"ws": {"door": Door, "private": Private, "shut": Shut}}
