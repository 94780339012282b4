import logging
from collections import OrderedDict
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from panther_channels import _origin
from panther_channels._origin import Origin, log_refusal, parse_origin, problem_with


def problem(
    origin: str | bytes | None,
    *,
    host: str | None = "testserver",
    scheme: str = "ws",
    further: dict[bytes, bytes] | None = None,
    **settings: Any,
) -> str | None:
    pairs = [] if host is None else [(b"host", host.encode())]
    pairs.extend((further or {}).items())
    if origin is not None:
        pairs.append((b"origin", origin if isinstance(origin, bytes) else origin.encode()))
    with override_settings(**settings):
        return problem_with(pairs, scheme)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://example.com", ("https", "example.com", 443)),
        ("http://example.com", ("http", "example.com", 80)),
        ("HTTPS://Example.COM.", ("https", "example.com", 443)),
        ("https://example.com:443", ("https", "example.com", 443)),
        ("https://example.com:8443", ("https", "example.com", 8443)),
        ("http://[::1]:81", ("http", "::1", 81)),
        ("chrome-extension://abc", ("chrome-extension", "abc", None)),
        *(
            (text, None)
            for text in (
                *("null", "", "example.com", "//example.com", "https://", "https:example.com"),
                *("file://", "http://[::1", "https://example.com:99999", "https://example.com:x"),
                *("https://example.com/", "https://example.com/path", "https://example.com?a"),
                *("https://user@example.com", "https://:x@example.com", "https://a.b, https://c.d"),
                *(
                    "https://example.com https://b",
                    "https://exa\tmple.com",
                    "https://ex\nample.com",
                ),
                *("https://.", "https://ⅷ.℀.com", "\udc80", "*"),
            )
        ),
    ],
)
def test_parsing(text: str, origin: tuple[str, str, int | None] | None):
    assert parse_origin(text) == (None if origin is None else Origin(*origin))


LISTED = [
    "https://example.com",
    "https://*.example.org:8443",
    "HTTP://Upper.Example",
    "http://[::1]",
]


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "https://example.com",
        "https://EXAMPLE.com:443",
        "https://a.example.org:8443",
        "https://a.b.example.org:8443",
        "http://upper.example",
        "http://[::1]:80",
    ],
)
def test_a_listed_origin(origin: str | None):
    assert problem(origin, WS_ALLOWED_ORIGINS=LISTED) is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com",
        "wss://example.com",
        "https://example.com:444",
        "https://a.example.com",
        "https://example.org:8443",
        "https://a.example.org",
        "http://a.example.org:8443",
        "https://evilexample.org:8443",
        "https://a.example.org:8443.evil.example",
        "http://testserver",
        "null",
        "",
        "http://[::1",
        "https://example.com:99999",
        b"\xff\xfe",
    ],
)
def test_an_origin_that_is_not_listed(origin: str | bytes):
    text = problem(origin, WS_ALLOWED_ORIGINS=LISTED)
    assert text is not None
    assert "origin" in text


def test_a_refusal_names_the_setting_to_change():
    assert problem("http://a.b", WS_ALLOWED_ORIGINS=LISTED) == (
        "the origin 'http://a.b' is not in WS_ALLOWED_ORIGINS: add it there"
    )
    assert "add it to WS_ALLOWED_ORIGINS" in str(problem("http://a.b"))
    assert "ALLOWED_HOSTS" in str(problem(None, host="evil.example"))


def test_an_empty_list_is_no_origin_at_all():
    assert problem("http://testserver", WS_ALLOWED_ORIGINS=[]) is not None
    assert problem(None, WS_ALLOWED_ORIGINS=[]) is None


def test_every_origin():
    for origin in ("https://evil.example", "null", "", "http://[::1", None):
        assert problem(origin, WS_ALLOWED_ORIGINS=["*"]) is None
    assert problem("http://testserver", host="evil.example", WS_ALLOWED_ORIGINS=["*"]) is not None


@pytest.mark.parametrize(
    ("origin", "hosts", "allowed"),
    [
        ("http://testserver", ["testserver"], True),
        ("https://testserver:8443", ["testserver"], False),
        ("http://TestServer.", ["testserver"], True),
        ("http://evil.example", ["testserver"], False),
        ("http://testserver.evil.example", ["testserver"], False),
        ("null", ["testserver"], False),
        ("https://a.testserver", ["testserver", ".testserver"], True),
        ("https://eviltestserver", ["testserver", ".testserver"], False),
        ("http://[::1]:8000", ["testserver", "[::1]"], True),
        # Any name may lead here, but a page of another one is another site all the same.
        ("http://testserver", ["*"], True),
        ("http://testserver:8000", ["*"], False),
        ("http://evil.example", ["*"], False),
        ("null", ["*"], False),
    ],
)
def test_by_allowed_hosts(origin: str, hosts: list[str], allowed: bool):
    assert (problem(origin, ALLOWED_HOSTS=hosts) is None) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://testserver:8000", "testserver:8000", True),
        ("http://testserver:8001", "testserver:8000", False),
        ("http://testserver", "testserver:8000", False),
        ("http://testserver", "testserver:80", True),
        ("https://testserver", "testserver:443", True),
        ("https://testserver:443", "TestServer:443", True),
        ("http://[::1]:81", "[::1]:82", False),
        ("http://[::1]:82", "[::1]:82", True),
        # Browsers leave out the usual port.
        ("https://testserver", "testserver", True),
        ("https://testserver:8443", "testserver", False),
        ("http://testserver:443", "testserver", False),
    ],
)
def test_another_port_is_another_site(origin: str, host: str, allowed: bool):
    found = problem(origin, host=host, ALLOWED_HOSTS=["testserver", "[::1]"])
    assert (found is None) is allowed
    assert allowed or "another port" in str(found)


