"""URLs of the demo site, HTTP and WebSocket."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import path, register_converter
from django.urls.converters import SlugConverter
from django.views.generic import TemplateView

from testproject import views, websockets
from testproject.admin import NotificationAdmin
from testproject.models import MAX_ROOM_NAME


class RoomNameConverter(SlugConverter):
    """A slug of a length that the database takes."""

    regex = f"[-a-zA-Z0-9_]{{1,{MAX_ROOM_NAME}}}"


register_converter(RoomNameConverter, "room")

PAGES: dict[str, tuple[type | str, ...]] = {
    "echo": (websockets.Echo, "echo.js"),
    "connection": (websockets.ShowId, "connection.js"),
    "rooms": (websockets.Room, "room.js"),
    "notifications": (websockets.Notifications, "notifications.js", NotificationAdmin),
    "staff": (websockets.Staff, "staff.js"),
    "private": (websockets.Private, "private.js"),
}

urlpatterns = [
    path("", TemplateView.as_view(template_name="testproject/echo.html"), name="echo"),
    path("connection/", views.ConnectionView.as_view(), name="connection"),
    path("rooms/", views.RoomsView.as_view(), name="rooms"),
    path("rooms/<room:name>/", views.RoomView.as_view(), name="room"),
    path("notifications/", views.NotificationsView.as_view(), name="notifications"),
    path("staff/", views.StaffView.as_view(), name="staff"),
    path("private/", views.PrivateView.as_view(), name="private"),
    path("code/<page>/", views.CodeView.as_view(), {"pages": PAGES}, name="code"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]

websocket_urls = {
    "ws": websockets.Echo,
    "ws/connection": websockets.ShowId,
    "ws/rooms/<room:name>": websockets.Room,
    "ws/notifications": websockets.Notifications,
    "ws/staff": websockets.Staff,
    "ws/private": websockets.Private,
}
