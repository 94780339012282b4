"""The harness itself, on an ASGI application that needs neither Django nor the package."""

import os
import signal
import socket
import urllib.error
import urllib.request

import psutil
import pytest
import redis
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from tests.conftest import StartRedis, StartServer
from tests.servers import ROOT, RedisServer, Server, ServerError, ServerName, manage

RAW = "tests.integration.raw_asgi:application"


def test_echo_over_a_real_socket(server_name: ServerName, shared_server: StartServer):
    server = shared_server(server_name, RAW)
    with websockets.sync.client.connect(f"{server.ws_url}/") as client:
        client.send("hello")
        assert client.recv(5) == "hello"
        client.send(b"\x00\xff")
        assert client.recv(5) == b"\x00\xff"


def test_http_is_answered(server_name: ServerName, shared_server: StartServer):
    with urllib.request.urlopen(shared_server(server_name, RAW).url, timeout=5) as response:
        assert response.read() == b"raw"


def test_a_shared_server_is_started_once(server_name: ServerName, shared_server: StartServer):
    server = shared_server(server_name, RAW)
    assert shared_server(server_name, RAW) is server
    assert shared_server(server_name, RAW, env={"X": "1"}) is not server


def test_each_start_gives_a_process_of_its_own(server_name: ServerName, start_server: StartServer):
    one, two = start_server(server_name, RAW), start_server(server_name, RAW)
    assert one.pid != two.pid
    assert one.port != two.port


def test_env_args_and_log(server_name: ServerName, start_server: StartServer):
    option = {"daphne": ("--root-path", "/x"), "uvicorn": ("--root-path", "/x")}[server_name]
    server = start_server(server_name, RAW, env={"RAW_WORD": "rabbit"}, args=option)
    mark = server.mark()
    with websockets.sync.client.connect(f"{server.ws_url}/") as client:
        client.send("log")
        assert server.wait_log(r"^word=(\w+) root_path=(\S+)$", since=mark).groups() == (
            "rabbit",
            "/x",
        )


def test_wait_log_gives_up(server_name: ServerName, shared_server: StartServer):
    server = shared_server(server_name, RAW)
    with pytest.raises(ServerError, match="never did: log 'never written'; it is running"):
        server.wait_log("never written", timeout=0.1)


def test_wait_log_since_skips_what_was_before(shared_server: StartServer):
    server = shared_server("uvicorn", RAW)
    line = "Uvicorn running on"
    assert server.wait_log(line)
    with pytest.raises(ServerError):
        server.wait_log(line, timeout=0.1, since=server.mark())


def test_terminate_lets_the_server_stop_by_itself(
    server_name: ServerName, start_server: StartServer
):
    server = start_server(server_name, RAW)
    with websockets.sync.client.connect(f"{server.ws_url}/") as client:
        # uvicorn raises the signal again when it has stopped, so that its parent sees it.
        assert server.terminate() in (0, -signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            client.recv(5)
    assert not psutil.pid_exists(server.pid)


def test_kill_leaves_nothing_behind(server_name: ServerName, start_server: StartServer):
    server = start_server(server_name, RAW)
    server.kill()
    assert not psutil.pid_exists(server.pid)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))


def test_workers_are_found_and_killed(start_server: StartServer):
    server = start_server("uvicorn", RAW, args=("--workers", "2"))
    workers = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    assert len(workers) >= 2
    psutil.wait_procs(workers, timeout=5)
    assert not [worker for worker in workers if worker.is_running()]


def test_a_server_that_can_not_start_shows_its_log(
    server_name: ServerName, start_server: StartServer
):
    with pytest.raises(ServerError, match=r"(?s)never did: answer.*no_such_module"):
        start_server(server_name, "tests.no_such_module:application")


def test_redis_answers_and_a_second_one_does_not_share_it(
    redis_server: RedisServer, start_redis: StartRedis
):
    second = start_redis()
    assert second.url != redis_server.url
    with (
        redis.Redis.from_url(redis_server.url) as client,
        redis.Redis.from_url(second.url) as other,
    ):
        client.set("harness", "1", ex=60)
        assert client.get("harness") == b"1"
        assert other.get("harness") is None


def test_redis_restarts_empty_at_its_old_address(start_redis: StartRedis):
    first = start_redis()
    with redis.Redis.from_url(first.url) as client:
        client.set("left", "1")
    assert first.terminate() == 0
    second = start_redis(port=first.port)
    assert second.url == first.url
    with redis.Redis.from_url(second.url) as client:
        assert client.dbsize() == 0


def test_a_port_in_use_is_a_failure(redis_server: RedisServer, start_redis: StartRedis):
    with pytest.raises(ServerError, match="Address already in use"):
        start_redis(port=redis_server.port)


def test_the_project_is_served_with_redis_as_its_layer(redis_backed_server: Server):
    with (
        websockets.sync.client.connect(f"{redis_backed_server.ws_url}/ws/id") as client,
        redis.Redis.from_url(redis_backed_server.env["REDIS_URL"]) as redis_client,
    ):
        channels = redis_client.pubsub_channels(f"*__node__{str(client.recv(5))[:8]}")
        assert len(channels) == 1
        client.send("hello")
        assert client.recv(5) == "hello"


def test_manage_reports_output_and_exit_code():
    completed = manage("shell", "-c", "print(6 * 7)", "-v", "0")
    assert (completed.returncode, completed.stdout.strip()) == (0, "42"), completed.stderr
    assert manage("no_such_command").returncode == 1


@pytest.mark.skipif(
    "COVERAGE_PROCESS_CONFIG" not in os.environ, reason="only where coverage measures subprocesses"
)
def test_coverage_of_a_terminated_server_is_written(
    server_name: ServerName, start_server: StartServer
):
    before = set(ROOT.glob(".coverage.*"))
    server = start_server(server_name, RAW)
    server.terminate()
    written = set(ROOT.glob(".coverage.*")) - before
    assert any(f".pid{server.pid}." in path.name for path in written)
