"""A test run and the processes that it starts have a directory of the local layer of their own."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.conftest import StartServer
from tests.servers import ServerName, manage, python, with_settings

# A runner that has no name, and doesn't look at the channel layer either.
SCRIPT = """
import django; django.setup()
from django.test.runner import DiscoverRunner
DiscoverRunner.run_checks = lambda *_: None
raise SystemExit(DiscoverRunner(verbosity=0).run_tests(["tests.integration.tested.LiveTests"]))
"""
# One run has a server of every kind; what the others have to show is that they are known as one.
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k")
IN_DJANGO = ("manage.py", "test", "--verbosity", "0")
TESTED, MODULE = "tests/integration/tested.py", "tests.integration.tested"
# Workers of Django may have no children but subprocesses.
SUBPROCESSES = (f"{MODULE}.DaphneTests", f"{MODULE}.UvicornTests")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("developers", "runner", "tests", "workers"),
    [
        ("daphne", (*IN_DJANGO, MODULE), 5, 1),
        ("uvicorn", (*IN_DJANGO, "--parallel", "2", *SUBPROCESSES), 2, 2),
        ("daphne", (*PYTEST, "Forked or Live", TESTED), 2, 1),
        ("uvicorn", (*PYTEST, "Daphne or Spawned", TESTED, "-n2", "--dist", "loadscope"), 2, 2),
        ("daphne", ("-c", SCRIPT), 1, 1),
    ],
)
async def test_a_test_run_meets_nobody_else(
    developers: ServerName,
    runner: tuple[str, ...],
    tests: int,
    workers: int,
    folder: Path,
    start_server: StartServer,
    monkeypatch: pytest.MonkeyPatch,
):
    # What tells that we are a test run ourselves.
    for name in [name for name in os.environ if name.startswith(("PYTEST", "PANTHER_CHANNELS"))]:
        monkeypatch.delenv(name)
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db.sqlite3")}
    env = with_settings(
        BASE_DIR=str(folder),
        CHANNEL_LAYERS={"default": {"BACKEND": "panther_channels.layers.LocalChannelLayer"}},
        DATABASES={"default": {**database, "TEST": {"NAME": str(folder / "test.sqlite3")}}},
    )
    server = start_server(developers, env=env)
    async with connect(f"{server.ws_url}/ws/id") as client:
        connection_id, report = str(await client.recv()), folder / "report"
        env |= {"DEVELOPER": connection_id, "REPORT": str(report)}
        done = await asyncio.to_thread(python, *runner, env=env)
        assert done.returncode == 0, done.stdout + done.stderr

        await asyncio.to_thread(manage, "websocket", "send", connection_id, "by hand", env=env)
        assert await asyncio.wait_for(client.recv(), 20) == "by hand"
    check_directories(report.read_text().splitlines(), tests, workers)


def check_directories(lines: list[str], tests: int, workers: int) -> None:
    """Each line has a process and the directory in which a test of it has met its server."""
    assert len(lines) == tests
    directories = {line.partition(" ")[2] for line in lines}
    assert len({*lines}) == len(directories) == workers
    assert not any(Path(path).exists() for path in directories)
    (developers,) = {"-".join(path.split("-")[:2]) for path in directories}
    shutil.rmtree(developers)
