"""The ASGI application of a project with Channels alone, and its URLs."""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.faults.plain.settings")

django_application = get_asgi_application()

# Only now may models be imported.
from tests.faults.plain import consumers  # noqa: E402

urlpatterns = [path("", lambda request: HttpResponse("plain Channels"))]

websocket_urls: dict[str, Any] = {
    "ws/echo": consumers.Echo,
    "ws/id": consumers.Id,
    "ws/coded": consumers.Id,
    "ws/obey": consumers.Id,
    "ws/tasks": consumers.Tasks,
    "ws/describe/<int:number>/<word>": consumers.Echo,
    "ws/reject-with-code": consumers.RejectWithCode,
    "ws/asking": consumers.Asking,
    "push": consumers.Push,
    "slow": consumers.Slow,
    "count": consumers.Count,
    "id": consumers.Id,
    "hooks": consumers.Id,
    "auth": consumers.SlowConnect,
    "permission": consumers.SlowConnect,
    "connect": consumers.SlowConnect,
    "code": consumers.SlowConnect,
    "after": consumers.SlowAfterAccept,
    "receive": consumers.SlowReceive,
    "disconnect": consumers.SlowDisconnect,
    "stubborn": consumers.Stubborn,
    "blocking": consumers.Blocking,
    "working": consumers.Working,
}

router = URLRouter([path(url, consumer.as_asgi()) for url, consumer in websocket_urls.items()])
application = ProtocolTypeRouter({"http": django_application, "websocket": router})
