"""The demo site as somebody sees it who opens it in a browser."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.broker import Broker
from tests.browser.conftest import SETTINGS, Front, OpenPage, StartSite, log_in
from tests.conftest import PATIENCE
from tests.servers import Server, manage

pytestmark = pytest.mark.browser

PHONE: ViewportSize = {"width": 390, "height": 664}

expect.set_options(timeout=PATIENCE)


def state(page: Page) -> Locator:
    return page.locator("#state")


def log(page: Page) -> Locator:
    return page.locator("#log li")


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def shell(site: Server, *arguments: str) -> None:
    completed = manage("websocket", *arguments, env=site.env)
    assert completed.returncode == 0, completed.stderr


def connection_id(page: Page) -> str:
    place = page.locator("#connection-id")
    expect(place).to_have_text(re.compile(r"[0-9a-f]{32}"))
    return place.inner_text()


def test_an_echo_shows_markup_as_text(open_page: OpenPage, site: Server):
    page = open_page(site.url)
    expect(state(page)).to_have_text("connected")
    say(page, "Hello")
    expect(log(page)).to_have_text(["sentHello", "receivedHello"])
    expect(page.get_by_label("Message")).to_have_value("")
    say(page, "<img src=x onerror=alert(1)>")
    expect(log(page).last).to_have_text("received<img src=x onerror=alert(1)>")
    assert page.locator("#log img").count() == 0


class TestConnection:
    def test_a_shell_does_what_the_page_says(
        self, open_page: OpenPage, site: Server, tmp_path: Path
    ):
        page = open_page(f"{site.url}/connection/")
        target = connection_id(page)
        commands = page.locator("pre").all_inner_texts()
        assert f'python manage.py websocket send {target} "Hello"' in commands
        assert f'python manage.py websocket close {target} --code 4000 --reason "bye"' in commands
        assert not any("REDIS_URL" in command for command in commands)

        shell(site, "send", target, "Hello")
        expect(log(page)).to_have_text(["textHello"])
        shell(site, "send", target, '{"answer": 42}', "--json")
        expect(log(page).last).to_have_text('json{"answer":42}')
        file = tmp_path / "five"
        file.write_bytes(b"\x00\x01\x02\x03\xff")
        shell(site, "send", target, "--bytes-from", str(file))
        expect(log(page)).to_have_text(["textHello", 'json{"answer":42}', "binary5 bytes"])

        shell(site, "close", target, "--code", "4001", "--reason", "enough für heute")
        expect(state(page)).to_have_text("closed with code 4001, reason: enough für heute")
        # Of no use any more: the id, and the commands with it.
        expect(page.locator("pre").first).to_be_hidden()
        assert target not in page.content()
        page.get_by_role("button", name="Connect again").click()
        expect(state(page)).to_have_text("connected")
        expect(page.locator("#connection-id")).not_to_have_text(target)

    def test_over_redis_the_shell_needs_its_url(self, open_page: OpenPage, start_site: StartSite):
        site = start_site(redis=True)
        page = open_page(f"{site.url}/connection/")
        target = connection_id(page)
        commands = page.locator("pre").all_inner_texts()
        assert any(f"export REDIS_URL={site.env['REDIS_URL']}" in command for command in commands)
        shell(site, "send", target, "Hello")
        expect(log(page)).to_have_text(["textHello"])


class TestRooms:
    def test_two_people_talk_in_three_tabs(self, open_page: OpenPage, site: Server):
        room = f"{site.url}/rooms/two/"
        ada = self.enter(open_page, site, room="two", user="ada")
        assert ada.url == room
        members(ada, "ada")
        demo, again = open_page(room, user="demo"), open_page(room, user="ada")
        tabs = (ada, demo, again)
        for tab in tabs:
            members(tab, "ada, demo")

        demo.get_by_label("Message").press_sequentially("He")
        for tab in (ada, again):
            expect(typing(tab)).to_have_text("demo is typing…")
        expect(typing(demo)).to_be_empty()
        said = ["demoHello, <b>ada</b>", "adaHello, demo"]
        say(demo, "Hello, <b>ada</b>")
        expect(log(ada)).to_have_text(said[:1])
        say(ada, "Hello, demo")
        for tab in tabs:  # each once, also where it was written
            expect(log(tab)).to_have_text(said)
            expect(typing(tab)).to_be_empty()
        again.get_by_label("Message").press_sequentially("I")
        expect(typing(demo)).to_have_text("ada is typing…")
        expect(typing(ada)).to_be_empty()

        again.close()
        late = open_page(room, user="demo")
        expect(log(late)).to_have_text(said)
        ada.reload()
        expect(log(ada)).to_have_text(said)
        for tab in (ada, late):
            members(tab, "ada, demo")
        demo.close()
        self.fill_the_log(ada, late)
        late.close()
        members(ada, "ada")

    def test_another_room_hears_nothing(self, open_page: OpenPage, site: Server):
        cleo = self.enter(open_page, site, room="kitchen", user="ada")
        dan = self.enter(open_page, site, room="garden", user="demo")
        say(dan, "Anybody here?")
        expect(log(dan).last).to_have_text("demoAnybody here?")
        say(cleo, "Nobody")
        expect(log(cleo).last).to_have_text("adaNobody")
        members(cleo, "ada")
        expect(cleo.get_by_text("Anybody here?")).to_have_count(0)

    def test_a_bad_name_is_explained(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/rooms/?room=no+blanks", user="ada")
        expect(page.locator(".errorlist")).to_contain_text("Enter a valid")

    @staticmethod
    def fill_the_log(ada: Page, demo: Page) -> None:
        """On a phone the field stays in sight; who reads what is above isn't torn away."""
        ada.set_viewport_size(PHONE)
        for number in range(20):
            say(demo, f"Line {number}")
        expect(log(ada).last).to_contain_text("Line 19")
        expect(log(ada).last).to_be_in_viewport(ratio=0.9)
        expect(ada.get_by_label("Message")).to_be_in_viewport(ratio=0.9)
        ada.locator("#log").evaluate("log => log.scrollTop = 0")
        say(demo, "Line 20")
        expect(log(ada).last).to_contain_text("Line 20")
        expect(log(ada).first).to_be_in_viewport()

    @staticmethod
    def enter(open_page: OpenPage, site: Server, *, room: str, user: str) -> Page:
        page = open_page(f"{site.url}/rooms/", user=user)
        page.get_by_label("Room").fill(room)
        page.get_by_role("button", name="Enter").click()
        expect(state(page)).to_have_text("connected")
        return page


