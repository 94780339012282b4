import sys
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import override_settings
from django.urls import Resolver404
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import APIException

from panther_channels._socket.closing import Ending, IllegalStateError, ending_for
from panther_channels._socket.state import Socket, State
from panther_channels.exceptions import (
    AuthenticationAPIError,
    AuthorizationAPIError,
    BaseError,
    WebsocketError,
)


class GoneError(BaseError, Http404):
    detail, status_code = "gone", 4004


class OddError(APIException):
    status_code = "404"


#: error; close code and reason; HTTP status and detail
ENDINGS: list[tuple[BaseException, tuple[int, str, int, Any]]] = [
    (ValueError("x"), (1011, "", 403, "Permission Denied")),
    (IllegalStateError("x"), (1011, "", 403, "Permission Denied")),
    (AuthorizationAPIError(), (1008, "Permission Denied", 403, "Permission Denied")),
    (AuthenticationAPIError("who?"), (1008, "who?", 401, "who?")),
    (BaseError(), (1011, "Internal Server Error", 403, "Internal Server Error")),
    (WebsocketError("x"), (1011, "x", 403, "x")),
    (WebsocketError("x", 4001), (4001, "x", 403, "x")),
    (WebsocketError("x", 1005), (1011, "x", 403, "x")),
    (WebsocketError("x", "4001"), (1011, "", 403, "Permission Denied")),  # type: ignore[arg-type]
    (WebsocketError("é" * 62, 4001), (4001, "é" * 61, 403, "é" * 62)),
    (WebsocketError("\ud800", 4001), (4001, "?", 403, "\ud800")),
    (BaseError({"a": 1}, 3000), (3000, '{"a": 1}', 403, {"a": 1})),
    (BaseError([gettext_lazy("é")], 3000), (3000, '["é"]', 403, [gettext_lazy("é")])),
    (GoneError(), (4004, "gone", 403, "gone")),  # the nearer one of its bases
    (Http404("inner"), (1008, "Not Found", 404, "Not Found")),
    (OddError(), (1011, "", 403, "Permission Denied")),
]


@pytest.mark.parametrize(("error", "expected"), ENDINGS)
def test_ending(error: BaseException, expected: tuple[int, str, int, Any]):
    assert ending_for(error) == expected


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (Http404("No book."), "No book."),
        (Http404(), "Not Found"),
        (Resolver404({"tried": ["inner"]}), "Not Found"),
        (PermissionDenied("inner"), "Permission Denied"),
    ],
)
def test_what_debug_shows(error: BaseException, detail: str):
    """No more than a page of Django's with DEBUG."""
    with override_settings(DEBUG=True):
        assert ending_for(error).detail == detail


def test_without_rest_framework(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "rest_framework.exceptions")
    assert ending_for(APIException()).code == 1011


def socket(*, offered: tuple[str, ...] = ()) -> tuple[Socket, list[dict[str, Any]]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    new = Socket("Any")
    new.scope = {"path": "/", "subprotocols": list(offered)}
    new.asgi_send = send
    return new, sent


@pytest.mark.parametrize(
    ("ending", "code", "reason"),
    [
        (Ending(), 4403, "Permission Denied"),
        (Ending(4010, "elsewhere"), 4010, "elsewhere"),
        (ending_for(ValueError("x")), 1011, ""),
    ],
)
async def test_a_refusal_with_a_close_code(ending: Ending, code: int, reason: str):
    refused, sent = socket(offered=("bearer", "token"))
    await refused.close(ending, with_code=True, subprotocol="bearer")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[0]["subprotocol"] == "bearer"
    assert (sent[1]["code"], sent[1]["reason"]) == (code, reason)
    assert refused.state is State.REJECTED
    assert not refused.was_accepted
