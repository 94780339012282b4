"""The bytes of an answer; tests/integration/test_daphne_mends.py has them on the wire."""

from typing import Any

import pytest

from panther_channels.servers._answers import Denial, header_values


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        ([], {}),
        ([(b"x-a", b"1"), [b"x-b", b""]], {"x-a": ["1"], "x-b": [""]}),
        (((b"a", b"1"), (b"b", b"2"), (b"a", b"3")), {"a": ["1", "3"], "b": ["2"]}),
        ([(b"a", b"tab\there")], {"a": ["tab\there"]}),
        ([(b"a", "é".encode())], {"a": ["é"]}),
    ],
)
def test_header_values(headers: Any, values: dict[str, list[str]]):
    assert header_values(headers) == values


@pytest.mark.parametrize(
    "header",
    [
        (b"", b"1"),
        (b"a b", b"1"),
        (b"a:", b"1"),
        ("é".encode(), b"1"),
        (b"a", b"1\r\nb: 2"),
        (b"a", b"1\nb: 2"),
        (b"a", b"\x00"),
        (b"a", b"\xff"),
        (b"Sec-WebSocket-Protocol", b"chat"),
    ],
)
def test_header_that_cannot_be_sent(header: tuple[bytes, bytes]):
    with pytest.raises(ValueError, match=r"header|utf-8"):
        header_values([(b"x-good", b"1"), header])


@pytest.mark.parametrize("header", [("a", b"1"), (b"a", "1")])
def test_header_that_is_not_bytes(header: Any):
    with pytest.raises(TypeError):
        header_values([header])


@pytest.mark.parametrize("code", [199, 600, "403", None])
def test_a_denial_has_a_status(code: object):
    with pytest.raises(ValueError, match="is no status from 200 to 599"):
        Denial(code, [])


def test_the_bytes_of_a_denial():
    denial = Denial(403, [(b"X-A", b"1"), (b"Connection", b"keep-alive")])
    denial.body += b"no"
    assert bytes(denial) == (
        b"HTTP/1.1 403 Forbidden\r\nX-A: 1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
    )
    denial = Denial(403, [(b"content-length", b"5")])
    assert bytes(denial).count(b"ength: ") == 1
