"""The private directory in which the sockets of a project's processes lie."""

import hashlib
import os
import re
import secrets
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from panther_channels.exceptions import ChannelLayerError
from panther_channels.layers.local import test_run

# Bytes of a Unix socket's path: sun_path less the zero at its end.
_MAX_PATH = 107 if sys.platform.startswith("linux") else 103
# The directory may hold other files, which are none of our business.
_OURS = re.compile(r"panther-([0-9a-f]{8})", re.ASCII)
_LONGEST_NAME = len("/.panther-01234567")
_SETTING = 'CHANNEL_LAYERS[...]["CONFIG"]["directory"]'


class UnusableDirectoryError(ImproperlyConfigured, ChannelLayerError):
    """For who sends from outside a mistake in the settings; for a connection, trouble of the layer.

    That is logged once for many clients, who are told to try again later.
    """

    __str__ = Exception.__str__  # it is clear by itself


class Directory:
    """Finds, makes and checks it.

    Args:
        path: where it is; by default derived from ``BASE_DIR``, below ``/tmp``, and another one in
            each test run.

    Raises:
        ImproperlyConfigured: there are no Unix sockets here, the path is too long for one, or
            there is no ``BASE_DIR`` to derive it from.
    """

    def __init__(self, path: Any = None) -> None:
        if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
            raise UnusableDirectoryError(
                "LocalChannelLayer needs Unix sockets, which this system doesn't have: use "
                "panther_channels.layers.RedisChannelLayer."
            )
        self.path = str(Path(path).absolute()) if path else _default()
        if (size := len(os.fsencode(self.path)) + _LONGEST_NAME) > _MAX_PATH:
            raise UnusableDirectoryError(
                f"{self.path!r} is too long for the sockets of LocalChannelLayer: with their names "
                f"{size} bytes, of {_MAX_PATH} that the system allows. Set {_SETTING} to a shorter "
                "one."
            )

    def make(self) -> None:
        """Make it where it is missing.

        Raises:
            ImproperlyConfigured: it can't be made, or is not safe.
        """
        try:
            Path(self.path).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UnusableDirectoryError(
                f"The directory of LocalChannelLayer can't be made: {error}. Set {_SETTING} to one "
                "that can."
            ) from error
        self.names()

    def changed(self) -> int | None:
        """When it changed last, in nanoseconds; ``None`` where it doesn't exist.

        That is when something in it came or went, and when somebody else could write to it.
        """
        try:
            return os.lstat(self.path).st_ctime_ns
        except FileNotFoundError:
            return None

    def names(self) -> set[str]:
        """The nodes whose sockets are in it.

        Raises:
            ImproperlyConfigured: it is not safe.
        """
        try:
            found = os.lstat(self.path)
            problem = _problem(self.path, found)
            if problem is not None:
                raise UnusableDirectoryError(problem)
            names = map(_OURS.fullmatch, os.listdir(self.path))  # noqa: PTH208 - it is often read
            return {name[1] for name in names if name is not None}
        except FileNotFoundError:
            return set()

    def new_name(self) -> str:
        """A name for a node, of which there is no socket."""
        while Path(self.path_of(name := secrets.token_hex(4))).exists():
            pass
        return name

    def path_of(self, name: str) -> str:
        """The path of a node's socket."""
        return f"{self.path}/panther-{name}"

    def remove(self, name: str) -> None:
        """Remove a node's socket, if it is there and the directory can be written to."""
        with suppress(OSError):
            Path(self.path_of(name)).unlink()

    def listen(self, name: str) -> socket.socket:
        """A new socket of a node that listens; one of the same name is replaced."""
        self.make()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Under another name until it listens: connecting before that is refused, and who is refused
        # takes a process for dead.
        unfinished = f"{self.path}/.panther-{name}"
        try:
            listener.bind(unfinished)
            Path(unfinished).chmod(0o600)
            listener.listen(4096)
            listener.setblocking(False)
            Path(unfinished).rename(self.path_of(name))
        except BaseException:
            listener.close()
            Path(unfinished).unlink(missing_ok=True)
            raise
        return listener


def _default() -> str:
    base = getattr(settings, "BASE_DIR", None)
    if base is None:
        raise UnusableDirectoryError(
            "LocalChannelLayer needs a directory that all processes of the project find: set "
            f"BASE_DIR, or {_SETTING}."
        )
    project = hashlib.sha256(os.fsencode(Path(base).resolve())).hexdigest()[:16]
    names = filter(None, ("panther_channels", project, test_run.name()))
    # Not the TMPDIR of tempfile.gettempdir(): a shell's may differ from the server's.
    return f"/tmp/{'-'.join(names)}"  # noqa: S108 - whose it is, is checked


def _problem(path: str, found: os.stat_result) -> str | None:
    directory = f"The directory {path!r} of LocalChannelLayer"
    if not stat.S_ISDIR(found.st_mode):
        return f"{directory} is no directory: remove it, or set {_SETTING} to another."
    if found.st_uid != os.geteuid():
        owner, user = _user(found.st_uid), _user(os.geteuid())
        return (
            f"{directory} belongs to {owner}, and this process is {user}'s. If it is that of the "
            f"project's server, run this as {owner}; else set {_SETTING} to another."
        )
    if not found.st_mode & 0o022:
        return None
    return (
        f"{directory} can be written to by others (mode {stat.S_IMODE(found.st_mode):04o}), who "
        f"could read and send everything: chmod 0700 it, or set {_SETTING} to another."
    )


def _user(uid: int) -> str:
    import pwd  # only where there are Unix users

    try:
        return repr(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return f"user {uid}"