def members(page: Page, names: str) -> None:
    """Waits until a page shows who is in its room."""
    expect(page.locator("#members")).to_have_text(names)


def typing(page: Page) -> Locator:
    return page.locator("#typing")


def test_the_admin_notifies_all_tabs_of_a_user(open_page: OpenPage, site: Server):
    text = "Your parcel is there."
    tabs = [open_page(f"{site.url}/notifications/", user=name) for name in ("ada", "ada", "demo")]
    for tab in tabs:
        expect(state(tab)).to_have_text("connected")
    admin = open_page(f"{site.url}/admin/testproject/notification/add/", user="staff")
    admin.get_by_label("User").select_option("ada")
    admin.get_by_label("Text").fill(text)
    admin.get_by_role("button", name="Save", exact=True).click()
    admin.get_by_role("row", name=text).get_by_role("checkbox").check()
    admin.get_by_label("Action:").select_option("Send the selected notifications")
    admin.locator("button[name=index]").click()
    for tab in tabs[:2]:
        expect(log(tab).last).to_have_text(f"new{text}")
    tabs[0].reload()
    expect(log(tabs[0]).last).to_have_text(f"new{text}")
    expect(tabs[2].get_by_text(text)).to_have_count(0)


def rows(page: Page, *texts: str) -> Locator:
    found = page.locator("#connections tbody tr")
    for text in texts:
        found = found.filter(has_text=text)
    return found


