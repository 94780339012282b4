"""What a client learns of a refusal, and what the log keeps of every connection."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from channels.exceptions import InvalidChannelLayerError
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from playwright.sync_api import Page, expect, sync_playwright

from panther_channels.websocket import send_message_to_websocket
from tests.browser.conftest import ARGUMENTS, PATIENCE
from tests.integration.access.client import (
    SECONDS,
    Headers,
    Site,
    closed,
    connected,
    handshake,
    opened,
    received,
)
from tests.integration.conftest import StartAccess
from tests.servers import Server, ServerName

pytestmark = pytest.mark.usefixtures("clients")

REFUSALS: list[tuple[str, Headers, int, str]] = [
    ("/ws/header", [("Authorization", "Bearer x")], 401, "Authentication Error"),
    ("/ws/authenticated", [], 403, "Permission Denied"),
    ("/ws/broken", [], 403, "Permission Denied"),
    ("/ws/default", [("Origin", "https://evil.example")], 403, "Origin not allowed"),
    ("/ws/nowhere", [], 404, "Not Found"),
    ("/", [], 404, "Not Found"),
]


@pytest.mark.parametrize(("target", "headers", "status", "detail"), REFUSALS, ids=str)
async def test_a_refusal(access: Server, target: str, headers: Headers, status: int, detail: str):
    answer = await handshake(access, target, headers)
    assert (answer.status, answer.detail) == (status, detail)


CODED: list[tuple[str, Headers, list[str] | None, tuple[int, str]]] = [
    ("?authorization=x", [], None, (4401, "Authentication Error")),
    ("", [], ["bearer", "x"], (4401, "Authentication Error")),
    ("?authorization=x", [], ["chat", "other"], (4401, "Authentication Error")),
    ("", [], ["chat"], (4403, "Permission Denied")),
    ("", [], None, (4403, "Permission Denied")),
]


@pytest.mark.parametrize(("query", "headers", "subprotocols", "ending"), CODED, ids=str)
async def test_a_refusal_with_a_close_code(
    access: Server, query: str, headers: Headers, subprotocols: Any, ending: tuple[int, str]
):
    target = f"/ws/coded{query}"
    client = await connected(access, target, headers, subprotocols=subprotocols)
    assert await closed(client) == ending
    # A browser wants one of those that it offered, or none where it offered none.
    assert client.subprotocol == (subprotocols[0] if subprotocols else None)


async def test_who_may_is_not_refused_with_a_close_code(access: Server, site: Site):
    offered = ["bearer", site.token()]
    client, answer = await opened(access, "/ws/coded", subprotocols=offered)
    assert (answer["user"], client.subprotocol) == ("alice", "bearer")


async def test_many_refusals_leave_nothing(access: Server):
    """Each waits for its client to go, and that is no reason to keep the others."""
    mark = access.mark()
    target, headers = "/ws/header", [("Authorization", "Bearer x")]
    answers = await asyncio.gather(*(handshake(access, target, headers) for _ in range(50)))
    assert {answer.status for answer in answers} == {401}
    deadline = time.monotonic() + SECONDS
    while (log := access.log[mark:]).count("| Rejected |") < len(answers):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert "Traceback" not in log
    assert "ERROR" not in log


@pytest.mark.parametrize("what", ["directory", "backend"])
async def test_a_layer_that_cannot_be_used(
    server_name: ServerName, start_access: StartAccess, site: Site, folder: Path, what: str
):
    """One line for all, and for who sends from outside an error that says what to do."""
    folder.chmod(0o777)  # noqa: ASYNC240 - a test
    layers = {
        "directory": {
            "BACKEND": "panther_channels.layers.LocalChannelLayer",
            "CONFIG": {"directory": str(folder)},
        },
        "backend": {"BACKEND": "no.such.Layer"},
    }
    problem = {"directory": f"The directory '{folder}' of", "backend": "no.such.Layer"}[what]
    server = start_access(server_name, CHANNEL_LAYERS={"default": layers[what]})
    for _ in range(10):
        assert (await handshake(server, "/ws/default")).status == 503
        client = await connected(server, f"/ws/coded?authorization={site.token()}")
        assert await closed(client) == (1013, "try again later")
    assert server.log.count(problem) == 1
    assert "Traceback" not in server.log
    with (
        override_settings(CHANNEL_LAYERS={"default": layers[what]}),
        pytest.raises((ImproperlyConfigured, InvalidChannelLayerError), match=problem),
    ):
        await send_message_to_websocket("0" * 32, "hello")


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """Not for longer than a test: no async test can run while Playwright's loop does."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


@pytest.mark.browser
def test_what_a_script_in_a_browser_sees(page: Page, access: Server, site: Site):
    state = page.locator("#state")
    expected: list[tuple[str, list[str], str]] = [
        ("header", [], "user null"),
        ("coded", [], "closed 4403 Permission Denied"),
        ("coded", ["bearer", "x"], "closed 4401 Authentication Error"),
        ("coded", ["chat"], "closed 4403 Permission Denied"),
        ("authenticated", [], "closed 1006"),
        ("coded", ["bearer", site.token()], "user alice"),
        ("subprotocol", ["bearer", site.token("bob")], "user bob"),
    ]
    for number, (name, protocols, text) in enumerate(expected):
        wanted = "".join(f"&protocol={protocol}" for protocol in protocols)
        page.goto(f"{access.url}/page/?{number}#url={quote(access.ws_url)}/ws/{name}{wanted}")
        expect(state).to_have_text(text)


LINE = r"panther_channels\.monitoring WS \| %s \| 127\.0\.0\.1:\d+ \| %s"


async def test_the_two_lines_of_monitoring(access: Server, site: Site):
    mark = access.mark()
    headers = [("Authorization", f"Bearer {site.token()}")]
    async with connected(access, "/ws/header?a=1", headers) as client:
        await received(client)
        port = client.local_address[1]
        first = await asyncio.to_thread(
            access.wait_log, rf"INFO .*:{port} \| - \| Connected$", since=mark
        )
        assert re.search(LINE % ("/ws/header", r"- \| Connected"), first[0])
        for _ in range(3):
            await client.send("hello")
            await received(client)
    last = await asyncio.to_thread(access.wait_log, rf"INFO .*:{port} \| \d.*$", since=mark)
    assert re.search(LINE % ("/ws/header", r"\d\.\d{3} \| Closed \| 3 in \| 4 out$"), last[0])
    assert access.log[mark:].count(f":{port} | ") == 2


async def test_the_two_lines_of_a_refusal(access: Server):
    mark = access.mark()
    await handshake(access, "/ws/authenticated?tag=1%0A2")
    await asyncio.to_thread(
        access.wait_log,
        LINE % ("/ws/authenticated", r"\d\.\d{3} \| Rejected \| 0 in \| 0 out$"),
        since=mark,
    )


async def test_the_root_path_of_a_client_is_not_believed(start_access: StartAccess, site: Site):
    claim = [("Daphne-Root-Path", "/public")]
    plain = start_access("daphne")
    assert (await handshake(plain, "/public/ws/default", claim)).status == 404
    assert (await handshake(plain, "/ws/default", claim)).status == 101
    trusting = start_access("daphne", WS_TRUST_DAPHNE_ROOT_PATH=True)
    assert (await handshake(trusting, "/public/ws/default", claim)).status == 101
    assert (await handshake(trusting, "/ws/default", claim)).status == 404
