"""The demo site as somebody sees it who opens it in a browser."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import SETTINGS, OpenPage, StartSite
from tests.conftest import PATIENCE
from tests.servers import Server, manage

pytestmark = pytest.mark.browser

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
        page.get_by_role("button", name="Connect again").click()
        expect(state(page)).to_have_text("connected")
        expect(page.locator("#connection-id")).not_to_have_text(target)

    def test_over_redis_the_shell_needs_its_url(self, open_page: OpenPage, start_site: StartSite):
        site = start_site("daphne", redis=True)
        page = open_page(f"{site.url}/connection/")
        target = connection_id(page)
        commands = page.locator("pre").all_inner_texts()
        assert any(f"export REDIS_URL={site.env['REDIS_URL']}" in command for command in commands)
        shell(site, "send", target, "Hello")
        expect(log(page)).to_have_text(["textHello"])


class TestRooms:
    def test_two_people_talk(self, open_page: OpenPage, site: Server):
        ada = self.enter(open_page, site, room="lobby", name="Ada")
        expect(log(ada)).to_have_text(["Ada came in"])
        bob = self.enter(open_page, site, room="lobby", name="Bob & Co")
        expect(log(ada)).to_have_text(["Ada came in", "Bob & Co came in"])
        say(bob, "Hello, Ada")
        expect(log(ada).last).to_have_text("Bob & CoHello, Ada")
        say(ada, "Hello, Bob")
        expect(log(bob)).to_have_text(["Bob & Co came in", "Bob & CoHello, Ada", "AdaHello, Bob"])
        bob.close()
        expect(log(ada).last).to_have_text("Bob & Co left")

    def test_another_room_hears_nothing(self, open_page: OpenPage, site: Server):
        cleo = self.enter(open_page, site, room="kitchen", name="Cleo")
        dan = self.enter(open_page, site, room="garden", name="Dan")
        say(dan, "Anybody here?")
        expect(log(dan).last).to_have_text("DanAnybody here?")
        say(cleo, "Nobody")
        expect(log(cleo)).to_have_text(["Cleo came in", "CleoNobody"])

    def test_a_bad_name_is_explained(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/rooms/?room=no+blanks&name=Ada")
        expect(page.locator(".errorlist")).to_contain_text("Enter a valid")

    @staticmethod
    def enter(open_page: OpenPage, site: Server, *, room: str, name: str) -> Page:
        page = open_page(f"{site.url}/rooms/")
        page.get_by_label("Room").fill(room)
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Enter").click()
        expect(state(page)).to_have_text("connected")
        return page


class TestPrivate:
    def test_who_is_logged_in_is_greeted_until_the_logout(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/private/")
        refused = "closed with code 4403, reason: Permission Denied"
        expect(state(page)).to_have_text(refused)

        page.get_by_role("link", name="Log in").click()
        self.log_in(page, "demo", "demo")
        expect(state(page)).to_have_text("connected")
        expect(log(page)).to_have_text(["receivedHello, demo."])

        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("link", name="Log in")).to_be_visible()
        expect(state(page)).to_have_text(refused)
        expect(log(page)).to_have_count(0)

    def test_a_wrong_password_is_no_login(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/login/")
        self.log_in(page, "demo", "wrong")
        expect(page.locator(".errorlist")).to_contain_text("correct username and password")
        page.goto(f"{site.url}/private/")
        expect(state(page)).to_contain_text("4403")

    def test_a_session_that_has_ended_is_refused(self, open_page: OpenPage, site: Server):
        page = open_page(f"{site.url}/login/")
        self.log_in(page, "demo", "demo")
        expect(state(page)).to_have_text("connected")
        cookies = page.context.cookies()
        other = open_page(f"{site.url}/private/")
        other.get_by_role("button", name="Log out").click()
        expect(state(other)).to_contain_text("4403")

        page.context.add_cookies(cookies)  # type: ignore[arg-type] # what it gave, it takes
        page.goto(f"{site.url}/private/")
        expect(state(page)).to_contain_text("4403")

    @staticmethod
    def log_in(page: Page, username: str, password: str) -> None:
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize(("debug", "names"), [("1", "['demo']"), ("0", "[]")])
def test_the_demo_user_is_there_only_under_debug(tmp_path: Path, debug: str, names: str):
    env = {**SETTINGS, "DATABASE": str(tmp_path / "db.sqlite3"), "DEBUG": debug}
    assert manage("migrate", "--verbosity", "0", env=env).returncode == 0
    script = (
        "from django.contrib.auth.models import User\n"
        "print([u.username for u in User.objects.all() if not u.is_staff])"
    )
    completed = manage("shell", env=env, stdin=script.encode())
    assert completed.stdout.strip().splitlines()[-1] == names, completed.stderr
