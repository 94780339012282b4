"""The pages of the demo site; what happens on their WebSockets is in websockets.py."""

import os
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib.auth import get_user_model, views
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.generic import TemplateView, View

MAX_ROOM_NAME = 40
MAX_NAME = 40


class ConnectionView(TemplateView):
    """Shows the id of its connection, and how to reach it from a shell."""

    template_name = "testproject/connection.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        redis_url = os.environ.get("REDIS_URL", "")
        # A password in the URL is nothing for a page.
        redis_url = "redis://…" if "@" in redis_url else redis_url
        return super().get_context_data(redis_url=redis_url, **kwargs)


class RoomForm(forms.Form):
    """Which room to enter, and by what name."""

    room = forms.SlugField(max_length=MAX_ROOM_NAME, initial="lobby")
    name = forms.CharField(max_length=MAX_NAME, label="Your name")


class RoomsView(View):
    """The door to the rooms."""

    def get(self, request: HttpRequest) -> HttpResponse:
        form = RoomForm(request.GET or None)
        if not form.is_valid():
            return render(request, "testproject/rooms.html", {"form": form})
        room = reverse("room", kwargs={"name": form.cleaned_data["room"]})
        return redirect(f"{room}?{urlencode({'name': form.cleaned_data['name']})}")


class RoomView(TemplateView):
    """One room."""

    template_name = "testproject/room.html"


class PrivateView(TemplateView):
    """A page whose connection is for users only."""

    template_name = "testproject/private.html"


class LoginView(views.LoginView):
    """The login, which tells of the demo user where there is one."""

    template_name = "testproject/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        users = get_user_model().objects.filter(username="demo", is_active=True)
        has_demo_user = settings.DEBUG and users.exists()
        return super().get_context_data(has_demo_user=has_demo_user, **kwargs)
