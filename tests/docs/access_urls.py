"""URLs of the documentation's pages on access, and a way to log in and out without a form."""

from importlib import import_module

from django.contrib.auth import get_user_model, login, logout
from django.http import HttpRequest, HttpResponse
from django.urls import path

# Not by import statements, since the snippets are written without types.
access, expiry, refusals, token_urls = (
    import_module(f"docs.snippets.{name}")
    for name in ("access", "expiry", "refusals", "token_urls")
)


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<!doctype html><title>a page</title>")


def enter(request: HttpRequest) -> HttpResponse:
    login(request, get_user_model().objects.get(username="ann"))
    return index(request)


def leave(request: HttpRequest) -> HttpResponse:
    logout(request)
    return index(request)


urlpatterns = [
    path("", index),
    path("enter/", enter),
    path("leave/", leave),
    *token_urls.urlpatterns,
]

websocket_urls = {
    "ws": {
        **access.websocket_urls["ws"],
        **expiry.websocket_urls["ws"],
        **refusals.websocket_urls["ws"],
    }
}
