"""URLs of the project: the admin, a page that opens a socket, and the WebSockets by carrier."""

from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from panther_channels import sync, websocket
from tests.integration.access import websockets

PAGE = """<!doctype html><title>page</title><p id="state">nothing</p>
<script>
  const show = (text) => document.querySelector("#state").textContent = text;
  const wanted = new URLSearchParams(location.hash.slice(1));  // a fragment stays in the browser
  const socket = new WebSocket(wanted.get("url"), wanted.getAll("protocol"));
  let heard = "";
  socket.onmessage = (event) => show(heard = `user ${JSON.parse(event.data).user}`);
  socket.onclose = (event) => show(`${heard} closed ${event.code} ${event.reason}`.trim());
</script>"""


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE)


def close_my_websockets(request: HttpRequest) -> HttpResponse:
    sync.close_user_websockets(request.user, 4100, "log in again")
    return HttpResponse("closed")


def close_my_websockets_after_a_look(request: HttpRequest) -> HttpResponse:
    name = request.user.get_username()
    sync.close_user_websockets(request.user, 4100, "log in again")
    return HttpResponse(name)


async def close_my_websockets_async(request: HttpRequest) -> HttpResponse:
    await websocket.close_user_websockets(await request.auser(), 4100, "log in again")
    return HttpResponse("closed")


def go(request: HttpRequest, name: str, how: str) -> HttpResponse:
    """A user goes, and the project has something else to do after the commit."""
    done: list[str] = []
    with transaction.atomic():
        user = User.objects.get(username=name)
        user.is_active = False
        user.save() if how == "deactivate" else user.delete()
        transaction.on_commit(lambda: done.append("later"))
    User.objects.create(username=f"new, not {name} {how}", is_active=False)
    return HttpResponse(" ".join(done))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("page/", page),
    path("cookies/", lambda request: JsonResponse(request.COOKIES)),
    path("close/", close_my_websockets),
    path("close-seen/", close_my_websockets_after_a_look),
    path("close-async/", close_my_websockets_async),
    path("go/<name>/<how>/", go),
]

websocket_urls = {"ws": websockets.by_name}
