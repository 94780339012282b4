"""The table of who may open a WebSocket: by which name, and from a page of which origin."""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from panther_channels._handshake import origin as _origin
from panther_channels._handshake.origin import Origin, log_refusal, parse_origin, problem_with
from tests.names import name_of

PARSED: dict[str, tuple[str, str, int | None]] = {
    "https://example.com": ("https", "example.com", 443),
    "http://example.com": ("http", "example.com", 80),
    "HTTPS://Example.COM.": ("https", "example.com", 443),
    "https://example.com:443": ("https", "example.com", 443),
    "https://example.com:8443": ("https", "example.com", 8443),
    "http://[::1]:81": ("http", "::1", 81),
    "chrome-extension://abc": ("chrome-extension", "abc", None),
}
NONE = [
    *("null", "", "example.com", "//example.com", "https://", "https:example.com", "file://"),
    *("http://[::1", "https://example.com:99999", "https://example.com:x", "https://example.com/"),
    *("https://example.com/path", "https://example.com?a", "https://user@example.com", "*"),
    *("https://:x@example.com", "https://a.b, https://c.d", "https://example.com https://b"),
    *("https://exa\tmple.com", "https://ex\nample.com", "https://.", "https://ⅷ.℀.com", "\udc80"),
]


@pytest.mark.parametrize("text", [*PARSED, *NONE])
def test_parsing(text: str):
    assert parse_origin(text) == (Origin(*PARSED[text]) if text in PARSED else None)


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


LISTED = {
    "WS_ALLOWED_ORIGINS": [
        *("https://example.com", "https://*.example.org:8443"),
        *("HTTP://Upper.Example", "http://[::1]", "moz-extension://ab-c"),
    ]
}
LOCAL = {"ALLOWED_HOSTS": [], "host": "localhost:8000"}
WSS = {"scheme": "wss"}
PROXY = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}
HTTPS = {"further": {b"x-forwarded-proto": b"https, http"}}
HTTP = {"further": {b"x-forwarded-proto": b"http"}, **WSS}
PORT = {"host": "testserver:8000"}
SIX = {"host": "[::1]:82", "ALLOWED_HOSTS": ["[::1]"]}
FOREIGN = ("ftp", "ws", "wss", "moz-extension", "file", "app", "javascript")

