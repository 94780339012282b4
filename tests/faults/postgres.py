"""A real PostgreSQL of the tests' own, which they may break."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from tests.conftest import missing
from tests.servers import Process, free_port

USER = "site"


def program(name: str) -> str:
    """The path of a program of PostgreSQL, which Debian keeps out of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ["PATH"], *map(str, places)])
    return shutil.which(name, path=path) or missing("postgresql")


def unprivileged() -> list[str]:
    """What a command begins with so that it isn't run by root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return []
    account = _account()
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def new_cluster() -> Path:
    """A new cluster in a folder of its own, without passwords; whoever asked removes it."""
    folder = Path(tempfile.mkdtemp(prefix="pc-postgres-", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(folder, _account().pw_uid, _account().pw_gid)
    command = [
        *(*unprivileged(), program("initdb"), "--pgdata", str(folder), "--username", USER),
        *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=60)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return folder


class PostgresServer(Process):
    """A PostgreSQL server on a cluster, at an address that a restart keeps.

    Args:
        folder: its cluster.
        log_path: where its log goes.
    """

    def __init__(self, folder: Path, *, log_path: Path) -> None:
        self.port = free_port()
        command = (
            *(*unprivileged(), program("postgres"), "-D", str(folder), "-p", str(self.port)),
            *("-c", f"listen_addresses={self.host}", "-c", "unix_socket_directories="),
            *("-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=40"),
        )
        super().__init__(command, log_path=log_path, cwd=folder.parent)
        self._address = int(command[command.index("-p") + 1])

    def settings(self) -> dict[str, Any]:
        """What Django's DATABASES has of it."""
        engine = {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres"}
        return {**engine, "HOST": self.host, "PORT": self._address, "USER": USER}

    def query(self, sql: str, *arguments: Any) -> Any:
        """The first column of the first row of an answer."""
        with psycopg.connect(
            host=self.host, port=self._address, user=USER, dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(sql, arguments)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def backends(self, name: str) -> int:
        """How many connections an application has."""
        counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        return int(self.query(counted, name))

    def crash(self) -> None:
        """What `pg_ctl stop -m immediate` does: all connections end without a word."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)

    def terminate(self, timeout: float = 20.0) -> int:
        """Not by SIGTERM, with which PostgreSQL waits for its clients to leave."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout)
        finally:
            self.kill()

    def _is_ready(self) -> bool:
        self.port = self._address
        try:
            return bool(self.query("SELECT 1") == 1)
        except psycopg.OperationalError:
            return False
