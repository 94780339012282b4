"""URLs of the documentation's live pages, which are printed there, and a way to log in."""

from django.contrib.auth import login
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.pages import block, module

NAMES = ("notify-a-user", "chat", "live-dashboard", "presence", "who-is-connected")


def enter(request: HttpRequest, name: str) -> HttpResponse:
    login(request, User.objects.get(username=name))
    return HttpResponse("<!doctype html><title>entered</title>")


@transaction.atomic
def promote(request: HttpRequest, name: str) -> HttpResponse:
    group, _ = Group.objects.get_or_create(name="editors")
    User.objects.get(username=name).groups.set([])
    User.objects.get(username=name).groups.add(group)
    return HttpResponse("<!doctype html><title>promoted</title>")


def script(request: HttpRequest) -> HttpResponse:
    text = block("howto/notify-a-user", "export function live")
    return HttpResponse(text, content_type="text/javascript")


def page(request: HttpRequest, name: str) -> HttpResponse:
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
    return HttpResponse(f"{head}<title>{name}</title>{block(f'howto/{name}', '<script')}")


urlpatterns = [
    path("enter/<name>/", enter),
    path("promote/<name>/", promote),
    path("static/live.js", script),
    path("<name>/", page),
]
websocket_urls = {
    url: handler
    for name in NAMES
    for url, handler in module(f"howto/{name}").websocket_urls.items()
}
