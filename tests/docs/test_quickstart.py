"""The quickstart, followed to the letter: a new project, its files, real servers, a terminal."""

import ast
import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.pages import DOCS, block
from tests.servers import ROOT, RunServer, Server

PAGE = (DOCS / "tutorial" / "quickstart.md").read_text()
FILES = {"websockets.py": "Echo(", "urls.py": "urlpatterns", "asgi.py": "get_asgi_application"}
EXAMPLE_ID = "c22a056fea6a4698a716c28b58c901c4"
# PYTHONPATH stands for the installation; DJANGO_SETTINGS_MODULE is what asgi.py sets.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "project.settings"}


of_page = functools.partial(block, "tutorial/quickstart")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the tutorial makes."""
    folder = tmp_path / "shop"
    folder.mkdir()
    run(folder, "-m", "django", "startproject", "project", ".")
    for name, having in FILES.items():
        (folder / "project" / name).write_text(of_page(having))
    settings = folder / "project" / "settings.py"
    apps = re.compile(r"^INSTALLED_APPS = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)
    generated = settings.read_text()
    assert apps.search(generated)
    text = apps.sub(of_page("INSTALLED_APPS"), generated)
    settings.write_text(text + of_page("CHANNEL_LAYERS"))
    return folder


def run(folder: Path, *arguments: str, stdin: str = "") -> str:
    """Python in a terminal, without our settings; what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,  # what a failure says is in the assertion
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands() -> list[str]:
    """The `manage.py websocket` lines of the page, in their order."""
    page = PAGE.replace("\\\n", "")
    return re.findall(r"^\$ python (manage\.py websocket .*)$", page, re.MULTILINE)


def test_check_is_content(project):
    told = run(project, "manage.py", "check")
    assert told == "System check identified no issues (0 silenced).\n"


def test_only_the_import_of_asgi_py_differs(project):
    generated = project / "generated"
    generated.mkdir()
    run(generated, "-m", "django", "startproject", "project", ".")

    def code(folder: Path) -> set[str]:
        body = ast.parse((folder / "project" / "asgi.py").read_text()).body
        return {ast.unparse(item) for item in body if not ast.unparse(item).startswith(("'", '"'))}

    assert code(project) ^ code(generated) == {
        "from django.core.asgi import get_asgi_application",
        "from panther_channels.asgi import get_asgi_application",
    }


async def test_the_page_from_its_beginning_to_its_end(project, server_name, tmp_path):
    with (project / "project" / "settings.py").open("a") as settings:
        settings.write(of_page("LOGGING"))
    application, log_path = "project.asgi:application", tmp_path / "server.log"
    with Server(
        server_name, application, log_path=log_path, env=ENVIRONMENT, cwd=project
    ) as server:
        async with connect(f"{server.ws_url}/ws/echo") as ws:
            greeting = re.fullmatch(r"You are ([0-9a-f]{32})", str(await ws.recv()))
            assert greeting
            await ws.send("hello")
            assert await ws.recv() == "hello"

            send, close = (line.replace(EXAMPLE_ID, greeting[1]) for line in commands())
            run(project, *shlex.split(send))
            assert await ws.recv() == "hello from afar"

            shell = of_page("the shell")
            shell = re.sub(r'"[0-9a-f]{32}"', f'"{greeting[1]}"', shell)
            run(project, "manage.py", "shell", stdin=shell)
            assert await ws.recv() == '{"from":"the shell"}'

            run(project, *shlex.split(close))
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4000, "see you")

        with pytest.raises(InvalidStatus, match="404"):
            await connect(f"{server.ws_url}/ws/eco")
        line = "No WebSocket URL matches the path '/ws/eco'."
        assert line in PAGE
        server.wait_log(f"^{re.escape(line)}$")
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"{server.ws_url}/ws/echo", origin=Origin("https://a.b"))
        server.wait_log("^WebSocket '/ws/echo' was refused: the origin 'https://a.b' ")


@pytest.mark.browser
def test_the_javascript_in_a_browser(project, page, tmp_path):
    server = RunServer(project / "manage.py", log_path=tmp_path / "server.log", env=ENVIRONMENT)
    lines: list[str] = []
    with server:
        server.wait_log("^Starting ASGI/Daphne version .* development server")
        page.on("console", lambda message: lines.append(message.text))
        page.goto(f"{server.url}/")
        with page.expect_console_message(lambda message: message.text == "message: hello"):
            # As a script element, for that is where a console's `const` would live.
            page.add_script_tag(content=of_page("ws.onopen"))
    ids = [line for line in lines if re.fullmatch(r"message: You are [0-9a-f]{32}", line)]
    assert len(ids) == 1
