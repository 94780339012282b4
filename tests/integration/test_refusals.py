"""What a browser and the log learn of a refusal, and how servers stand many of them.

And of an app that is missing in the settings, so that nobody is let in.
"""

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.client import Client
from tests.conftest import StartServer
from tests.integration.access.site import Site, handshake
from tests.servers import ROOT, RunServer, Server, ServerError, ServerName, with_settings
from tests.waiting import until


async def test_many_refusals_leave_nothing(access: Server):
    """Each waits for its client to go, and that is no reason to keep the others."""
    mark = access.mark()
    target, headers = "/ws/header", [("Authorization", "Bearer x")]
    answers = await asyncio.gather(*(handshake(access, target, headers) for _ in range(50)))
    assert {answer.status for answer in answers} == {401}
    await until(lambda: access.log.count("| Rejected |", mark) == len(answers))
    assert "Traceback" not in access.log[mark:]
    assert "ERROR" not in access.log[mark:]


async def test_a_runserver_without_websockets_says_so(tmp_path: Path):
    apps = ["django.contrib.staticfiles", "django.contrib.contenttypes", "panther_channels"]
    settings = with_settings(INSTALLED_APPS=apps, STATIC_URL="static/")
    environment = {"DJANGO_SETTINGS_MODULE": "tests.project.settings", **settings}
    log_path = tmp_path / "runserver.log"
    with RunServer(ROOT / "manage.py", log_path=log_path, env=environment) as server:
        server.wait_log(
            'W010.*answers each WebSocket with 404.\\n.*"daphne" at the top of INSTALLED'
        )
        async with Client(server) as connect:
            assert await connect.status("/ws/echo") == 404


def test_without_our_app_no_server_starts(server_name: ServerName, start_server: StartServer):
    with pytest.raises(ServerError, match='ImproperlyConfigured: INSTALLED_APPS has no "panther_c'):
        start_server(server_name, env=with_settings(INSTALLED_APPS=["daphne"]))


@pytest.mark.browser
def test_what_a_script_in_a_browser_sees(page: Page, access: Server, site: Site):
    expected: list[tuple[str, list[str], str]] = [
        ("header", [], "user null"),
        ("coded", [], "closed 4401 Authentication Required"),
        ("coded", ["bearer", "x"], "closed 4401 Authentication Error"),
        ("coded", ["bearer", site.token("bob")], "closed 4403 Permission Denied"),
        ("authenticated", [], "closed 1006"),
        ("coded", ["bearer", site.token()], "user alice"),
        ("subprotocol", ["bearer", site.token("bob")], "user bob"),
    ]
    for number, (name, protocols, text) in enumerate(expected):
        wanted = "".join(f"&protocol={protocol}" for protocol in protocols)
        page.goto(f"{access.url}/page/?{number}#url={quote(access.ws_url)}/ws/{name}{wanted}")
        expect(page.locator("#state")).to_have_text(text)


async def test_the_two_lines_of_monitoring(access: Server):
    mark = access.mark()
    async with Client(access) as connect:
        client = await connect("/ws/default?a=1")
        start = (
            rf"INFO panther_channels\.monitoring WS \| %s \| 127\.0\.0\.1:{client.address[1]} \| "
        )
        start %= "/ws/default"
        await asyncio.to_thread(access.wait_log, rf"^{start}- \| Connected$", since=mark)
        await client.receive()
        for _ in range(3):
            await client.ask("hello")
        await client.close()
        end = rf"^{start}\d\.\d{{3}} \| Closed \| 3 in \| 4 out$"
        await asyncio.to_thread(access.wait_log, end, since=mark)
        assert access.log[mark:].count(f":{client.address[1]} | ") == 2
        await connect("/ws/authenticated?tag=1%0A2")
    line = r"\| /ws/authenticated \| 127\.0\.0\.1:\d+ \| \d\.\d{3} \| Rejected \| 0 in \| 0 out$"
    await asyncio.to_thread(access.wait_log, line, since=mark)
