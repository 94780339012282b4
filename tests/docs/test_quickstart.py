"""The quickstart, followed to the letter: a new project, its files, real servers, a terminal."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.servers import ROOT, RunServer, Server

DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets" / "quickstart"
EXAMPLE_ID = "c22a056fea6a4698a716c28b58c901c4"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the tutorial makes."""
    folder = tmp_path / "shop"
    folder.mkdir()
    run(folder, "-m", "django", "startproject", "project", ".")
    for name in ("websockets.py", "urls.py", "asgi.py"):
        (folder / "project" / name).write_text((SNIPPETS / name).read_text())
    settings = folder / "project" / "settings.py"
    apps = re.compile(r"^INSTALLED_APPS = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)
    generated = settings.read_text()
    assert apps.search(generated)
    text = apps.sub((SNIPPETS / "settings_apps.py").read_text(), generated)
    settings.write_text(text + (SNIPPETS / "settings_layer.py").read_text())
    return folder


def run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,  # what a failure says is in the assertions
    )


async def greeted(ws: ClientConnection) -> str:
    greeting = await ws.recv()
    assert isinstance(greeting, str)
    match = re.fullmatch(r"You are ([0-9a-f]{32})", greeting)
    assert match
    return match[1]


def commands() -> list[str]:
    """The `manage.py websocket` lines of the page, in their order."""
    page = (DOCS / "tutorial" / "quickstart.md").read_text().replace("\\\n", "")
    return re.findall(r"^\$ python (manage\.py websocket .*)$", page, re.MULTILINE)


def test_check_is_content(project):
    done = run(project, "manage.py", "check")
    assert (done.returncode, done.stdout) == (
        0,
        "System check identified no issues (0 silenced).\n",
    ), done.stderr


def test_only_the_import_of_asgi_py_differs(project):
    generated = project / "generated"
    generated.mkdir()
    run(generated, "-m", "django", "startproject", "project", ".")

    def is_docstring(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)

    def code(folder: Path) -> set[str]:
        body = ast.parse((folder / "project" / "asgi.py").read_text()).body
        return {ast.unparse(statement) for statement in body if not is_docstring(statement)}

    assert code(project) ^ code(generated) == {
        "from django.core.asgi import get_asgi_application",
        "from panther_channels.asgi import get_asgi_application",
    }


async def test_echo_and_reach_from_another_process(project, server_name, tmp_path):
    # PYTHONPATH stands for the installation; DJANGO_SETTINGS_MODULE is what asgi.py sets.
    environment = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "project.settings"}
    server = Server(
        server_name,
        "project.asgi:application",
        log_path=tmp_path / "server.log",
        env=environment,
        cwd=project,
    )
    with server:
        async with connect(f"ws://127.0.0.1:{server.port}/ws/echo") as ws:
            connection_id = await greeted(ws)
            await ws.send("hello")
            assert await ws.recv() == "hello"

            send, close = (line.replace(EXAMPLE_ID, connection_id) for line in commands())
            assert run(project, *words(send)).returncode == 0
            assert await ws.recv() == "hello from afar"

            shell = (SNIPPETS / "shell.py").read_text()
            shell = re.sub(r'"[0-9a-f]{32}"', f'"{connection_id}"', shell)
            done = run(project, "manage.py", "shell", stdin=shell)
            assert done.returncode == 0, done.stderr
            assert await ws.recv() == '{"from":"the shell"}'

            assert run(project, *words(close)).returncode == 0
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4000, "see you")


async def test_the_log_says_why(project, server_name, tmp_path):
    with (project / "project" / "settings.py").open("a") as settings:
        settings.write((SNIPPETS / "settings_logging.py").read_text())
    environment = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "project.settings"}
    server = Server(
        server_name,
        "project.asgi:application",
        log_path=tmp_path / "server.log",
        env=environment,
        cwd=project,
    )
    page = (DOCS / "tutorial" / "quickstart.md").read_text()
    with server:
        with pytest.raises(InvalidStatus, match="404"):
            await connect(f"ws://127.0.0.1:{server.port}/ws/eco")
        line = "No WebSocket URL matches the path '/ws/eco'."
        assert line in page
        server.wait_log(f"^{re.escape(line)}$")
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://127.0.0.1:{server.port}/ws/echo", origin=Origin("https://a.b"))
        server.wait_log("^WebSocket '/ws/echo' was refused: the origin 'https://a.b' ")


def words(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


@pytest.mark.browser
def test_the_javascript_in_a_browser(project, chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    environment = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "project.settings"}
    log_path = tmp_path / "server.log"
    server = RunServer(project / "manage.py", log_path=log_path, env=environment)
    lines: list[str] = []
    with server, sync_playwright() as playwright:
        server.wait_log("^Starting ASGI/Daphne version .* development server")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-quic"]
        )
        page = browser.new_page()
        page.on("console", lambda message: lines.append(message.text))
        page.goto(f"http://127.0.0.1:{server.port}/")
        with page.expect_console_message(lambda message: message.text == "message: hello"):
            # As a script element, for that is where a console's `const` would live.
            page.add_script_tag(content=(SNIPPETS / "console.js").read_text())
        browser.close()
    ids = [line for line in lines if re.fullmatch(r"message: You are [0-9a-f]{32}", line)]
    assert len(ids) == 1
