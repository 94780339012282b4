"""URLs of the documentation's pages on access, and a way to log in and out without a form."""

from django.contrib.auth import get_user_model, login, logout
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.pages import module

access, reasons, expiry = (
    module(f"howto/{name}")
    for name in ("authentication-and-permissions", "accept-and-reject", "tokens-that-expire")
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
    *access.urlpatterns,
]

websocket_urls = {
    "ws": {
        "account": access.Account,
        "inbox": access.Inbox,
        "feed": access.Feed,
        "metrics": access.Metrics,
        "machine": access.Machine,
        "editor": access.Editor,
        "pages/<username>": access.Page,
        "explained": reasons.Explained,
        "full": reasons.Full,
        "prices": expiry.Prices,
    }
}
