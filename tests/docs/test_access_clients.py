"""The clients of the documentation's pages on access, against both servers and a real database."""

import asyncio
import time
from datetime import timedelta
from typing import Any
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page
from rest_framework_simplejwt.tokens import AccessToken
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import StartServer
from tests.pages import block, module
from tests.servers import Server, ServerName, manage

ACCESS, REASONS, EXPIRY = (
    f"howto/{name}"
    for name in ("authentication-and-permissions", "accept-and-reject", "tokens-that-expire")
)
PASSWORD = "a password for tests"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A database with one user, who is a superuser called ann, and a token of her for DRF."""
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.docs.access_settings",
        "TEST_DATABASE": str(tmp_path_factory.mktemp("database") / "db.sqlite3"),
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    for command in (
        "migrate --verbosity 0",
        "createsuperuser --noinput --username ann --email ann@example.com",
    ):
        done = manage(*command.split(), env=env)
        assert done.returncode == 0, done.stderr
    return env


@pytest.fixture
def site(
    server_name: ServerName, shared_server: StartServer, environment: dict[str, str]
) -> Server:
    return shared_server(server_name, env=environment)


def token(**seconds: float) -> str:
    access = AccessToken()
    access["user_id"] = "1"
    if seconds:
        access.set_exp(lifetime=timedelta(**seconds))
    return str(access)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def test_a_python_client_sends_a_header(site):
    read_feed = module(ACCESS).read_feed
    assert await read_feed(f"{site.ws_url}/ws/feed", token()) == "Hello, ann."


async def test_the_status_and_the_detail_of_a_refusal(site):
    why_not = module(REASONS).why_not
    assert await why_not(f"{site.ws_url}/ws/inbox") == (401, "Authentication Required")
    assert await why_not(f"{site.ws_url}/ws/full") == (429, "No seats left.")
    assert await why_not(f"{site.ws_url}/ws/nothing") == (404, "Not Found")


async def test_a_client_that_sends_fresh_tokens_stays_on(site):
    sent = 0

    async def fresh_token() -> str:
        nonlocal sent
        sent += 1
        return token(seconds=2 if sent < 3 else -2)

    url = f"{site.ws_url}/ws/prices"
    start = time.monotonic()
    async with connect(url, additional_headers=bearer(token(seconds=2))) as ws:
        # Two tokens are good; the third one expired before it was sent, and closes.
        async with asyncio.timeout(15):
            with pytest.raises(ConnectionClosed):
                await module(EXPIRY).stay_on(ws, fresh_token)
        assert (sent, ws.close_code, ws.close_reason) == (3, 1008, "Authentication Error")
    assert time.monotonic() - start > 2


async def test_a_logout_closes(site):
    def get(path: str, cookie: str = "") -> str:
        with urlopen(Request(f"{site.url}{path}", headers={"Cookie": cookie})) as response:
            return str(response.headers["Set-Cookie"]).partition(";")[0]

    cookies = [await asyncio.to_thread(get, "/enter/") for _ in range(2)]
    one, other = (
        connect(f"{site.ws_url}/ws/feed", additional_headers={"Cookie": each}) for each in cookies
    )
    async with one, other:
        for ws in (one.connection, other.connection):
            assert await ws.recv() == "Hello, ann."
        await asyncio.to_thread(get, "/leave/", cookies[0])
        # That of the session ends by itself, the others by the page's receiver of the signal.
        for ws, reason in ((one.connection, "session ended"), (other.connection, "logged out")):
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (1008, reason)


def evaluate(page: Page, code: str, script: str) -> Any:
    """What a page's JavaScript with more of it gives."""
    return page.evaluate(f"async () => {{ {code}\n{script} }}")


FIRST = """
    return new Promise((resolve) => {
      ws.onmessage = (event) => resolve([event.data, ws.protocol]);
      ws.onclose = (event) => resolve([event.code, event.reason]);
    });
"""


@pytest.mark.browser
def test_a_browser_sends_a_token_as_a_subprotocol(site, page):
    page.goto(f"{site.url}/")
    opening = f"const ws = await openInbox('ann', '{PASSWORD}'); {FIRST}"
    assert evaluate(page, block(ACCESS, "openInbox"), opening) == ["Hello, ann.", "bearer"]


@pytest.mark.browser
def test_a_browser_sends_its_session(site, page):
    page.goto(f"{site.url}/enter/")
    page.goto(f"{site.url}/")
    assert evaluate(page, block(ACCESS, "/ws/account"), FIRST) == ["Hello, ann.", ""]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("protocols", "shown"),
    [
        ("[]", "Please log in: Authentication Required"),
        ("['bearer', 'no-token']", "Please log in: Authentication Error"),
    ],
)
def test_a_browser_shows_the_reason(site, page, protocols, shown):
    script = f"""
        const ws = new WebSocket(`ws://${{location.host}}/ws/explained`, {protocols});
        return new Promise((resolve) => {{
            explain(ws, resolve);
            ws.addEventListener("close", (event) => resolve(`code ${{event.code}}`));
        }});
    """
    page.goto(f"{site.url}/")
    assert evaluate(page, block(REASONS, "explain("), script) == shown
