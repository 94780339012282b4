import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panther_channels._socket.request import Headers, query_params

HEADERS = Headers(
    [
        (b"Host", b"testserver"),
        (b"User-Agent", b"tests"),
        (b"x-forwarded-for", b"1.1.1.1"),
        (b"X-Forwarded-For", b"2.2.2.2"),
        (b"cookie", b"a=1; b=2"),
        (b"Cookie", b"c=x=y"),
        (b"authorization", b"Bearer secret-token"),
        (b"sec-websocket-protocol", b"secret-protocol"),
        (b"x-name", "é".encode()),
        (b"x-latin", "é".encode("latin-1")),
        (b"x-empty", b""),
    ]
)


def test_repeated_headers_are_joined():
    assert HEADERS.x_forwarded_for == "1.1.1.1,2.2.2.2"
    assert HEADERS.cookie == "a=1; b=2; c=x=y"
    assert list(HEADERS).count("x-forwarded-for") == 1
    assert len(HEADERS) == len(list(HEADERS)) == 9


def test_values_are_utf_8_or_latin_1():
    assert HEADERS.x_name == HEADERS.x_latin == "é"


def test_special_names_are_no_headers():
    with pytest.raises(AttributeError):
        _ = HEADERS.__html__
    for copied in (copy.copy(HEADERS), pickle.loads(pickle.dumps(HEADERS))):
        assert copied.host == "testserver"


def test_the_repr_hides_secrets():
    assert "testserver" in repr(HEADERS)
    assert "secret" not in repr(HEADERS)
    assert "a=1" not in repr(HEADERS)


@given(st.lists(st.tuples(st.binary(), st.binary())), st.binary(), st.binary())
def test_no_bytes_raise(pairs: list[tuple[bytes, bytes]], cookie: bytes, query: bytes):
    headers = Headers([*pairs, (b"cookie", cookie)])
    for name in headers:
        assert isinstance(name, str)
        assert isinstance(headers[name], str | None)
        assert name in repr(headers)
    for mapping in (headers.get_cookies(), query_params(query)):
        assert all(isinstance(item, str) for pair in mapping.items() for item in pair)
