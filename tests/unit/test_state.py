from typing import Any

import pytest

from panther_channels._state import OPEN, GoneError, IllegalStateError, State, verdict
from panther_channels.exceptions import AuthorizationAPIError, BaseError, WebsocketError


def test_the_words_are_panthers():
    assert [state.value for state in State] == ["Connected", "Accepted", "Closed", "Rejected"]
    assert OPEN is State.OPEN


def test_users_catch_both_errors_as_websocket_error():
    assert issubclass(GoneError, IllegalStateError)
    assert issubclass(IllegalStateError, WebsocketError)
    assert str(IllegalStateError("too early")) == "too early"


#: error, state; code, reason, whether it was meant
VERDICTS: list[tuple[BaseException, State, int, str, bool]] = [
    (ValueError("x"), State.CONNECTING, 1011, "", False),
    (ValueError("x"), State.OPEN, 1011, "", False),
    (IllegalStateError("x"), State.CONNECTING, 1011, "", False),
    (IllegalStateError("x"), State.OPEN, 1011, "", False),
    (AuthorizationAPIError(), State.CONNECTING, 1011, "Permission Denied", True),
    (AuthorizationAPIError(), State.REJECTED, 1011, "Permission Denied", True),
    (AuthorizationAPIError(), State.OPEN, 1011, "Permission Denied", False),
    (WebsocketError("x"), State.CONNECTING, 1011, "x", True),
    (WebsocketError("x"), State.OPEN, 1011, "x", False),
    (WebsocketError("x", 4001), State.OPEN, 4001, "x", True),
    (WebsocketError("x", 4001), State.CLOSED, 4001, "x", False),
    (WebsocketError("x", 1005), State.OPEN, 1011, "x", False),
    (WebsocketError("é" * 62, 4001), State.OPEN, 4001, "é" * 61, True),
    (WebsocketError("\ud800", 4001), State.OPEN, 4001, "?", True),
    (BaseError({"a": 1}, 3000), State.OPEN, 3000, "{'a': 1}", True),
]


@pytest.mark.parametrize(("error", "state", "code", "reason", "is_meant"), VERDICTS)
def test_verdict(error: BaseException, state: State, code: int, reason: str, is_meant: bool):
    assert verdict(error, state) == (code, reason, is_meant)


@pytest.mark.parametrize("code", ["4001", None, 4001.0])
def test_a_status_code_that_is_no_number(code: Any):
    error = WebsocketError("x")
    error.status_code = code
    assert verdict(error, State.OPEN)[0] == 1011
