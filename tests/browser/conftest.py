"""The demo site on runserver, or on uvicorn behind nginx, and pages of the system's Chromium."""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tests.broker import Broker
from tests.conftest import PATIENCE, GetRedis, missing
from tests.servers import ROOT, Process, RunServer, Server, free_port, manage

SETTINGS = {"DJANGO_SETTINGS_MODULE": "testproject.settings"}
OpenPage = Callable[..., Page]
StartSite = Callable[..., Server]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens URLs in pages of their own: `open_page(url, user="ada")`, who is logged in.

    Fails at the end if one of them reported an error.
    """
    contexts: dict[str, BrowserContext] = {}
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # That a server can't be reached is nothing that a page can help; the admin has no icon.
        is_meant = "WebSocket connection to" not in message.text
        if message.type == "error" and is_meant and "favicon" not in message.location["url"]:
            errors.append(message.text)

    def open_(url: str, user: str = "") -> Page:
        if (context := contexts.get(user)) is None:
            context = contexts[user] = browser.new_context()
            context.set_default_timeout(PATIENCE)
            context.on("weberror", lambda error: errors.append(str(error.error)))
            context.on("console", heard)
            if user:
                page = context.new_page()
                log_in(page, urljoin(url, "/login/"), user)
                page.wait_for_url("**/private/")
                page.close()
        page = context.new_page()
        page.goto(url)
        return page

    yield open_
    for context in contexts.values():
        context.close()
    assert errors == []


def log_in(page: Page, url: str, name: str, password: str = "") -> None:
    """Logs in one of the demo users, whose password is the name."""
    page.goto(url)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password or name)
    page.get_by_role("button", name="Log in").click()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the site with nothing in it but the demo users, to be copied."""
    path: Path = tmp_path_factory.mktemp("migrated") / "db.sqlite3"
    done = manage("migrate", "--verbosity", "0", env={**SETTINGS, "DATABASE": str(path)})
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="session")
def start_site(
    get_redis: GetRedis, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartSite]:
    """Starts the site with `manage.py runserver`, which is daphne: `start_site(redis=True)`.

    A server is started once and then shared. All of them have one database.
    """
    folder = tmp_path_factory.mktemp("site")
    settings = {**SETTINGS, "DATABASE": str(shutil.copy(migrated, folder))}
    with contextlib.ExitStack() as running:

        @functools.cache
        def start(*, redis: bool) -> Server:
            env = {**settings, "REDIS_URL": get_redis().url if redis else ""}
            site = RunServer(ROOT / "manage.py", log_path=folder / f"{redis}.log", env=env)
            return running.enter_context(site)

        yield start


@pytest.fixture
def site(start_site: StartSite) -> Server:
    """The site as it comes: with the local channel layer."""
    return start_site(redis=False)


@pytest.fixture
def own_site(migrated: Path, broker: Broker, tmp_path: Path) -> Iterator[Server]:
    """The site of one test, on uvicorn, over a Redis that may go away."""
    database = shutil.copy(migrated, tmp_path)
    env = {**SETTINGS, "DATABASE": str(database), "REDIS_URL": broker.url}
    application, log_path = "testproject.asgi:application", tmp_path / "site.log"
    with Server("uvicorn", application, log_path=log_path, env=env) as site:
        yield site


class Front(Process):
    """nginx before two processes of the site, of which one may be killed."""

    def __init__(self, folder: Path, sites: list[Server]) -> None:
        self.sites = sites
        self._chosen_port = free_port()
        servers = "".join(f"server {site.host}:{site.port};" for site in sites)
        user = "user root;\n" if os.geteuid() == 0 else ""
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(f"""
            {user}daemon off; worker_processes 1; pid {folder}/nginx.pid;
            events {{}}
            http {{
                {paths} access_log off;
                upstream site {{ least_conn; {servers} }}
                map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
                server {{
                    listen 127.0.0.1:{self._chosen_port};
                    location / {{
                        proxy_pass http://site;
                        proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection $connection_upgrade;
                    }}
                }}
            }}""")
        program = shutil.which("nginx", path="/usr/sbin:" + os.environ["PATH"])
        if program is None:
            missing("nginx-light")
        command = (program, "-c", str(folder / "nginx.conf"), "-e", "stderr")
        super().__init__(command, log_path=folder / "nginx.log", cwd=folder)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        return self.port == self._chosen_port


@pytest.fixture
def front(migrated: Path, tmp_path: Path, folder: Path) -> Iterator[Front]:
    """Two processes of the site on uvicorn, behind nginx."""
    database = shutil.copy(migrated, tmp_path)
    env = {**SETTINGS, "DATABASE": str(database), "SECRET_KEY": "shared" * 10}
    application = "testproject.asgi:application"
    with contextlib.ExitStack() as running:
        sites = [
            Server("uvicorn", application, log_path=tmp_path / f"{number}.log", env=env)
            for number in range(2)
        ]
        for site in sites:
            running.enter_context(site)
        yield running.enter_context(Front(folder, sites))
