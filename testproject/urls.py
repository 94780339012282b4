"""URLs of the demo site, HTTP and WebSocket."""

from django.contrib.auth.views import LogoutView
from django.urls import path, register_converter
from django.urls.converters import SlugConverter
from django.views.generic import TemplateView

from testproject import views, websockets


class RoomNameConverter(SlugConverter):
    """A slug that is short enough for the name of a group (100 characters at most)."""

    regex = f"[-a-zA-Z0-9_]{{1,{views.MAX_ROOM_NAME}}}"


register_converter(RoomNameConverter, "room")

urlpatterns = [
    path("", TemplateView.as_view(template_name="testproject/echo.html"), name="echo"),
    path("connection/", views.ConnectionView.as_view(), name="connection"),
    path("rooms/", views.RoomsView.as_view(), name="rooms"),
    path("rooms/<room:name>/", views.RoomView.as_view(), name="room"),
    path("private/", views.PrivateView.as_view(), name="private"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]

websocket_urls = {
    "ws": websockets.Echo,
    "ws/connection": websockets.ShowId,
    "ws/rooms/<room:name>": websockets.Room,
    "ws/private": websockets.Private,
}