Origins = list[str | bytes | None]
#: Settings and request, the origins that may, and those that may not.
TABLE: list[tuple[dict[str, Any], Origins, Origins]] = [
    (
        LISTED,
        [
            *(None, "https://example.com", "https://EXAMPLE.com:443", "http://upper.example"),
            *("https://a.example.org:8443", "https://a.b.example.org:8443", "http://[::1]:80"),
            "moz-extension://ab-c",
        ],
        [
            *("http://example.com", "wss://example.com", "https://example.com:444", b"\xff\xfe"),
            *("https://a.example.com", "https://example.org:8443", "https://a.example.org"),
            *("http://a.example.org:8443", "https://evilexample.org:8443", "http://testserver"),
            *("https://a.example.org:8443.evil.example", "null", "", "http://[::1"),
            "https://example.com:99999",
        ],
    ),
    ({"WS_ALLOWED_ORIGINS": []}, [None], ["http://testserver"]),
    # Of an app in a web view, it is the text that counts.
    (
        {"WS_ALLOWED_ORIGINS": ["file://", "App://.", "capacitor://localhost", "null"]},
        ["file://", "app://.", "APP://.", "capacitor://localhost", "null", None],
        ["file:///", "file://x", "app://..", "app://", "capacitor://", "nul", "nulll", "", "*"],
    ),
    ({"WS_ALLOWED_ORIGINS": [""]}, [None], ["", "null"]),
    ({"WS_ALLOWED_ORIGINS": ["*"]}, ["https://evil.example", "null", "", "http://[::1", None], []),
    ({"WS_ALLOWED_ORIGINS": ["*"], "host": "evil.example"}, [], ["http://testserver", None]),
    # Listed, it is the project's word, whatever the scheme.
    ({"WS_ALLOWED_ORIGINS": ["http://testserver"], **WSS}, ["http://testserver"], []),
    ({"WS_ALLOWED_ORIGINS": ["*"], **WSS}, ["http://testserver"], []),
    (
        {"ALLOWED_HOSTS": ["testserver"]},
        # A proxy may take TLS off without saying so; browsers leave out the usual port.
        ["http://testserver", "http://TestServer.", "https://testserver", "HTTPS://testserver"],
        [
            *("http://evil.example", "http://testserver.evil.example", "null"),
            *("https://testserver:8443", "http://testserver:443"),
            *(f"{scheme}://testserver" for scheme in FOREIGN),
        ],
    ),
    (
        {"ALLOWED_HOSTS": ["testserver", ".testserver", "[::1]"]},
        ["https://a.testserver", "http://[::1]:8000"],
        ["https://eviltestserver"],
    ),
    # Any name may lead here, but a page of another one is another site all the same.
    (
        {"ALLOWED_HOSTS": ["*"]},
        ["http://testserver"],
        ["http://testserver:8000", "http://evil.example", "null", "ftp://testserver"],
    ),
    # Another port is another site.
    (PORT, ["http://testserver:8000"], ["http://testserver:8001", "http://testserver"]),
    ({"host": "testserver:80"}, ["http://testserver"], ["moz-extension://testserver:80"]),
    ({"host": "testserver:443"}, ["https://testserver", "https://testserver:443"], []),
    ({"host": "TestServer:443"}, ["https://testserver:443"], []),
    (SIX, ["http://[::1]:82"], ["http://[::1]:81"]),
    # An http page may be of whoever is in the network.
    (WSS, ["https://testserver"], ["http://testserver", *(f"{x}://testserver" for x in FOREIGN)]),
    ({"scheme": "https"}, [], ["http://testserver"]),
    ({"host": "testserver:443", **WSS}, [], ["http://testserver:443"]),
    # What Django believes of a proxy, and when it does.
    ({**HTTPS, **PROXY}, ["https://testserver"], ["http://testserver"]),
    (HTTPS, ["http://testserver"], []),
    ({**HTTP, **PROXY}, ["http://testserver"], []),
    (HTTP, [], ["http://testserver"]),
    ({"further": {b"x_forwarded_proto": b"https"}, **PROXY}, ["http://testserver"], []),
    ({**WSS, **PROXY}, [], ["http://testserver"]),
    # Without ALLOWED_HOSTS.
    (
        {"DEBUG": True, **LOCAL},
        ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:81"],
        ["http://a.b"],
    ),
    ({"DEBUG": False, **LOCAL}, [], ["http://localhost:8000"]),
]


ROWS = [
    (options, origin, origin in allowed)
    for options, allowed, refused in TABLE
    for origin in (*allowed, *refused)
]


@pytest.mark.parametrize(("options", "origin", "is_allowed"), ROWS, ids=name_of)
def test_who_may(options: dict[str, Any], origin: str | bytes | None, is_allowed: bool):
    found = problem(origin, **options)
    assert (found is None) is is_allowed, found


def test_a_refusal_names_the_setting_to_change():
    for origin, options, text in (
        ("http://a.b", LISTED, "the origin 'http://a.b' is not in WS_ALLOWED_ORIGINS: add it"),
        ("http://a.b", {}, "is not allowed by ALLOWED_HOSTS: add it to WS_ALLOWED_ORIGINS"),
        ("http://testserver", PORT, "is another port of this host"),
        ("http://testserver", WSS, "is not of https"),
        ("null", {}, "the origin 'null' is of no site: for an app of yours, add it to"),
        ("file://", LISTED, "is of no site: for an app of yours, add it to WS_ALLOWED"),
        (None, {"host": "evil.example"}, "the host 'evil.example' is not in ALLOWED_HOSTS"),
    ):
        assert text in str(problem(origin, **options))


