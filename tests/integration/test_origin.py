"""Pages of which origin may connect, and by which name, on real servers and in a real browser.

tests/unit/test_origin.py has the table of who may; here are rows that a server sees first.
"""

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.integration.access.site import Site, handshake, pairs
from tests.integration.conftest import StartAccess
from tests.names import name_of
from tests.servers import Server, ServerName

LISTED: dict[str, Any] = {
    "WS_ALLOWED_ORIGINS": ["https://example.com", "http://127.0.0.1:8443"],
}
APPS = ["file://", "app://.", "app://", "capacitor://localhost", "content://", "null"]
OPENS, REFUSED = {101}, {403}
ROWS: list[tuple[dict[str, Any], str, set[int]]] = [
    (LISTED, "", OPENS),
    (LISTED, "Origin: HTTPS://Example.COM:443", OPENS),
    (LISTED, "Origin: http://example.com", REFUSED),
    (LISTED, "Origin: https://127.0.0.1:8443", REFUSED),
    *((LISTED, f"Origin: {value}", REFUSED) for value in ("ÿþ", "//x", "", *APPS)),
    # Of several, uvicorn's library says 400.
    (LISTED, "Origin: https://example.com\nOrigin: https://example.com", {400, 403}),
    *(({"WS_ALLOWED_ORIGINS": APPS}, f"Origin: {value}", OPENS) for value in APPS),
    *(({"WS_ALLOWED_ORIGINS": APPS}, f"Origin: {value}", REFUSED) for value in ("x://", "file")),
    ({}, "Origin: http://127.0.0.1", REFUSED),  # another port of the host that was asked
    ({}, "Origin: https://localhost", OPENS),
    ({}, "Origin: moz-extension://localhost", REFUSED),
]


@pytest.mark.parametrize(("settings", "headers", "statuses"), ROWS, ids=name_of)
async def test_an_origin(
    server_name: ServerName,
    start_access: StartAccess,
    settings: dict[str, Any],
    headers: str,
    statuses: set[int],
):
    server = start_access(server_name, **settings)
    mark = server.mark()
    answer = await handshake(server, "/ws/default", pairs(headers))
    assert answer.status in statuses
    assert answer.status != 403 or answer.detail == "Origin not allowed"
    assert "Traceback" not in server.log[mark:]


FORWARDED = "X-Forwarded-For: 1.2.3.4\nX-Forwarded-Proto: https"
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
        (True, {}, "", 101),
        (False, DJANGO, "", 101),
        (False, {}, FORWARDED, 101),  # a client's own words
    ],
    ids=str,
)
async def test_a_page_of_http_behind_a_proxy_with_tls(
    server_name: ServerName,
    start_access: StartAccess,
    trusts: bool,
    settings: dict[str, Any],
    headers: str,
    status: int,
):
    server = start_access(server_name, OPTIONS[server_name][trusts], **settings)
    for scheme, expected in (("http", status), ("https", 101)):
        origin = ("Origin", f"{scheme}://127.0.0.1:{server.port}")
        answer = await handshake(server, "/ws/default", [*pairs(headers), origin])
        assert answer.status == expected


@pytest.mark.browser
def test_the_session_of_a_browser(
    page: Page, server_name: ServerName, start_access: StartAccess, site: Site
):
    """Cookies are of a host, not of a port: the page of the other server has them, too."""
    server = start_access(server_name)
    other = start_access("uvicorn" if server_name == "daphne" else "daphne")
    page.goto(f"{server.url}/admin/login/?next=/page/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("password of root")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{server.url}/page/")

    def see(of_page: Server, socket: Server, text: str) -> None:
        url = quote(f"{socket.ws_url}/ws/session")
        page.goto(f"{of_page.url}/page/?{socket.port}#url={url}")
        expect(page.locator("#state")).to_have_text(text)

    see(server, server, "user root")
    key = next(c["value"] for c in page.context.cookies() if c["name"] == "sessionid")
    site.secret(key)
    mark = server.mark()
    see(other, server, "closed 1006")
    server.wait_log(f"the origin '{other.url}' is another port of this host", since=mark)
    # It is the origin, and not the cookie, that was refused.
    see(other, other, "user root")
