import copy
import pickle

import pytest

from panther_channels.exceptions import (
    AuthenticationAPIError,
    AuthorizationAPIError,
    BaseError,
    ConnectionNotFoundError,
    DeliveryTimeoutError,
    InvalidPathVariableAPIError,
    PantherChannelsError,
    ThrottlingAPIError,
    WebsocketError,
)

CODES = [
    (BaseError, 500),
    (WebsocketError, 1011),
    (AuthenticationAPIError, 401),
    (AuthorizationAPIError, 403),
    (ThrottlingAPIError, 429),
]


@pytest.mark.parametrize(("kind", "code"), CODES)
def test_detail_and_status_code(kind: type[BaseError], code: int):
    error = kind()
    assert (error.status_code, error.detail, str(error)) == (code, kind.detail, kind.detail)
    assert isinstance(error, PantherChannelsError)
    error = kind("no", 4001)
    assert (error.detail, error.status_code, str(error)) == ("no", 4001, "no")
    # The defaults stay those of the class.
    assert (kind.status_code, kind("no").status_code) == (code, code)


def test_errors_with_data_of_their_own():
    error = InvalidPathVariableAPIError("x", int)
    assert (str(error), error.status_code) == ("Path variable `x` is not `int`", 400)
    assert "`int | str`" in str(InvalidPathVariableAPIError("x", int | str))
    missing = ConnectionNotFoundError("abc")
    assert missing.connection_id == "abc"
    assert str(missing) == "No open connection has the id 'abc'."


@pytest.mark.parametrize(
    ("error", "text"),
    [
        # Nothing was to be taken, where it was only asked who is there.
        (DeliveryTimeoutError(0.5, missing=["0a0b0c0d"]), "no answer came from 0a0b0c0d."),
        (
            DeliveryTimeoutError(0.5, missing=["0a0b0c0d", "?"]),
            "no answer came from 0a0b0c0d, an unnamed process.",
        ),
        (DeliveryTimeoutError(0.5, 0, 1), "0 connections took it, 1 has yet to."),
        (
            DeliveryTimeoutError(0.5, 1, 2, ["?"]),
            "1 connection took it, 2 have yet to, and no answer came from an unnamed process.",
        ),
    ],
)
def test_who_has_not_confirmed(error: DeliveryTimeoutError, text: str):
    assert str(error) == f"Within 0.5 s, {text}"


@pytest.mark.parametrize(
    "error",
    [
        BaseError("no", 4001),
        WebsocketError(),
        ConnectionNotFoundError("abc"),
        DeliveryTimeoutError(1, 2, 3, ["0a0b0c0d"]),
        InvalidPathVariableAPIError("x", int),
    ],
)
@pytest.mark.parametrize("clone", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_copied_and_pickled_it_stays_the_same(error: PantherChannelsError, clone):
    other = clone(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))