HOSTS = ["testserver", "TestServer:8000", "testserver.", "[::1]:8000"]
NO_HOSTS = [
    *("evil.example", "testserver,testserver", "testserver@evil.example", "", "[::2]", "é", None)
]


@pytest.mark.parametrize("host", [*HOSTS, *NO_HOSTS])
def test_the_host(host: str | None):
    found = problem(None, host=host, ALLOWED_HOSTS=["testserver", "[::1]"])
    assert (found is None) is (host in HOSTS)


class Tenants:
    """ALLOWED_HOSTS that come from a table, as some packages have them."""

    def __init__(self) -> None:
        self.names = ["testserver"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


def test_hosts_that_change_without_a_signal(settings: Any):
    tenants, hosts, origins = Tenants(), ["testserver"], ["https://a.b"]
    by_host, by_origin = [(b"host", b"testserver")], (b"origin", b"https://a.b")
    for allowed, take_out in ((tenants, tenants.names.clear), (hosts, hosts.clear)):
        settings.ALLOWED_HOSTS = allowed
        assert problem_with(by_host) is None
        take_out()
        assert problem_with(by_host) is not None
    settings.ALLOWED_HOSTS, settings.WS_ALLOWED_ORIGINS = ["testserver"], origins
    assert problem_with([*by_host, by_origin]) is None
    origins.clear()
    assert problem_with([*by_host, by_origin]) is not None


def test_local_names_are_for_debugging(monkeypatch: pytest.MonkeyPatch, settings: Any):
    settings.ALLOWED_HOSTS = []
    for debug in (True, False):
        monkeypatch.setattr(django_settings, "DEBUG", debug)
        assert (problem_with([(b"host", b"localhost")]) is None) is debug


def test_names_of_headers_as_asgi_does_not_have_them():
    """Who has been let in by such a host lets nobody else in."""
    for name, is_allowed in ((b"testserver", True), (b"evil.example", False)):
        assert (problem_with([(b"Host", name)]) is None) is is_allowed
    assert problem_with([]) is not None


@pytest.mark.parametrize(
    ("name", "uses", "is_allowed"),
    [
        (b"x-forwarded-host", False, False),
        (b"x-forwarded-host", True, True),
        # Proxies remove the one that they set themselves, and Django ignores the other.
        (b"x_forwarded_host", True, False),
    ],
)
def test_a_forwarded_host(name: bytes, uses: bool, is_allowed: bool):
    found = problem(None, host="inner", further={name: b"testserver"}, USE_X_FORWARDED_HOST=uses)
    assert (found is None) is is_allowed


@given(origin=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode(
    errors="surrogatepass"))), host=st.binary(max_size=40))  # fmt: skip
def test_no_bytes_raise(origin: bytes, host: bytes):
    with override_settings(ALLOWED_HOSTS=["testserver", "[::1]"]):
        assert problem_with([(b"host", host), (b"origin", origin)]) is not None
        found = problem_with([(b"host", b"testserver"), (b"origin", origin)])
    allowed = (b"//testserver", b"//[::1]")
    assert found is not None or any(name in origin.lower() for name in allowed)


@pytest.fixture
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_origin._refusals, "_known", OrderedDict())


@pytest.mark.usefixtures("_nothing_said")
def test_a_refusal_is_logged_once(caplog: pytest.LogCaptureFixture):
    """tests/unit/test_lines.py says when again."""
    for path in ("/a", "/b"):
        log_refusal("the one", path)
    log_refusal("the other", "/c")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "WebSocket '/a' was refused: the one."),
        (logging.WARNING, "WebSocket '/c' was refused: the other."),
    ]


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
    ids=name_of,
)
@pytest.mark.usefixtures("_nothing_said")
def test_a_line_is_short(refused: dict[str, Any], caplog: pytest.LogCaptureFixture):
    log_refusal(str(problem(**refused)), f"/{'a' * 6700}")
    assert len(caplog.messages[0]) < 250
