"""Several hosts on one machine: network namespaces on one switch, which is a namespace as well."""

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

_PREFIX = "10.77.0."
_CLONE_NEWNET = 0x40000000


class NetworkError(Exception):
    """This process may not make network namespaces; the text is what `ip` said."""


class Network:
    """A switch, at address(0), and hosts 1 to `hosts`; gone at the end, whatever happened.

    Everything lies in the namespaces, so that nothing of it is left when they are deleted, and the
    network of the machine is not touched.

    Raises:
        NetworkError: by entering it.
    """

    def __init__(self, hosts: int) -> None:
        self._names = [f"panther-{os.getpid()}-{number}" for number in range(hosts + 1)]

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in self._names:
            with contextlib.suppress(NetworkError):
                _ip("netns", "delete", name)

    def address(self, host: int) -> str:
        return f"{_PREFIX}{host + 1}"

    def command(self, host: int, *command: str) -> tuple[str, ...]:
        """The command line that runs a command on a host."""
        return ("ip", "netns", "exec", self._names[host], *command)

    def cut(self, host: int) -> None:
        """Pulls the plug of a host: what is sent is lost, and no one is told."""
        _ip("-n", self._names[0], "link", "set", f"port{host}", "down")

    def mend(self, host: int) -> None:
        _ip("-n", self._names[0], "link", "set", f"port{host}", "up")

    def connect(self, host: int, port: int) -> socket.socket:
        """A connection from within a host to a port of its own 127.0.0.1."""
        result: list[socket.socket | OSError] = []

        def enter() -> None:
            try:
                _enter(self._names[host])
                result.append(socket.create_connection(("127.0.0.1", port), 10))
            except OSError as error:
                result.append(error)

        # A namespace is a matter of the thread; a socket stays in the one that it was made in.
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    def _connect(self) -> None:
        switch, *hosts = self._names
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "address", "add", f"{self.address(0)}/24", "dev", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, host in enumerate(hosts, 1):
            port = f"port{number}"
            ends = ("link", "add", port, "netns", switch, "type", "veth", "peer")
            _ip(*ends, "name", "eth0", "netns", host)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", host, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")


def _enter(name: str) -> None:
    """Moves this thread into a network namespace. Python itself can do that from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", name).open() as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
