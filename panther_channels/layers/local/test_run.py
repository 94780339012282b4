"""The test run that a process belongs to, if any: it must meet neither servers nor other runs.

Its name stands in the environment, so that it holds for all that a test starts: a server in a
subprocess, one that is forked or spawned, a management command.
"""

import atexit
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

_VARIABLE = "PANTHER_CHANNELS_TEST_RUN"


def begin(**_kwargs: Any) -> None:
    """Name the run, if this is a test runner.

    Called when Django is set up, and for a runner that is known late when it makes its databases:
    before any test starts a process.
    """
    if name() and (_is_test_command() or "django.test.runner" in sys.modules):
        from django.test.runner import ParallelTestSuite

        # Its workers are forks, and start processes before they come here by themselves.
        ParallelTestSuite.init_worker = _init_worker


def name() -> str:
    """What the run is called; empty where there is none."""
    run = os.environ.get(_VARIABLE, "")
    if not run and _is_test_runner():
        run = os.environ[_VARIABLE] = secrets.token_hex(4)
        atexit.register(_remove_directories, run, os.getpid())
    worker = _worker()
    # Each has a database of its own: the same primary key is another user there.
    if run and worker and worker not in run.split("-"):
        run = os.environ[_VARIABLE] = f"{run}-{worker}"
    return run


def _is_test_runner() -> bool:
    # pytest 8.2 sets it when it starts. The last is what Django does for all runners, though late.
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return "PYTEST_VERSION" in os.environ or _is_test_command() or hasattr(state, "saved_data")


def _is_test_command() -> bool:
    return sys.argv[1:2] == ["test"] and sys.argv[0].endswith(
        ("manage.py", "django-admin", "django/__main__.py")
    )


def _worker() -> str:
    # Django numbers its workers from 1.
    number = getattr(sys.modules.get("django.test.runner"), "_worker_id", 0)
    return str(number or os.environ.get("PYTEST_XDIST_WORKER", ""))


def _init_worker(*args: Any) -> None:
    from django.test import runner

    runner._init_worker(*args)  # type: ignore[attr-defined]  # noqa: SLF001
    name()


def _remove_directories(run: str, owner: int) -> None:
    if os.getpid() == owner:  # not where a fork of it ends
        for path in Path("/tmp").glob(f"panther_channels-*-{run}*"):  # noqa: S108
            shutil.rmtree(path, ignore_errors=True)