PROXY = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}
HTTPS, HTTP = {b"x-forwarded-proto": b"https, http"}, {b"x-forwarded-proto": b"http"}


@pytest.mark.parametrize(
    ("origin", "options", "allowed"),
    [
        ("http://testserver", {}, True),
        ("http://testserver", {"scheme": "wss"}, False),
        ("http://testserver", {"scheme": "https"}, False),
        ("http://testserver:443", {"scheme": "wss", "host": "testserver:443"}, False),
        ("https://testserver", {"scheme": "wss"}, True),
        ("HTTPS://testserver", {"scheme": "wss"}, True),
        # Behind a proxy that takes TLS off, and doesn't say so.
        ("https://testserver", {}, True),
        # What Django believes of a proxy, and when it does.
        ("http://testserver", {"further": HTTPS, **PROXY}, False),
        ("https://testserver", {"further": HTTPS, **PROXY}, True),
        ("http://testserver", {"further": HTTPS}, True),
        ("http://testserver", {"further": HTTP, "scheme": "wss", **PROXY}, True),
        ("http://testserver", {"further": HTTP, "scheme": "wss"}, False),
        ("http://testserver", {"further": {b"x_forwarded_proto": b"https"}, **PROXY}, True),
        ("http://testserver", {"scheme": "wss", **PROXY}, False),
        # No page of a site.
        *(
            (f"{scheme}://testserver", {"scheme": connection}, False)
            for scheme in ("ftp", "ws", "wss", "moz-extension", "file", "app", "javascript")
            for connection in ("ws", "wss")
        ),
        ("moz-extension://testserver:80", {"host": "testserver:80"}, False),
        ("ftp://testserver", {"ALLOWED_HOSTS": ["*"]}, False),
        # Listed, it is the project's word.
        ("http://testserver", {"scheme": "wss", "WS_ALLOWED_ORIGINS": ["http://testserver"]}, True),
        ("moz-extension://ab-c", {"WS_ALLOWED_ORIGINS": ["moz-extension://ab-c"]}, True),
        ("http://testserver", {"scheme": "wss", "WS_ALLOWED_ORIGINS": ["*"]}, True),
    ],
    ids=str,
)
def test_the_scheme(origin: str, options: dict[str, Any], allowed: bool):
    assert (problem(origin, **options) is None) is allowed


def test_without_allowed_hosts():
    for origin in ("http://localhost:8000", "http://127.0.0.1", "http://[::1]:81"):
        options: dict[str, Any] = {"ALLOWED_HOSTS": [], "host": "localhost:8000"}
        assert problem(origin, DEBUG=True, **options) is None
        assert problem(origin, DEBUG=False, **options) is not None
    assert problem("http://a.b", ALLOWED_HOSTS=[], DEBUG=True, host="localhost") is not None


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("testserver", True),
        ("TestServer:8000", True),
        ("testserver.", True),
        ("[::1]:8000", True),
        ("evil.example", False),
        ("testserver,testserver", False),
        ("testserver@evil.example", False),
        ("", False),
        ("[::2]", False),
        ("é", False),
        (None, False),
    ],
)
def test_the_host(host: str | None, allowed: bool):
    found = problem(None, host=host, ALLOWED_HOSTS=["testserver", "[::1]"])
    assert (found is None) is allowed


def test_a_forwarded_host_where_the_setting_says_so():
    pairs = [(b"host", b"inner"), (b"x-forwarded-host", b"testserver")]
    assert problem_with(pairs) is not None
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert problem_with(pairs) is None


def test_a_header_with_an_underscore_is_not_the_one_with_a_hyphen():
    """Proxies remove the one that they set themselves, and Django ignores the other."""
    pairs = [(b"host", b"evil.example"), (b"x_forwarded_host", b"testserver")]
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert problem_with(pairs) is not None


@given(origin=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode(
    errors="surrogatepass"))), host=st.binary(max_size=40))  # fmt: skip
def test_no_bytes_raise(origin: bytes, host: bytes):
    with override_settings(ALLOWED_HOSTS=["testserver", "[::1]"]):
        assert problem_with([(b"host", host), (b"origin", origin)]) is not None
        found = problem_with([(b"host", b"testserver"), (b"origin", origin)])
    allowed = (b"//testserver", b"//[::1]")
    assert found is not None or any(name in origin.lower() for name in allowed)


def test_a_refusal_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """tests/unit/test_lines.py says when again."""
    monkeypatch.setattr(_origin._refusals, "_known", OrderedDict())
    for path in ("/a", "/b"):
        log_refusal("the one", path)
    log_refusal("the other", "/c")
    assert [record.getMessage() for record in caplog.records] == [
        "WebSocket '/a' was refused: the one.",
        "WebSocket '/c' was refused: the other.",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize(
    "refused",
    [
        {"origin": f"https://{'a' * 6700}"},
        {"origin": "a" * 6700},
        {"origin": f"https://testserver:{'0' * 6700}1"},
        {"origin": f"ftp{'p' * 6700}://testserver"},
        {"origin": f"https://{'a' * 6700}", "WS_ALLOWED_ORIGINS": []},
        {"origin": None, "host": "a" * 6700},
        {"origin": "\x7f" * 6700},
    ],
    ids=lambda refused: str(refused)[:40],
)
def test_a_line_is_short(
    refused: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(_origin._refusals, "_known", OrderedDict())
    found = problem(**refused)
    assert found is not None
    log_refusal(found, f"/{'a' * 6700}")
    assert len(caplog.messages) == 1
    assert len(caplog.messages[0]) < 250
