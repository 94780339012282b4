"""Two hosts on one machine: network namespaces with a cable between them."""

import contextlib
import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000


class NetworkError(Exception):
    """This process may not make network namespaces; the text is what `ip` said."""


class Network:
    """Hosts 0 and 1, gone at the end, whatever happened; the machine's network is not touched.

    Raises:
        NetworkError: by entering it.
    """

    def __init__(self) -> None:
        self._names = [f"panther-{os.getpid()}-{number}" for number in range(2)]

    def __enter__(self) -> Self:
        here, there = self._names
        try:
            for name in self._names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            ends = ("type", "veth", "peer", "name", "eth0", "netns", there)
            _ip("link", "add", "eth0", "netns", here, *ends)
            for number, name in enumerate(self._names):
                _ip("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in self._names:
            with contextlib.suppress(NetworkError):
                _ip("netns", "delete", name)

    def address(self, host: int) -> str:
        return f"10.77.0.{host + 1}"

    def command(self, host: int, *command: str) -> tuple[str, ...]:
        """The command line that runs a command on a host."""
        return ("ip", "netns", "exec", self._names[host], *command)

    def cut(self) -> None:
        """Lose what they send each other, and tell neither: it goes to an address of nobody."""
        for host, name in enumerate(self._names):
            nobody = ("lladdr", "02:00:00:00:00:00", "dev", "eth0", "nud", "permanent")
            _ip("-n", name, "neighbour", "replace", self.address(1 - host), *nobody)

    def mend(self) -> None:
        for host, name in enumerate(self._names):
            _ip("-n", name, "neighbour", "delete", self.address(1 - host), "dev", "eth0")

    def connect(self, host: int, port: int) -> socket.socket:
        """A connection from within a host to a port of its own 127.0.0.1."""

        def enter() -> socket.socket:
            _enter(self._names[host])
            return socket.create_connection(("127.0.0.1", port), 10)

        # A namespace is a matter of the thread; a socket stays in the one that it was made in.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(enter).result()


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
