"""The pages of the documentation that are live, in a browser."""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.test import override_settings
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.conftest import PATIENCE, StartServer
from tests.pages import block, module
from tests.servers import ROOT, Server, manage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

expect.set_options(timeout=PATIENCE)

USERS = """
from django.contrib.auth.models import User
for name in ("ada", "bob"):
    User.objects.create_user(name)
User.objects.create_user("staff", is_staff=True)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="pc-", dir="/tmp") as folder:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.docs.live_settings",
            "TEST_DATABASE": str(tmp_path_factory.mktemp("database") / "db.sqlite3"),
            "LOCAL_LAYER": folder,
        }
        for arguments, stdin in ((("migrate", "--verbosity", "0"), b""), (("shell",), USERS)):
            script = stdin if isinstance(stdin, bytes) else stdin.encode()
            done = manage(*arguments, env=env, stdin=script)
            assert done.returncode == 0, done.stderr
        yield env


@pytest.fixture
def site(shared_server: StartServer, environment: dict[str, str]) -> Server:
    """On uvicorn: the demo site, which is used in a browser too, is on daphne."""
    return shared_server("uvicorn", env=environment)


OpenPage = Callable[[str, str], Page]


@pytest.fixture
def open_page(browser: Browser, site: Server) -> Iterator[OpenPage]:
    """Opens a page as a user: `open_page("chat", "ada")`; an error in one fails the test."""
    errors: list[str] = []

    def open_(name: str, user: str) -> Page:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        page = context.new_page()
        page.goto(f"{site.url}/enter/{user}/")
        page.goto(f"{site.url}/{name}/")
        return page

    yield open_
    for context in browser.contexts:
        context.close()
    assert errors == []


def lines(page: Page, place: str) -> Locator:
    return page.locator(f"#{place} li")


def test_the_script_is_short_and_stops_where_the_demo_stops():
    lines = block("howto/notify-a-user", "export function live").splitlines()
    assert len(lines) < 40
    demo = (ROOT / "testproject/static/testproject/socket.js").read_text().splitlines()
    assert len({line for line in lines if "FINAL" in line} & {*demo}) == 2


def test_all_tabs_of_a_user_are_notified(open_page: OpenPage, site: Server):
    tabs = [open_page("notify-a-user", name) for name in ("ada", "ada", "bob")]
    staff = open_page("who-is-connected", "staff")
    expect(lines(staff, "connections").filter(has_text="/ws/notifications")).to_have_count(3)
    staff.goto(f"{site.url}/promote/ada/")
    for tab in tabs[:2]:
        expect(lines(tab, "news")).to_have_text(["You have a new role: editors"])
    expect(lines(tabs[2], "news")).to_have_count(0)


def test_a_chat(open_page: OpenPage):
    ada, again, bob = (open_page("chat", name) for name in ("ada", "ada", "bob"))
    for page in (ada, again, bob):
        expect(page.locator("#members")).to_have_text("ada, bob")
    bob.get_by_label("Message").press_sequentially("Hi")
    for page in (ada, again):
        expect(page.locator("#typing")).to_have_text("bob is typing…")
    bob.get_by_role("button").click()
    expect(lines(ada, "said")).to_have_text(["bob: Hi"])
    ada.get_by_label("Message").fill("<i>Hello</i>")
    ada.get_by_role("button").click()
    expect(lines(ada, "said")).to_have_text(["bob: Hi", "you: <i>Hello</i>"])
    expect(lines(again, "said")).to_have_text(["bob: Hi", "ada: <i>Hello</i>"])
    expect(lines(bob, "said")).to_have_text(["you: Hi", "ada: <i>Hello</i>"])
    staff = open_page("who-is-connected", "staff")
    line = lines(staff, "connections").filter(has_text="bob at /ws/chat/lobby")
    line.get_by_role("button", name="send").click()
    expect(lines(bob, "said").last).to_have_text("Staff: Hello")
    again.reload()
    expect(again.locator("#members")).to_have_text("ada, bob")
    bob.close()
    for page in (ada, again):
        expect(page.locator("#members")).to_have_text("ada")


def test_who_is_there(open_page: OpenPage):
    ada, bob = open_page("presence", "ada"), open_page("presence", "bob")
    for page in (ada, bob):
        expect(page.locator("#members")).to_have_text("ada, bob")
    bob.close()
    expect(ada.locator("#members")).to_have_text("ada")


def test_a_dashboard_from_a_thread(
    open_page: OpenPage, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    layer = {
        "BACKEND": "panther_channels.layers.LocalChannelLayer",
        "CONFIG": {"directory": Path(environment["LOCAL_LAYER"])},
    }
    pages = [open_page("live-dashboard", "staff") for _ in range(2)]
    dashboard, stopping = module("howto/live-dashboard"), threading.Event()
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        thread = threading.Thread(target=dashboard.measure, args=(stopping,))
        thread.start()
        for page in pages:
            expect(page.locator("#figures dt")).to_have_text(["load", "threads"])
        stopping.set()
        thread.join()

        # Celery itself isn't needed to see what its task does.
        celery = SimpleNamespace(shared_task=lambda function: function)
        monkeypatch.setitem(sys.modules, "celery", celery)
        orders = SimpleNamespace(filter=lambda **_: SimpleNamespace(count=lambda: 7))
        known = {
            **vars(dashboard),
            "Order": SimpleNamespace(objects=orders),
            "date": SimpleNamespace(today=lambda: None),
        }
        exec(block("howto/live-dashboard", "shared_task"), known)
        thread = threading.Thread(target=known["count_orders"])
        thread.start()
        for page in pages:
            expect(page.locator("#figures dd")).to_have_text(["7"])
        thread.join()


def test_who_is_connected_is_shown_told_and_closed(open_page: OpenPage):
    ada, staff = open_page("notify-a-user", "ada"), open_page("who-is-connected", "staff")
    line = lines(staff, "connections").filter(has_text="ada at /ws/notifications")
    line.get_by_role("button", name="send").click()
    expect(staff.locator("#answer")).to_have_text("done")
    expect(lines(ada, "news")).to_have_text(["Staff: Hello"])
    line.get_by_role("button", name="close").click()
    expect(ada.locator("#state")).to_have_text("Closed by staff.")
    expect(line).to_have_count(0)


def test_who_may_not_look_is_told(open_page: OpenPage):
    page = open_page("notify-a-user", "ada")
    page.context.clear_cookies()
    page.reload()
    expect(page.locator("#state")).to_have_text("Authentication Required")


FINAL = (1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4401, 4403, 4429, 4999)
FOR_NOW = (1001, 1005, 1006, 1011, 1012, 1013, 1014, 4503)


def test_a_page_comes_back_but_not_after_every_code(open_page: OpenPage):
    page, opened, ends = open_page("notify-a-user", "ada"), dict[str, int](), list[str]()

    def handle(ws: WebSocketRoute) -> None:
        code = ws.url.rpartition("/")[2]
        opened[code] = opened.get(code, 0) + 1
        ws.close(code=int(code), reason="r")

    page.route_web_socket("**/code/*", handle)
    page.expose_function("ended", lambda code: ends.append(code))
    codes = [*FINAL, *FOR_NOW]
    page.evaluate(
        """async (codes) => {
            const { live } = await import("/static/live.js");
            for (const code of codes) live(`/code/${code}`, { ended: () => ended(String(code)) });
        }""",
        codes,
    )
    while min(opened.get(str(code), 0) for code in FOR_NOW) < 3:
        page.wait_for_timeout(50)
    assert {code: opened[str(code)] for code in FINAL} == dict.fromkeys(FINAL, 1)
    assert sorted(ends) == sorted(map(str, FINAL))
