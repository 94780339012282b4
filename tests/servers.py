"""Real servers for tests: daphne, uvicorn and redis-server as processes of their own on 127.0.0.1.

A server picks its port itself, and is asked for it through the process table: what its log says
about the port depends on the server, on its command and on the logging of the project.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import psutil

ROOT = Path(__file__).resolve().parent.parent
POLL_INTERVAL = 0.01
# Generous, since a loaded machine is not a failure; a server normally needs half a second.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0

ServerName = Literal["daphne", "uvicorn", "picows"]
SERVER_NAMES: tuple[ServerName, ...] = ("daphne", "uvicorn")
# uvicorn with our own protocol, where frames and handshakes are what is tested.
ALL_SERVERS: tuple[ServerName, ...] = (*SERVER_NAMES, "picows")

_UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "0")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "daphne": ("-m", "daphne", "-b", "127.0.0.1", "-p", "0"),
    "uvicorn": _UVICORN,
    "picows": (*_UVICORN, "--ws", "panther_channels.servers.picows:PicowsProtocol"),
}


class ServerError(AssertionError):
    """A process under test did not do what was waited for; the text ends with its log."""


class Process:
    """A process that listens on a TCP port of 127.0.0.1, its output in a file.

    It is a context manager, which kills whatever is left at the end.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.command = tuple(command)
        self.log_path = log_path
        self.env = dict(env or {})
        self.cwd = cwd
        self.port = 0
        # Open descriptors that it inherits.
        self.pass_fds: Sequence[int] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def mark(self) -> int:
        """The length of the log now; for wait_log() on a server that other tests used before."""
        return len(self.log)

    def start(self) -> Self:
        """Returns when the process answers.

        Raises:
            ServerError: It ended, or did not answer within START_TIMEOUT seconds.
        """
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: kill() reaches its workers, Ctrl-C in the terminal does not.
                start_new_session=True,
                pass_fds=self.pass_fds,
            )
        try:
            self._wait_ready(time.monotonic() + START_TIMEOUT)
        except BaseException:
            self.kill()
            raise
        return self

    def wait_log(self, pattern: str, timeout: float = 10.0, *, since: int = 0) -> re.Match[str]:
        """Waits until the regular expression is found in the log, looking from `since` on.

        Raises:
            ServerError: The process ended without it, or `timeout` seconds passed.
        """
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern, re.MULTILINE)
        while True:
            # Asked first, so that what a process writes as its last line is found as well.
            ended = self.process.poll() is not None
            if match := expression.search(self.log, since):
                return match
            if ended or time.monotonic() > deadline:
                raise self._failure(f"log {pattern!r}")
            time.sleep(POLL_INTERVAL)

    def terminate(self, timeout: float = STOP_TIMEOUT) -> int:
        """Sends SIGTERM, and returns the exit code (negative: the signal that ended it).

        Raises:
            ServerError: The process was still there after `timeout` seconds; it is killed then.
        """
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failure(f"end within {timeout} s of SIGTERM") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """Kills the process and its workers; does nothing when they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def memory(self) -> int:
        """Resident bytes of the process."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        # By SIGTERM, for only then the coverage of a Python process is written.
        self.terminate()

    def _wait_ready(self, deadline: float) -> None:
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self._failure("answer a request")
            time.sleep(POLL_INTERVAL)

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _listening_port(self) -> int:
        try:
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
            connections = [entry for member in family for entry in member.net_connections("tcp")]
        except psutil.Error:
            return 0
        ports = {entry.laddr.port for entry in connections if entry.status == psutil.CONN_LISTEN}
        return ports.pop() if len(ports) == 1 else 0

    def _answer(self, request: bytes) -> bytes:
        with socket.create_connection((self.host, self.port), START_TIMEOUT) as connection:
            connection.sendall(request)
            return connection.recv(16)

    def _failure(self, doing: str) -> ServerError:
        returncode = self.process.poll()
        how = "is running" if returncode is None else f"ended with {returncode}"
        return ServerError(
            f"{' '.join(self.command)}\nnever did: {doing}; it {how}; its log:\n{self.log}"
        )


class Server(Process):
    """A web server, by its plain command line; the application's module is found from `cwd`."""

    def __init__(
        self, name: ServerName, application: str, *, args: Sequence[str] = (), **options: Any
    ) -> None:
        self.name = name
        super().__init__((sys.executable, *_COMMANDS[name], *args, application), **options)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        request = f"GET / HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n\r\n"
        return self.port != 0 and self._answer(request.encode()).startswith(b"HTTP/1.")


class RunServer(Server):
    """`manage.py runserver`, without the reloader, which would be a second process."""

    def __init__(self, manage: Path, **options: Any) -> None:
        super().__init__("daphne", "", cwd=manage.parent, **options)
        self.command = (sys.executable, str(manage), "runserver", "--noreload", "127.0.0.1:0")


class RedisServer(Process):
    """An empty redis-server that keeps nothing; a fixed port is for a restart at its address."""

    def __init__(self, *, log_path: Path, port: int = 0, args: Sequence[str] = ()) -> None:
        # For Redis port 0 means no TCP at all, so a free one has to be found here.
        self._chosen_port = port or free_port()
        command = (
            *(shutil.which("redis-server") or "redis-server", "--bind", self.host),
            *("--port", str(self._chosen_port), "--save", "", "--appendonly", "no"),
            *args,
        )
        super().__init__(command, log_path=log_path, cwd=log_path.parent)

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def _is_ready(self) -> bool:
        # The pid is asked first: another process's Redis on this port must not pass for ours.
        self.port = self._listening_port()
        if self.port != self._chosen_port:
            return False
        return self._answer(b"PING\r\n") == b"+PONG\r\n"


def python(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    before: Sequence[str] = (),
    stdout: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Runs Python with tests/project, or the settings in `env`; `before` stands before it."""
    known = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.project.settings"}
    completed = subprocess.run(
        [*before, sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **known, **(env or {})},
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=50,
        check=False,
    )
    told, errors = (completed.stdout or b"").decode(), completed.stderr.decode()
    return subprocess.CompletedProcess(completed.args, completed.returncode, told, errors)


def manage(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a management command."""
    return python("manage.py", *arguments, **options)


def with_settings(**settings: Any) -> dict[str, str]:
    """The environment of a server of tests/project that has other settings."""
    return {"SETTINGS": json.dumps(settings)}


def misbehaving(**settings: Any) -> dict[str, str]:
    """The same for the WebSockets of tests/faults."""
    return with_settings(WS_URLS="tests.faults.websockets.websocket_urls", **settings)


def over_core(url: str, **config: Any) -> dict[str, str]:
    """The same over channels_redis.core, set as it has to be but for `config`."""
    # redis-py's default of 5 s is as long as this layer waits for a message.
    hosts = [{"address": url, "socket_timeout": None}]
    known = {"hosts": hosts, "capacity": 5000, **config}
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": known}
    return with_settings(CHANNEL_LAYERS={"default": layer})


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago.

    Not one that the kernel gives away: while a Redis is away, its clients go on asking for it
    there, and nobody else may have its port.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def suspended(process: Server | RedisServer) -> Iterator[None]:
    """It does nothing for a while, and its connections stay: a machine without memory."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
