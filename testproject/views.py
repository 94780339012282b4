"""The pages of the demo site; what happens on their WebSockets is in websockets.py."""

import inspect
import os
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model, views
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.generic import TemplateView, View

from testproject.models import MAX_ROOM_NAME

STATIC = Path(__file__).parent / "static" / "testproject"

DEMO_USERS = ("demo", "ada", "staff")


class ConnectionView(TemplateView):
    """Shows the id of its connection, and how to reach it from a shell."""

    template_name = "testproject/connection.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        redis_url = os.environ.get("REDIS_URL", "")
        # A password in the URL is nothing for a page.
        redis_url = "redis://…" if "@" in redis_url else redis_url
        return super().get_context_data(redis_url=redis_url, **kwargs)


class RoomForm(forms.Form):
    """Which room to enter."""

    room = forms.SlugField(max_length=MAX_ROOM_NAME, initial="lobby")


class RoomsView(LoginRequiredMixin, View):
    """The door to the rooms."""

    def get(self, request: HttpRequest) -> HttpResponse:
        form = RoomForm(request.GET or None)
        if not form.is_valid():
            return render(request, "testproject/rooms.html", {"form": form})
        return redirect("room", name=form.cleaned_data["room"])


class RoomView(LoginRequiredMixin, TemplateView):
    """One room."""

    template_name = "testproject/room.html"


class NotificationsView(LoginRequiredMixin, TemplateView):
    """A user's notifications."""

    template_name = "testproject/notifications.html"


class StaffView(TemplateView):
    """What is connected; its WebSocket is for staff only."""

    template_name = "testproject/staff.html"


class CodeView(View):
    """What a page is made of, for those who came to see how it is done."""

    def get(
        self, request: HttpRequest, page: str, pages: dict[str, tuple[type | str, ...]]
    ) -> HttpResponse:
        if page not in pages:
            raise Http404
        files = [self.file(part) for part in (*pages[page], "socket.js")]
        return render(request, "testproject/code.html", {"page": page, "files": files})

    @staticmethod
    def file(part: type | str) -> tuple[str, str]:
        """The name of a file, and what stands in it: a script, or a class of Python."""
        if isinstance(part, str):
            return f"static/testproject/{part}", (STATIC / part).read_text()
        return f"{part.__module__.replace('.', '/')}.py", inspect.getsource(part)


class PrivateView(TemplateView):
    """A page whose connection is for users only."""

    template_name = "testproject/private.html"


class LoginView(views.LoginView):
    """The login, which tells of the demo users where there are some."""

    template_name = "testproject/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        users = get_user_model().objects.filter(username__in=DEMO_USERS, is_active=True)
        names = [user.get_username() for user in users] if settings.DEBUG else []
        return super().get_context_data(demo_users=names, **kwargs)
