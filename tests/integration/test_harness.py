"""The harness itself: what must fail does, and nothing is left behind."""

import os
import signal
import socket

import psutil
import pytest
from redis import Redis

from tests.client import Client
from tests.conftest import StartRedis, StartServer
from tests.servers import ROOT, RedisServer, Server, ServerError, ServerName, manage


def test_a_shared_server_is_started_once(server: Server, shared_server: StartServer):
    assert shared_server(server.name) is server
    assert shared_server(server.name, env={"X": "1"}) is not server


async def test_http_and_websockets_are_answered(connect: Client):
    assert (await connect.http("/"))[2] == b"the test project"
    echo = await connect("/ws/echo")
    assert [await echo.ask("hello"), await echo.ask(b"\x00\xff")] == ["hello", b"\x00\xff"]
    assert await echo.close(4000, "bye") == (4000, "bye")
    assert await connect.first("/ws/nowhere") == 404


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


async def test_terminate_lets_a_server_stop_by_itself(
    server_name: ServerName, start_server: StartServer
):
    measured = "COVERAGE_PROCESS_CONFIG" in os.environ
    before = set(ROOT.glob(".coverage.*"))
    server = start_server(server_name)
    async with Client(server) as connect:
        echo = await connect("/ws/echo")
        # uvicorn raises the signal again when it has stopped, so that its parent sees it.
        assert server.terminate() in (0, -signal.SIGTERM)
        assert (await echo.closed()).code == 1012
    assert not psutil.pid_exists(server.pid)
    written = {path.name for path in set(ROOT.glob(".coverage.*")) - before}
    assert any(f".pid{server.pid}." in name for name in written) is measured


def test_workers_are_found_and_killed(start_server: StartServer):
    server = start_server("uvicorn", args=("--workers", "2"))
    workers = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    assert len(workers) >= 2
    psutil.wait_procs(workers, timeout=5)
    assert not [worker for worker in workers if worker.is_running()]


def test_redis_restarts_empty_at_its_old_address_and_shares_nothing(
    redis_server: RedisServer, start_redis: StartRedis
):
    first = start_redis()
    with Redis.from_url(first.url) as own, Redis.from_url(redis_server.url) as shared:
        own.set("left", "1")
        assert shared.get("left") is None
    with pytest.raises(ServerError, match="Address already in use"):
        start_redis(port=first.port)
    assert first.terminate() == 0
    second = start_redis(port=first.port)
    assert second.url == first.url
    with Redis.from_url(second.url) as own:
        assert own.dbsize() == 0


def test_manage_reports_output_and_exit_code():
    completed = manage("shell", "-c", "print(6 * 7)", "-v", "0")
    assert (completed.returncode, completed.stdout.strip()) == (0, "42"), completed.stderr
    assert manage("no_such_command").returncode == 1
