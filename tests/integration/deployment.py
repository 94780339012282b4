"""Deployments of docs/howto/deploy.md: its files are read, and run with other paths and ports.

What stands in for systemd is as small as possible: the command line, the environment, the limit of
open files, the socket as descriptor 3 and the time to stop are those of the unit.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.pages import block
from tests.servers import ROOT, Process, RedisServer, free_port

_LAUNCH = Path(__file__).parent / "deployed" / "launch.py"

_SETTINGS = """
from tests.project.settings import *

WS_URLS = "tests.integration.deployed.urls.websocket_urls"
ROOT_URLCONF = "tests.integration.deployed.urls"
ASGI_APPLICATION = "project.asgi.application"
# So that it is nginx which has to strip that header.
WS_TRUST_DAPHNE_ROOT_PATH = True
"""


def read(having: str, replacements: Mapping[str, str]) -> str:
    """The file of the page that has a text in it, with each key replaced, which must be there."""
    text = block("howto/deploy", having)
    for old, new in replacements.items():
        assert old in text, f"{old!r} is not beside {having}"
        text = text.replace(old, new)
    return text


class Site:
    """A Django project named `project`, and the port that nginx finds it at.

    Args:
        folder: Where it is made; the page has it in /srv/project.
        settings: Python code after the settings of tests/project.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        package = folder / "project"
        package.mkdir()
        (package / "__init__.py").touch()
        proxy = block("howto/deploy", "SECURE_PROXY_SSL_HEADER")
        (package / "settings.py").write_text(_SETTINGS + proxy + settings)
        (package / "asgi.py").write_text(block("tutorial/quickstart", "panther_channels.asgi"))
        manage = (ROOT / "manage.py").read_text()
        (folder / "manage.py").write_text(manage.replace("testproject", "project"))

    def outside(self, connection_id: str) -> None:
        """Runs the commands from outside, which send to a connection and then close it."""
        replacements = {
            "/srv/project": str(self.folder),
            "sudo -u project ": "",
            "venv/bin/python": sys.executable,
            " ID ": f" {connection_id} ",
        }
        done = subprocess.run(
            ["bash", "-ec", read("sudo -u project", replacements)],
            env={**_environment(), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done


class Logged(Process):
    """A process whose log says when it is ready: it has `ready` in it, `count` times."""

    ready: str
    count = 1

    def _is_ready(self) -> bool:
        return self.log.count(self.ready) >= self.count


class Unit(Logged):
    """What a unit starts, running as long as the context lasts.

    Args:
        site: What it serves.
        name: The file of the unit.
        ready: What the log says when it accepts connections.
        count: How often the log says that: as often as there are workers.
        listener: The socket of the unit's socket.
        replacements: More of them, besides paths and port.
    """

    def __init__(
        self,
        site: Site,
        name: str,
        *,
        log_path: Path,
        ready: str,
        count: int = 1,
        listener: socket.socket | None = None,
        replacements: Mapping[str, str] | None = None,
    ) -> None:
        port = {} if listener else {"8000": str(site.port)}
        paths = {
            "/srv/project/venv/bin": str(Path(sys.executable).parent),
            "WorkingDirectory=/srv/project": f"WorkingDirectory={site.folder}",
        }
        unit = _service(
            read(f"/etc/systemd/system/{name}\n", {**paths, **port, **(replacements or {})})
        )
        self.unit = unit
        self.ready, self.count = ready, count
        fd = -1 if listener is None else listener.fileno()
        launch = (sys.executable, "-I", "-S", str(_LAUNCH), unit["LimitNOFILE"], str(fd))
        command = (*launch, *shlex.split(unit["ExecStart"]))
        variable, _, value = unit["Environment"].partition("=")
        env = {"PYTHONPATH": str(ROOT), variable: value}
        folder = Path(unit["WorkingDirectory"])
        super().__init__(command, log_path=log_path, env=env, cwd=folder)
        self.pass_fds = () if listener is None else (fd,)

    def stop(self) -> int:
        """Stops it as systemd does; longer than TimeoutStopSec is an error."""
        return self.terminate(float(self.unit["TimeoutStopSec"]))


class Nginx(Process):
    """The front door: nginx with the page's configuration, on a port of its own."""

    def __init__(
        self, site: Site, folder: Path, *, certificate: Path, changes: Mapping[str, str]
    ) -> None:
        self.front = free_port()
        changes = {
            **changes,
            "listen 443 ssl": f"listen {self.host}:{self.front} ssl",
            "/etc/ssl/project": str(certificate),
            "127.0.0.1:8000": f"127.0.0.1:{site.port}",
            "/srv/project": str(folder),
        }
        (folder / "project.conf").write_text(read("nginx/conf.d", changes))
        # Its workers have to read our files.
        user = "user root;\n" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\n"
            "error_log stderr notice;\nevents {}\n"
            f"http {{\n{_own_paths(folder)}include {folder}/project.conf;\n}}\n"
        )
        program = shutil.which("nginx", path="/usr/sbin:" + os.environ["PATH"]) or "nginx"
        command = (program, "-c", str(folder / "nginx.conf"), "-e", "stderr")
        super().__init__(command, log_path=folder / "nginx.log", cwd=folder)

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        return self.port == self.front

    def __enter__(self) -> Self:
        return self.start()


class Sentinel(Process):
    """A sentinel that watches one master, with the password `password`, and decides alone."""

    def __init__(self, master: RedisServer, folder: Path) -> None:
        self._chosen_port = free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {self._chosen_port}\nbind {self.host}\n"
            f"sentinel monitor mymaster {master.host} {master.port} 1\n"
            "sentinel auth-pass mymaster password\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 5000\n"
        )
        command = (shutil.which("redis-server") or "redis-server", str(configuration), "--sentinel")
        super().__init__(command, log_path=folder / "sentinel.log", cwd=folder)

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        return self.port == self._chosen_port and "+slave slave" in self.log


def _own_paths(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return f"access_log {folder}/access.log;\n{paths}"


def _service(text: str) -> dict[str, str]:
    """The settings of a unit's [Service]; none of ours stands there twice."""
    section, settings = "", {}
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name not in settings
            settings[name] = value
    return settings


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
