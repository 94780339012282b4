"""Channels that all processes share, such as those of ``manage.py runworker``, as files.

A message that is sent before anybody receives has to wait somewhere, and the process that sent it
may have ended by then. So each waits in a file, and whoever renames it has it: one receiver. That
such a channel is a member of a group is a file, too.
"""

import itertools
import os
import secrets
import time
from pathlib import Path

from panther_channels.layers._directory import GROUPS, Directory
from panther_channels.layers._losses import Losses

_PREFIX = "of-"


class Queues:
    """The queues below a directory.

    Args:
        directory: the directory of the project's sockets.
        expiry: seconds after which a message that waits is dropped.
        losses: where it is told what was dropped.
    """

    def __init__(self, directory: Directory, expiry: float, losses: Losses) -> None:
        self._directory = directory
        self._root = Path(directory.path, ".panther-queues")
        self._groups = Path(directory.path, GROUPS)
        self._expiry = expiry
        self._losses = losses
        self._numbers = itertools.count()
        self._sender = secrets.token_hex(4)

    def put(self, channel: str, payload: bytes, capacity: int) -> bool:
        """Queue a message; whether there was room for it."""
        self._directory.make()
        queue = self._path(channel)
        queue.mkdir(parents=True, exist_ok=True)
        if len(self._waiting(channel)) >= capacity:
            return False
        # Sorted by name, they are in the order of their sending.
        name = f"{time.time_ns():020d}-{self._sender}-{next(self._numbers):010d}"
        unfinished = queue / f".{name}"
        unfinished.write_bytes(payload)
        unfinished.rename(queue / name)
        return True

    def take(self, channel: str) -> bytes | None:
        """The oldest message of a channel, for this caller alone; ``None`` where there is none."""
        for name in self._waiting(channel):
            taken = self._path(channel) / f".{name}-{secrets.token_hex(4)}"
            try:
                (self._path(channel) / name).rename(taken)
            except FileNotFoundError:  # another process has it
                continue
            payload = taken.read_bytes()
            taken.unlink()
            return payload
        return None

    def group_add(self, group: str, channel: str) -> None:
        """Make a shared channel a member of a group."""
        self._directory.make()
        members = self._groups / _safe(group)
        members.mkdir(parents=True, exist_ok=True)
        (members / _safe(channel)).touch()

    def group_discard(self, group: str, channel: str) -> None:
        """Take a shared channel out of a group, if it is a member."""
        (self._groups / _safe(group) / _safe(channel)).unlink(missing_ok=True)

    def members(self, group: str) -> list[str]:
        """The shared channels in a group."""
        try:
            return [name.removeprefix(_PREFIX) for name in os.listdir(self._groups / _safe(group))]  # noqa: PTH208 - names alone
        except FileNotFoundError:
            return []

    def flush(self) -> None:
        """Drop everything that waits, and all memberships."""
        for file in (*self._root.glob("*/*"), *self._groups.glob("*/*")):
            file.unlink(missing_ok=True)

    def _path(self, channel: str) -> Path:
        return self._root / _safe(channel)

    def _waiting(self, channel: str) -> list[str]:
        try:
            names = sorted(name for name in os.listdir(self._path(channel)) if name[0] != ".")  # noqa: PTH208 - names alone
        except FileNotFoundError:
            return []
        oldest = f"{time.time_ns() - int(self._expiry * 1e9):020d}"
        expired = [name for name in names if name < oldest]
        for name in expired:
            (self._path(channel) / name).unlink(missing_ok=True)
        if expired:
            why = f"messages in {channel!r} expired after {self._expiry} s."
            self._losses.add(why, len(expired))
        return names[len(expired) :]


def _safe(name: str) -> str:
    return f"{_PREFIX}{name}"  # a channel or group may be called ".."