class TestStaff:
    def test_what_is_connected_is_shown_and_reached(self, open_page: OpenPage, site: Server):
        staff = open_page(f"{site.url}/staff/", user="staff")
        expect(rows(staff, "/ws/staff")).to_have_count(1)
        tabs = [open_page(f"{site.url}/rooms/hall/", user="ada") for _ in range(2)]
        in_hall = rows(staff, "ada", "/ws/rooms/hall")
        expect(in_hall).to_have_count(2)
        staff.get_by_label("What to send").fill("Dinner is ready")
        for number in range(2):
            in_hall.nth(number).get_by_role("button", name="Send").click()
            expect(log(staff)).to_have_text(["answersend: done"] * (number + 1))
        for tab in tabs:
            expect(log(tab).last).to_have_text("staffDinner is ready")
        in_hall.first.get_by_role("button", name="Close").click()
        expect(in_hall).to_have_count(1)
        closed = "closed with code 4000, reason: Closed by staff."
        in_hall.first.get_by_role("button", name="Close").click()
        for tab in tabs:  # each once, and it doesn't come back by itself
            expect(state(tab)).to_have_text(closed)
        expect(in_hall).to_have_count(0)

    def test_what_is_old_is_told(self, open_page: OpenPage, own_site: Server, broker: Broker):
        staff = open_page(f"{own_site.url}/staff/", user="staff")
        expect(staff.locator("#count")).to_have_text("1 open")
        broker.kill()
        expect(staff.locator("#count")).to_contain_text("no answer from the channel layer")
        expect(rows(staff, "/ws/staff")).to_have_count(1)
        rows(staff, "/ws/staff").get_by_role("button", name="Send").click()
        expect(log(staff).last).to_contain_text("channel layer failed")
        broker.start()
        expect(staff.locator("#count")).to_have_text("1 open")
        expect(state(staff)).to_have_text("connected")

    def test_only_staff_sees_it(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/staff/", user="ada")
        expect(state(page)).to_contain_text("closed with code 4403")
        expect(rows(page)).to_have_count(0)
        page.get_by_role("button", name="Log out").click()
        visitor = open_page(f"{site.url}/staff/")
        expect(state(visitor)).to_contain_text("closed with code 4401")
        expect(visitor.get_by_role("link", name="Log in as staff")).to_be_visible()


@pytest.mark.timeout(120)
def test_pages_come_back_when_their_process_is_killed(open_page: OpenPage, front: Front):
    staff = open_page(f"{front.url}/staff/", user="staff")
    in_hall = rows(staff, "/ws/rooms/hall")
    tabs: list[Page] = []
    names = ["ada", "demo", "ada", *["demo"] * 7]
    # Which process a tab has is up to nginx: until each has one.
    while len(tabs) < 3 or not all(
        rows(staff, "hall", str(site.pid)).count() for site in front.sites
    ):
        tabs.append(open_page(f"{front.url}/rooms/hall/", user=names[len(tabs)]))
        expect(in_hall).to_have_count(len(tabs))
    for tab in tabs:
        members(tab, "ada, demo")

    front.sites[0].kill()
    left = str(front.sites[1].pid)
    expect(rows(staff, left)).to_have_count(len(tabs) + 1)
    expect(rows(staff)).to_have_count(len(tabs) + 1)
    tabs.append(open_page(f"{front.url}/rooms/hall/", user="ada"))
    for tab in tabs:
        expect(state(tab)).to_have_text("connected")
        members(tab, "ada, demo")
    say(tabs[0], "Still here?")
    for tab in tabs:
        expect(log(tab)).to_have_text(["adaStill here?"])


class TestPrivate:
    def test_who_is_logged_in_is_greeted_until_the_logout(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/private/")
        self.expect_visitor(page)

        page.get_by_role("link", name="Log in").click()
        log_in(page, page.url, "demo")
        expect(state(page)).to_have_text("connected")
        expect(log(page)).to_have_text(["receivedHello, demo."])
        other = open_page(f"{site.url}/private/")
        expect(state(other)).to_have_text("connected")

        page.get_by_role("button", name="Log out").click()
        self.expect_visitor(page)
        self.expect_visitor(other)

    def test_a_wrong_password_is_no_login(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/login/")
        log_in(page, page.url, "demo", "wrong")
        expect(page.locator(".errorlist")).to_contain_text("correct username and password")
        page.goto(f"{site.url}/private/")
        self.expect_visitor(page)

    def test_a_session_that_has_ended_is_refused(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/login/")
        log_in(page, page.url, "demo")
        expect(state(page)).to_have_text("connected")
        cookies = page.context.cookies()
        other = open_page(f"{site.url}/private/")
        other.get_by_role("button", name="Log out").click()
        self.expect_visitor(other)

        page.context.add_cookies(cookies)  # type: ignore[arg-type] # what it gave, it takes
        page.goto(f"{site.url}/private/")
        self.expect_visitor(page)

    @staticmethod
    def expect_visitor(page: Page) -> None:
        """One thing to do, no alarm about it, and what the server said for who wants to know."""
        expect(state(page)).to_have_text("not logged in")
        expect(state(page)).not_to_have_attribute("data-state", "closed")
        expect(log(page).last).to_have_text(re.compile("^(44|10)0"))
        expect(page.get_by_role("link", name="Log in")).to_be_visible()
        expect(page.get_by_role("button").filter(visible=True)).to_have_count(0)


PAGES = ["", "connection/", "rooms/", "rooms/lobby/", "notifications/", "staff/", "private/"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_says_what_it_shows_and_how_it_is_done(open_page: OpenPage, site: Server, path: str):
    page = open_page(f"{site.url}/{path}", user="staff")
    expect(page.locator("h1 + p")).to_be_visible()
    page.get_by_role("link", name="Its code").click()
    expect(page.locator("pre").first).to_contain_text("(GenericWebsocket)")
    expect(page.locator("pre").nth(1)).to_contain_text('from "./socket.js"')
    page.get_by_role("heading", level=1).get_by_role("link").click()
    expect(page.get_by_role("link", name="Its code")).to_be_visible()


@pytest.mark.parametrize(("debug", "names"), [("1", "['ada', 'demo', 'staff']"), ("0", "[]")])
def test_the_demo_users_are_there_only_under_debug(tmp_path: Path, debug: str, names: str):
    env = {**SETTINGS, "DATABASE": str(tmp_path / "db.sqlite3"), "DEBUG": debug}
    assert manage("migrate", "--verbosity", "0", env=env).returncode == 0
    script = (
        "from django.contrib.auth.models import User\n"
        "print([u.username for u in User.objects.order_by('username')])"
    )
    completed = manage("shell", env=env, stdin=script.encode())
    assert completed.stdout.strip().splitlines()[-1] == names, completed.stderr
