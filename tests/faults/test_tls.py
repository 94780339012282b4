"""The same over TLS: who doesn't read, or writes without end, also while the server stops."""

import signal
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.test_flow import GROWTH, MB, TOO_LARGE, Peak, opened
from tests.servers import Server, ServerName, misbehaving
from tests.wire import CLOSE, CONTINUATION, RawClient, close, frame, raw_client

pytestmark = pytest.mark.faults

APPLICATION = "tests.project.asgi:application"
LIMIT = 2.5
SLACK = 6.0
FLOOD = frame(b"x" * 10_000) * 100


class TlsServer(Server):
    """Serves example.com."""

    def __init__(self, name: ServerName, folder: Path, *, log_path: Path) -> None:
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.project.settings",
            **misbehaving(WS_SHUTDOWN_TIMEOUT=LIMIT, WS_SEND_TIMEOUT=60),
        }
        super().__init__(name, APPLICATION, log_path=log_path, env=env)
        key, chain = folder / "privkey.pem", folder / "fullchain.pem"
        if name == "daphne":
            files = f"privateKey={key}:certKey={chain}"
            options = ["-e", f"ssl:0:interface={self.host}:{files}"]
        else:
            options = ["--host", self.host, "--port", "0"]
            options += list(self.command[7:-1])  # --ws
            options += ["--ssl-keyfile", str(key), "--ssl-certfile", str(chain)]
        self.command = (*self.command[:3], *options, APPLICATION)

    def _is_ready(self) -> bool:
        self.port = self._listening_port()
        return self.port != 0


@pytest.fixture
def trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate / "fullchain.pem")


@pytest.fixture
def server(server_name: ServerName, certificate: Path, tmp_path: Path) -> Iterator[Server]:
    with TlsServer(server_name, certificate, log_path=tmp_path / "server.log") as started:
        yield started


def flood(client: RawClient, is_flooding: threading.Event) -> None:
    """Write until the end of the connection."""
    with suppress(OSError):
        while True:
            client.socket.sendall(FLOOD)
            is_flooding.set()


def test_a_flood_and_a_client_that_never_reads(server: Server, trust: ssl.SSLContext):
    with (
        opened(server, "/slow", tls=trust) as writer,
        opened(server, "/push", tls=trust, receive_buffer=65536) as stuck,
        Peak(server) as peak,
    ):
        stuck.send(b"200 1000000")
        assert writer.flood(FLOOD, 0.5, 150 * MB) < 30 * MB
    assert peak.growth < GROWTH
    assert "Traceback" not in server.log


def test_who_is_told_what_it_did_wrong_and_answers(server: Server, trust: ssl.SSLContext):
    """TLS can't be closed on one side only: it is the client's close frame that ends it.

    It sees the end of TLS, and the server doesn't wait for ever for its own.
    """
    with opened(server, tls=trust) as client:
        client.send(b"", fin=False)
        client.socket.sendall(frame(b"x" * 16_000, CONTINUATION, fin=False) * 400)
        assert client.closed() == (1009, TOO_LARGE)
        client.socket.settimeout(3)
        client.socket.sendall(close(1009))
        assert client.socket.recv(1) == b""
        server.wait_log("disconnect called code=1009")


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        pytest.param(frame(b"x", CLOSE), b"", id="a close frame, behind which nothing comes"),
        pytest.param(frame(b"x" * 300, 3), close(1002), id="an opcode that there isn't"),
        pytest.param(frame(b"x" * 300, CONTINUATION), close(1002), id="a continuation of nothing"),
        pytest.param(frame(b"\xff" * 300), close(1007), id="no UTF-8"),
    ],
)
def test_who_did_wrong_is_not_kept(
    server: Server, trust: ssl.SSLContext, wrong: bytes, answer: bytes
):
    """Of a server that waits for a close frame which has come, the client waits for the end."""
    with opened(server, tls=trust) as client:
        client.socket.sendall(wrong)
        assert client.closed()[0] in {1002, 1007}
        client.socket.settimeout(3)
        client.socket.sendall(answer)
        assert client.socket.recv(1) == b""


def test_the_server_stops_meanwhile(server: Server, trust: ssl.SSLContext):
    """Alone, uvicorn waits for as long as the one doesn't read, and for the end of the other."""
    is_flooding = threading.Event()
    with (
        opened(server, "/push", tls=trust, receive_buffer=65536) as stuck,
        opened(server, "/slow", tls=trust) as writer,
        ThreadPoolExecutor(1) as pool,
    ):
        stuck.send(b"200 1000000")
        stuck.take(2)
        pool.submit(flood, writer, is_flooding)
        assert is_flooding.wait(10)
        assert server.terminate(LIMIT + SLACK) in {0, -signal.SIGTERM}
    assert server.log.count("disconnect called code=1012") == 2
    assert "Still there" not in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize(("scheme", "status"), [("https", 101), ("http", 403)])
def test_the_scheme_of_an_origin(server: Server, trust: ssl.SSLContext, scheme: str, status: int):
    """A page that came without TLS may be anybody's, and `Secure` cookies would go with it."""
    origin = f"Origin: {scheme}://127.0.0.1".encode()
    with raw_client(server, "/slow", lines=[origin], tls=trust, is_waiting=False) as client:
        assert client.head().startswith(f"HTTP/1.1 {status} ")
