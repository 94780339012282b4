"""URLs of the site that the deployment tests serve."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.integration.deployed import websockets


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("secure" if request.is_secure() else "insecure")


urlpatterns = [path("", index)]

websocket_urls = {
    "ws": {
        "door": websockets.Door,
        "private": websockets.Private,
        "shut": websockets.Shut,
    }
}
