"""URLs of the test project, HTTP and WebSocket."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.project import websockets


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the test project")


urlpatterns = [path("", index)]

websocket_urls = {
    "ws": {
        "echo": websockets.Echo,
        "id": websockets.Identify,
        "obey": websockets.Obey,
        "late": websockets.Late,
        "relay": websockets.Relay,
        "failing": websockets.Failing,
        "steps": websockets.Steps,
        "reject": websockets.Reject,
        "reject-with-code": websockets.RejectWithCode,
        "raise/<hook>": websockets.RaiseIn,
        "describe/<number>/<word>": websockets.Describe,
    }
}
