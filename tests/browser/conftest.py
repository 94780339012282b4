"""The demo site on both servers, and pages of the system's Chromium."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import ARGUMENTS, PATIENCE, GetRedis
from tests.servers import ROOT, RunServer, Server, ServerName, manage

SETTINGS = {"DJANGO_SETTINGS_MODULE": "testproject.settings"}
OpenPage = Callable[[str], Page]
StartSite = Callable[..., Server]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for the tests of a module.

    Not for the session: Playwright's synchronous API keeps an event loop running in this thread
    for as long as it is open, and no async test could run meanwhile.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens URLs in pages of their own; fails at the end if one of them reported an error."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on(
        "console",
        lambda message: errors.append(message.text) if message.type == "error" else None,
    )

    def open_(url: str) -> Page:
        page = context.new_page()
        page.goto(url)
        return page

    yield open_
    context.close()
    assert errors == []


@pytest.fixture(scope="session")
def start_site(
    get_redis: GetRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartSite]:
    """Starts the site: with `manage.py runserver`, which is daphne, or with uvicorn.

    `start_site("daphne", redis=True)`. A server is started once and then shared. All of them have
    one database.
    """
    folder = tmp_path_factory.mktemp("site")
    settings = {**SETTINGS, "DATABASE": str(folder / "db.sqlite3")}
    migrated = manage("migrate", "--verbosity", "0", env=settings)
    assert migrated.returncode == 0, migrated.stderr
    sites: dict[tuple[ServerName, bool], Server] = {}
    with contextlib.ExitStack() as running:

        def start(name: ServerName, *, redis: bool) -> Server:
            if (name, redis) not in sites:
                env = {**settings, "REDIS_URL": get_redis().url if redis else ""}
                log_path = folder / f"{name}-{len(sites) + 1}.log"
                sites[name, redis] = running.enter_context(_build_site(name, log_path, env))
            return sites[name, redis]

        yield start


@pytest.fixture
def site(server_name: ServerName, start_site: StartSite) -> Server:
    """The site on each server in turn, as it comes: with the local channel layer."""
    return start_site(server_name, redis=False)


def _build_site(name: ServerName, log_path: Path, env: dict[str, str]) -> Server:
    if name == "daphne":
        return RunServer(ROOT / "manage.py", log_path=log_path, env=env)
    return Server(name, "testproject.asgi:application", log_path=log_path, env=env)
