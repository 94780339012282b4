from panther_channels._state import OPEN, GoneError, IllegalStateError, State
from panther_channels.exceptions import WebsocketError


def test_the_words_are_panthers():
    assert [state.value for state in State] == ["Connected", "Accepted", "Closed", "Rejected"]
    assert OPEN is State.OPEN


def test_users_catch_both_errors_as_websocket_error():
    assert issubclass(GoneError, IllegalStateError)
    assert issubclass(IllegalStateError, WebsocketError)
    assert str(IllegalStateError("too early")) == "too early"
