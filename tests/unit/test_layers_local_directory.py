import os
import socket
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from panther_channels.layers.local import directory as _directory
from panther_channels.layers.local.directory import Directory

NAME = "01234567"


def test_by_default_it_is_the_projects(settings, tmp_path):
    settings.BASE_DIR = tmp_path
    path = Directory().path
    assert path == Directory().path
    assert path.startswith("/tmp/panther_channels-")
    settings.BASE_DIR = str(tmp_path / "..") + f"/{tmp_path.name}"
    assert Directory().path == path
    settings.BASE_DIR = tmp_path / "other"
    assert Directory().path != path
    assert not Path(path).exists()


def test_without_base_dir(settings):
    if hasattr(settings, "BASE_DIR"):
        del settings.BASE_DIR
    with pytest.raises(ImproperlyConfigured, match="BASE_DIR, or CHANNEL_LAYERS"):
        Directory()


def test_a_path_that_is_too_long_says_what_to_set(folder):
    longest = folder / ("x" * (_directory._MAX_PATH - len(str(folder)) - 1 - 18))
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
    assert directory.changed() is None
    assert directory.names() == set()
    directory.make()
    directory.make()
    assert (folder / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_others_can_write(folder, mode):
    folder.chmod(mode)
    directory = Directory(folder)
    for call in (directory.make, directory.names, lambda: directory.listen(NAME)):
        with pytest.raises(ImproperlyConfigured, match=f"written to by others .mode {mode:04o}"):
            call()
    folder.chmod(0o755)
    directory.make()
    folder.chmod(0o700)


def test_of_another_user(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(ImproperlyConfigured, match=r"(?s)belongs to .*user 4000000's.*run this as"):
        Directory(folder).make()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_no_directory(folder, kind):
    path = folder / "x"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to(folder)
    with pytest.raises(ImproperlyConfigured, match=r"no directory|can't be made"):
        Directory(path).make()


def test_it_cant_be_made(folder):
    with pytest.raises(ImproperlyConfigured, match=r"can\'t be made.*Set CHANNEL_LAYERS"):
        Directory(folder / "missing" / "new").make()


def test_a_socket_is_seen_only_when_it_listens(folder, monkeypatch):
    directory = Directory(folder)
    names = []
    listen = socket.socket.listen

    def watched(self, backlog):
        names.append(directory.names())
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", watched)
    with directory.listen(NAME), socket.socket(socket.AF_UNIX) as client:
        assert names == [set()]
        assert directory.names() == {NAME}
        assert Path(directory.path_of(NAME)).stat().st_mode & 0o777 == 0o600
        client.connect(directory.path_of(NAME))
    directory.remove(NAME)
    directory.remove(NAME)
    assert directory.names() == set()


def test_a_failure_leaves_nothing(folder, monkeypatch):
    def fail(self, backlog):
        raise OSError("no")

    monkeypatch.setattr(socket.socket, "listen", fail)
    with pytest.raises(OSError, match="no"):
        Directory(folder).listen(NAME)
    assert list(folder.iterdir()) == []


def test_other_files_are_none_of_its_business(folder):
    directory = Directory(folder)
    for name in ("gunicorn.pid", "gunicorn.sock", "db.sqlite3", "panther-012345678", ".env"):
        (folder / name).touch()
    with directory.listen(NAME):
        assert directory.names() == {NAME}
    name = directory.new_name()
    with directory.listen(name):
        assert directory.names() == {NAME, name}
