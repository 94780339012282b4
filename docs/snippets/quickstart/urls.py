from django.contrib import admin
from django.urls import path

from .websockets import Echo

urlpatterns = [
    path("admin/", admin.site.urls),
]

websocket_urls = {
    "ws": {
        "echo": Echo,
    },
}
