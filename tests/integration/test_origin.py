"""Pages of which origin may connect, and by which name, on real servers and in a real browser."""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, PATIENCE
from tests.integration.access.client import Headers, Site, handshake
from tests.integration.conftest import StartAccess
from tests.servers import Server, ServerName

EXACT = ["https://example.com", "https://*.example.org", "http://127.0.0.1:8443", "http://[::1]:81"]


def refusal(origin: str) -> str:
    return f"the origin {origin!r} is not in WS_ALLOWED_ORIGINS: add it there"


@pytest.fixture
def listed(server_name: ServerName, start_access: StartAccess) -> Server:
    return start_access(server_name, WS_ALLOWED_ORIGINS=EXACT)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("https://example.com", 101),
        ("HTTPS://Example.COM", 101),
        ("https://example.com:443", 101),
        ("https://a.b.example.org", 101),
        ("http://127.0.0.1:8443", 101),
        ("http://[::1]:81", 101),
        ("http://example.com", 403),
        ("https://example.com:8443", 403),
        ("https://example.org", 403),
        ("https://evilexample.org", 403),
        ("https://example.com.evil.example", 403),
        ("https://example.com@evil.example", 403),
        ("https://127.0.0.1:8443", 403),
        ("null", 403),
        ("file://", 403),
        ("https://example.com, https://example.com", 403),
    ],
)
async def test_listed_origins(listed: Server, origin: str | None, status: int):
    headers = [] if origin is None else [("Origin", origin)]
    answer = await handshake(listed, "/ws/default", headers)
    assert answer.status == status
    if status == 403:
        assert answer.detail == "Origin not allowed"


# autobahn, daphne's own library, refuses some of these itself, with 400.
@pytest.mark.parametrize(
    "origin", ["http://[::1", "https://example.com:99999", "\xff\xfe", "//x", "example.com", ""]
)
async def test_what_is_no_origin(listed: Server, origin: str):
    mark = listed.mark()
    answer = await handshake(listed, "/ws/default", [("Origin", origin)])
    assert answer.status in ({400, 403} if listed.name == "daphne" else {403})
    assert "Traceback" not in listed.log[mark:]


async def test_two_origins(listed: Server):
    headers = [("Origin", "https://example.com"), ("Origin", "https://example.com")]
    assert (await handshake(listed, "/ws/default", headers)).status in {400, 403}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1", 403),  # another port of the host that was asked
        ("https://localhost", 101),
        ("http://testserver", 101),
        ("https://evil.example", 403),
        ("null", 403),
        ("ftp://localhost", 403),
        ("wss://localhost", 403),
        ("moz-extension://localhost", 403),
    ],
)
async def test_by_allowed_hosts(access: Server, origin: str, status: int):
    answer = await handshake(access, "/ws/default", [("Origin", origin)])
    assert answer.status == status


async def test_a_page_of_this_site(access: Server):
    answer = await handshake(access, "/ws/default", [("Origin", access.url)])
    assert answer.status == 101


FORWARDED: Headers = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")]
DJANGO = {"SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"]}
OPTIONS = {
    "daphne": ((), ("--proxy-headers",)),
    "uvicorn": (("--no-proxy-headers",), ("--proxy-headers",)),
}


@pytest.mark.parametrize(
    ("trusts", "settings", "headers", "status"),
    [
        (True, {}, FORWARDED, 403),
        (False, DJANGO, FORWARDED, 403),
        (True, {}, [], 101),
        (False, DJANGO, [], 101),
        (False, {}, FORWARDED, 101),  # a client's own words
    ],
    ids=str,
)
async def test_a_page_of_http_behind_a_proxy_with_tls(
    server_name: ServerName,
    start_access: StartAccess,
    trusts: bool,
    settings: dict[str, Any],
    headers: Headers,
    status: int,
):
    server = start_access(server_name, OPTIONS[server_name][trusts], **settings)
    for scheme, expected in (("http", status), ("https", 101)):
        origin = f"{scheme}://127.0.0.1:{server.port}"
        answer = await handshake(server, "/ws/default", [*headers, ("Origin", origin)])
        assert answer.status == expected


HOSTS: list[tuple[str | None, Headers, int]] = [
    ("localhost", [], 101),
    ("localhost:1", [], 101),
    ("evil.example", [], 403),
    ("evil.example", [("Origin", "http://127.0.0.1")], 403),
    ("[::1]", [], 403),
    ("a b", [], 403),
]


@pytest.mark.parametrize(("host", "headers", "status"), HOSTS, ids=str)
async def test_the_host(access: Server, host: str | None, headers: Headers, status: int):
    mark = access.mark()
    answer = await handshake(access, "/ws/default", headers, host=host)
    assert answer.status in ({400, 403} if host == "a b" else {status})
    assert "Traceback" not in access.log[mark:]


async def test_no_host(access: Server):
    answer = await handshake(access, "/ws/default", host=None)
    assert answer.status in {400, 403}


async def test_a_refusal_is_logged_once(listed: Server):
    one, two = "https://once.example", "https://twice.example"
    mark = listed.mark()
    for origin in (one, two, one, one):
        await handshake(listed, "/ws/default", [("Origin", origin)])
    await asyncio.to_thread(listed.wait_log, "twice.example", since=mark)
    log = listed.log[mark:]
    for origin in (one, two):
        assert log.count(f"WebSocket '/ws/default' was refused: {refusal(origin)}.") == 1


async def test_a_flood_of_refusals_hides_no_other(listed: Server):
    origins = [f"https://{number}{'a' * 6700}.example" for number in range(1005)]
    honest, mark = "https://honest.example", listed.mark()
    for number in range(0, len(origins), 20):
        ends = [
            handshake(listed, f"/ws/{'b' * 500}", [("Origin", origin)])
            for origin in origins[number : number + 20]
        ]
        assert {answer.status for answer in await asyncio.gather(*ends)} == {403}
    await handshake(listed, "/ws/default", [("Origin", honest)])
    await asyncio.to_thread(listed.wait_log, refusal(honest), since=mark)
    lines = [line for line in listed.log[mark:].splitlines() if "WebSocket '/ws/bbb" in line]
    assert len(lines) == len(origins)
    assert max(map(len, lines)) < 280


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """Not for longer than a test: no async test can run while Playwright's loop does."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def log_in(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/admin/login/?next=/page/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("password of root")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{server.url}/page/")


def url_of(here: Server, target: str) -> str:
    return f"/page/?{here.port}#url={quote(f'{here.ws_url}{target}')}"


@pytest.mark.browser
def test_the_session_of_a_browser(
    page: Page, server_name: ServerName, start_access: StartAccess, site: Site
):
    """Cookies are of a host, not of a port: the page of the other server has them, too."""
    server = start_access(server_name)
    other = start_access("uvicorn" if server_name == "daphne" else "daphne")
    log_in(page, server)
    state = page.locator("#state")
    page.goto(server.url + url_of(server, "/ws/session"))
    expect(state).to_have_text("user root")
    key = next(c["value"] for c in page.context.cookies() if c["name"] == "sessionid")
    site.secret(key)

    mark = server.mark()
    page.goto(other.url + url_of(server, "/ws/session"))
    expect(state).to_have_text("closed 1006")
    server.wait_log(f"the origin '{other.url}' is another port of this host", since=mark)
    # It is the origin, and not the cookie, that was refused.
    page.goto(other.url + url_of(other, "/ws/session"))
    expect(state).to_have_text("user root")
