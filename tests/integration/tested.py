"""Tests of a project, which test_test_runs.py has run by every runner; each has its own server.

A server is started before the process of the test has used the channel layer.
"""

import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from channels.testing import ChannelsLiveServerTestCase
from django.test import SimpleTestCase
from websockets.sync.client import connect

from panther_channels import sync
from panther_channels.layers.local.directory import Directory
from tests.servers import POLL_INTERVAL, Server, ServerName, free_port

APPLICATION = "tests.project.asgi:application"
SECONDS = 20.0


def check(url: str) -> None:
    """What this process sends reaches its server, and not the developer's."""
    with connect(f"{url}/ws/id", open_timeout=SECONDS) as client:
        sync.send_message_to_websocket(str(client.recv(SECONDS)), "hello")
        assert client.recv(SECONDS) == "hello"
    sync.send_message_to_websocket(os.environ["DEVELOPER"], "from a test")
    with Path(os.environ["REPORT"]).open("a") as report:
        report.write(f"{os.getpid()} {Directory().path}\n")


@contextmanager
def process(method: str) -> Iterator[str]:
    """A server in a child of this process; its URL."""
    port = free_port()
    context: Any = multiprocessing.get_context(method)
    child = context.Process(target=serve, args=(port,), daemon=True)
    child.start()
    try:
        deadline = time.monotonic() + SECONDS
        while not is_open(port):
            assert child.is_alive()
            assert time.monotonic() < deadline
            time.sleep(POLL_INTERVAL)
        yield f"ws://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.join()


def serve(port: int) -> None:
    import uvicorn

    uvicorn.run(APPLICATION, port=port, log_level="critical")


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


class Started:
    """With a server that has a command line."""

    name: ServerName

    def test_a_server_in_a_subprocess(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            log_path = Path(folder) / "server.log"
            with Server(self.name, APPLICATION, log_path=log_path) as server:
                check(server.ws_url)


class DaphneTests(Started, SimpleTestCase):
    name = "daphne"


class UvicornTests(Started, SimpleTestCase):
    name = "uvicorn"


class ForkedTests(SimpleTestCase):
    def test_a_server_in_a_fork(self) -> None:
        with process("fork") as url:
            check(url)


class SpawnedTests(SimpleTestCase):
    def test_a_server_that_is_spawned(self) -> None:
        with process("spawn") as url:
            check(url)


class LiveTests(ChannelsLiveServerTestCase):
    serve_static = False

    def test_a_live_server(self) -> None:
        check(self.live_server_ws_url)
