import enum
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from panther_channels._handshake.parameters import parameters
from panther_channels.exceptions import InvalidPathVariableAPIError
from panther_channels.websocket import GenericWebsocket
from tests.names import name_of
from tests.unit import postponed_annotations

UUID_1 = "00000000-0000-0000-0000-000000000001"


class Colour(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias
    NUMBER = 7


def taking(annotation: Any) -> Any:
    """A class whose connect() takes `value`, so annotated."""

    class Taking(GenericWebsocket):
        async def connect(self, value):
            pass

    Taking.connect.__annotations__["value"] = annotation
    return Taking


def bind(consumer: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    return parameters(consumer).bind(variables, consumer())


# What is common is in tests/contracts, where Panther is asked.
GOOD: list[tuple[Any, str, Any]] = [
    (Decimal, "1e400", Decimal("1e400")),
    (Decimal, "-1E+4299", Decimal("-1e4299")),
    (Decimal, "1e-4299", Decimal("1e-4299")),
    (Decimal, "9" * 4300, Decimal("9" * 4300)),
    (Decimal, "-0", Decimal("-0")),
    (Decimal, "1_000", Decimal(1000)),
    (Decimal, "٣", Decimal(3)),
    (int, "9" * 4300, 10**4300 - 1),
    (float, "0." + "0" * 4000 + "1", 0.0),
    (Colour, "7", Colour.NUMBER),
    (Literal["a", 5], "5", 5),
    (None | int, "5", 5),
    (Annotated[int, "a number"], "5", 5),
    (int | str, "5", "5"),
    (list[int], "5", "5"),
    (dict, "5", "5"),
    ("int", "5", 5),
    ("Colour", "red", Colour.RED),
]
BAD: list[tuple[Any, str]] = [
    (int, "9" * 5000),
    (float, "nan"),
    (float, "inf"),
    (float, "1e999"),
    (Decimal, "NaN"),
    (Decimal, "sNaN"),
    (Decimal, "-Infinity"),
    # As many digits, written out, as int() refuses.
    (Decimal, "1e4300"),
    (Decimal, "-1e4000000"),
    (Decimal, "1e-4300"),
    (Decimal, "1e-4000000"),
    (Decimal, "0e4300"),
    (Decimal, "0e-999999"),
    (Decimal, "1e99999999999999999999"),
    (Decimal, "9" * 4301),
    (Decimal, "9" * 4299 + ".99"),
    (float, "-1e4000000"),
    (date, "2024-05-06" + "0" * 4300),
    (UUID, "1" * 4300),
    (date, "2024-13-01"),
    (Colour, "RED"),
    (int | None, ""),
]
ids = [f"{annotation!s:.40}-{value[:20]}" for annotation, value, _ in GOOD]


@pytest.mark.parametrize(("annotation", "value", "expected"), GOOD, ids=ids)
def test_casts(annotation: Any, value: str, expected: Any):
    got = bind(taking(annotation), {"value": value})["value"]
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(("annotation", "value"), BAD, ids=[f"{a!s:.40}-{v[:20]}" for a, v in BAD])
def test_what_does_not_fit_is_refused(annotation: Any, value: str):
    with pytest.raises(InvalidPathVariableAPIError) as caught:
        bind(taking(annotation), {"value": value})
    assert f"`{value}`" in str(caught.value)


@given(
    annotation=st.sampled_from([int, float, bool, UUID, Decimal, date, datetime, Colour]),
    value=st.text(),
)
def test_any_text_is_cast_or_refused(annotation: Any, value: str):
    try:
        got = bind(taking(annotation), {"value": value})["value"]
    except InvalidPathVariableAPIError:
        return
    assert isinstance(got, annotation)


@pytest.mark.parametrize("annotation", [[int], {"help": "a room"}, 5, "1 + 1"], ids=name_of)
def test_an_annotation_that_is_no_type_is_no_crash(annotation: Any):
    with suppress(ImproperlyConfigured):  # or else it is taken for one without a cast
        assert bind(taking(annotation), {"value": "5"}) == {"value": "5"}


def test_what_a_converter_has_cast_stays():
    assert bind(taking(str), {"value": 5}) == {"value": 5}
    assert bind(taking(int), {"value": 5}) == {"value": 5}
    assert bind(taking(UUID), {"value": UUID(int=1)}) == {"value": UUID(int=1)}


def test_nothing_annotated():
    class Plain(GenericWebsocket):
        async def connect(self, a, b=2, *, c):
            pass

    assert bind(Plain, {"a": "1", "c": "3"}) == {"a": "1", "c": "3"}
    with pytest.raises(ImproperlyConfigured, match="<c>"):
        parameters(Plain).check(["a"])


def test_a_variable_that_connect_does_not_take_names_it_and_the_fix():
    consumer = taking(int)
    with pytest.raises(ImproperlyConfigured) as caught:
        parameters(consumer).check(["value", "word"])
    for text in ("<word>", "Taking.connect()", "**kwargs"):
        assert text in str(caught.value)


def test_a_parameter_that_the_url_does_not_give():
    with pytest.raises(ImproperlyConfigured, match=r"no variable <value>.*Taking.connect\(\)"):
        parameters(taking(int)).check([])


def test_self_is_no_variable():
    class Any_(GenericWebsocket):  # noqa: N801
        async def connect(self, **kwargs):
            pass

    # connect(self=...) would be a TypeError at every handshake.
    with pytest.raises(ImproperlyConfigured, match="<self>"):
        parameters(Any_).check(["self"])


def test_a_decorated_connect():
    class Decorated(GenericWebsocket):
        @postponed_annotations.decorated
        async def connect(self, number: "Colour"):
            pass

    assert bind(Decorated, {"number": "red"}) == {"number": Colour.RED}


def test_a_name_for_type_checkers_only_is_named():
    with pytest.raises(ImproperlyConfigured) as caught:
        parameters(postponed_annotations.Unresolvable)
    for text in ("Unresolvable.connect()", "`amount`", "'OnlyForTypes'", "TYPE_CHECKING"):
        assert text in str(caught.value)
