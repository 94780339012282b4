import os
import re
import socket
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test.utils import _TestState

from panther_channels.layers.local.directory import Directory

NAME = "01234567"
VARIABLE = "PANTHER_CHANNELS_TEST_RUN"
_MAX_PATH = 107


def test_by_default_it_is_the_projects(settings, tmp_path):
    settings.BASE_DIR = tmp_path
    path = Directory().path
    assert path.startswith("/tmp/panther_channels-")
    settings.BASE_DIR = str(tmp_path / "..") + f"/{tmp_path.name}"
    assert Directory().path == path
    settings.BASE_DIR = tmp_path / "other"
    assert Directory().path != path
    assert not Path(path).exists()
    del settings.BASE_DIR
    with pytest.raises(ImproperlyConfigured, match="BASE_DIR, or CHANNEL_LAYERS"):
        Directory()


@pytest.mark.parametrize(
    ("argv", "environment", "ending"),
    [
        (["manage.py", "test"], {}, r"-[0-9a-f]{8}"),
        (["/srv/manage.py", "test", "app", "--parallel"], {}, r"-[0-9a-f]{8}"),
        (["/srv/venv/bin/django-admin", "test"], {}, r"-[0-9a-f]{8}"),
        (["/srv/venv/lib/django/__main__.py", "test"], {}, r"-[0-9a-f]{8}"),
        (["-c"], {"PYTEST_VERSION": "9.0.0"}, r"-[0-9a-f]{8}"),
        (["-c"], {"PYTEST_VERSION": "9.0.0", "PYTEST_XDIST_WORKER": "gw1"}, r"-[0-9a-f]{8}-gw1"),
        (["-c"], {VARIABLE: "run"}, "-run"),
        (["-c"], {VARIABLE: "run", "PYTEST_XDIST_WORKER": "gw1"}, "-run-gw1"),
        (["daphne", "-"], {VARIABLE: "run-gw1", "PYTEST_XDIST_WORKER": "gw1"}, "-run-gw1"),
        (["daphne", "test"], {}, ""),
        (["worker/__main__.py", "test"], {}, ""),
        (["manage.py", "testserver"], {}, ""),
        (["manage.py", "runserver"], {"PYTEST_XDIST_WORKER": "gw1"}, ""),
        (["manage.py"], {}, ""),
        ([], {}, ""),
    ],
)
def test_a_test_run_has_another(settings, tmp_path, monkeypatch, argv, environment, ending):
    settings.BASE_DIR = tmp_path
    monkeypatch.delattr(_TestState, "saved_data")
    for name in (VARIABLE, "PYTEST_VERSION", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", argv)
    path = Directory().path
    assert re.fullmatch(f"/tmp/panther_channels-[0-9a-f]{{16}}{ending}", path)
    assert Directory().path == path


def test_a_path_that_is_too_long_says_what_to_set(folder):
    longest = folder / ("x" * (_MAX_PATH - len(f"{folder}//.panther-{NAME}")))
    with Directory(longest).listen(NAME):
        assert Directory(longest).names() == {NAME}
    with pytest.raises(ImproperlyConfigured, match=r'(?s)too long.*\["CONFIG"\]\["directory"\]'):
        Directory(f"{longest}x")


def test_without_unix_sockets(monkeypatch, folder):
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ImproperlyConfigured, match=r"use .*\.RedisChannelLayer"):
        Directory(folder)


def test_it_is_made_for_its_user_alone(folder):
    directory = Directory(folder / "new")
    assert (directory.changed(), directory.names()) == (None, set())
    for _ in range(2):
        directory.make()
    assert (folder / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_others_can_write(folder, mode):
    folder.chmod(mode)
    directory = Directory(folder)
    for call in (directory.make, directory.names, lambda: directory.listen(NAME)):
        with pytest.raises(ImproperlyConfigured, match=f"written to by others .mode {mode:04o}"):
            call()
    folder.chmod(0o755)
    directory.make()


def test_of_another_user(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(ImproperlyConfigured, match=r"(?s)belongs to .*user 4000000's.*run this as"):
        Directory(folder).make()


def test_no_directory(folder):
    (folder / "file").touch()
    (folder / "link").symlink_to(folder)
    for name, problem in (
        ("file", "can't be made"),
        ("link", "is no directory"),
        ("missing/new", r"can't be made.*Set CHANNEL_LAYERS"),
    ):
        with pytest.raises(ImproperlyConfigured, match=problem):
            Directory(folder / name).make()


def test_a_socket_is_seen_only_when_it_listens(folder, monkeypatch):
    directory, names, listen = Directory(folder), [], socket.socket.listen

    def watched(self, backlog):
        names.append(directory.names())
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", watched)
    with directory.listen(NAME), socket.socket(socket.AF_UNIX) as client:
        assert (names, directory.names()) == ([set()], {NAME})
        assert Path(directory.path_of(NAME)).stat().st_mode & 0o777 == 0o600
        client.connect(directory.path_of(NAME))
    for _ in range(2):
        directory.remove(NAME)
    assert directory.names() == set()


def test_a_failure_leaves_nothing(folder, monkeypatch):
    monkeypatch.setattr(socket.socket, "listen", lambda _self, _backlog: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Directory(folder).listen(NAME)
    assert list(folder.iterdir()) == []


def test_other_files_are_none_of_its_business(folder):
    directory = Directory(folder)
    for name in ("gunicorn.sock", f"panther-{NAME}8", f"x-panther-{NAME}", f".panther-{NAME}"):
        (folder / name).touch()
    with directory.listen("76543210"):
        assert directory.names() == {"76543210"}
