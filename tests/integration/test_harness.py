"""The harness itself: what must fail does, and nothing is left behind."""

import socket

import psutil
import pytest

from tests.conftest import StartServer
from tests.servers import Server, ServerError, ServerName


def test_a_server_of_its_own(server: Server, server_name: ServerName, start_server: StartServer):
    with pytest.raises(ServerError, match=r"(?s)never did: answer.*no_such_module"):
        start_server(server_name, "tests.no_such_module:application")
    own = start_server(server_name)
    assert (own.pid, own.port) != (server.pid, server.port)
    own.kill()
    assert not psutil.pid_exists(own.pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own.host, own.port))


def test_wait_log_gives_up_and_skips_what_was_before(shared_server: StartServer):
    server = shared_server("uvicorn")
    assert server.wait_log("Uvicorn running on")
    with pytest.raises(ServerError, match="never did: log 'Uvicorn running on'; it is running"):
        server.wait_log("Uvicorn running on", timeout=0.1, since=server.mark())
