"""URLs of the test project, HTTP and WebSocket."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from panther_channels.sync import send_message_to_websocket
from tests.project import websockets


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("the test project")


def tell(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Sends what the query says, in the thread in which a server runs synchronous views."""
    for text in request.GET.getlist("text"):
        send_message_to_websocket(connection_id, text)
    return HttpResponse("told")


urlpatterns = [path("", index), path("tell/<connection_id>/", tell)]

websocket_urls = {
    "ws": {
        "echo": websockets.Echo,
        "id": websockets.Identify,
        "coded": websockets.Coded,
        "member": websockets.Member,
        "present": websockets.Present,
        "noting": websockets.Noting,
        "relay": websockets.Relay,
        "tasks": websockets.Tasks,
        "frozen": websockets.Frozen,
        "reject": websockets.Reject,
        "reject-with-code": websockets.RejectWithCode,
        "raise/<hook>": websockets.RaiseIn,
        "describe/<number>/<word>": websockets.Describe,
        "price/<amount>": websockets.Price,
        "files/<path:name>": websockets.Files,
        "compare/<path:name>/<path:other>": websockets.Files,
    }
}
