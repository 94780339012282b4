import datetime
import json
from decimal import Decimal
from typing import Any

import msgpack
import pytest
from django.utils.functional import lazystr
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy
from hypothesis import example, given
from hypothesis import strategies as st

from panther_channels._socket.encoding import JSONString, from_event, size_of, to_event, to_text
from panther_channels._socket.request import Address
from tests.names import name_of

# What is common is in tests/contracts, where Panther is asked.
JSON: list[tuple[Any, str]] = [
    (None, "null"),
    ({"a": [1, {"b": "é"}]}, '{"a":[1,{"b":"é"}]}'),
    (datetime.date(2024, 5, 6), '"2024-05-06"'),
    (datetime.timedelta(hours=1), '"P0DT01H00M00S"'),
    (Decimal("1.10"), '"1.10"'),
    ([lazystr("lazy")], '["lazy"]'),
    ({"client": Address("192.0.2.1", 5)}, '{"client":["192.0.2.1",5]}'),
    (JSONString("what was a date"), '"what was a date"'),
]
LAZY: list[tuple[Any, str]] = [
    (gettext_lazy("Yes"), "Yes"),
    (lazystr(""), ""),
    (format_lazy("{} {}", lazystr("é"), 5), "é 5"),
]
NOT_JSON: list[Any] = [object(), 1j, ["\ud800"]]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize(("value", "text"), JSON)
def test_json(value: Any, text: str):
    assert to_text(value) == text
    assert to_event(value) == {"json": text}
    # What an overridden send() hands on.
    carried = from_event(to_event(value))
    assert carried == json.loads(text)
    assert to_text(carried) == text


@pytest.mark.parametrize(("value", "text"), LAZY)
def test_a_lazy_string_is_text(value: Any, text: str):
    assert to_text(value) == text
    assert to_event(value) == {"text": text}
    assert type(to_event(value)["text"]) is str


@pytest.mark.parametrize("value", NOT_JSON, ids=name_of)
def test_what_is_not_json_fails_at_the_sender(value: Any):
    for encode in (to_event, to_text):
        with pytest.raises(TypeError):
            encode(value)


@given(values | st.binary())
@example("")
@example(b"")
@example(b"\x00\xff")
def test_a_value_comes_through_every_layer_as_it_was(value: Any):
    event = to_event(value)
    for copy in (event, json.loads(json.dumps(event)), msgpack.unpackb(msgpack.packb(event))):
        returned = from_event(copy)
        assert returned == value
        assert type(returned) is type(value)


@pytest.mark.parametrize(
    ("data", "size"), [("", 0), ("abc", 3), ("é€", 5), (b"\xff\x00", 2), ("\ud800", 3)]
)
def test_size(data: str | bytes, size: int):
    assert size_of(data) == size
