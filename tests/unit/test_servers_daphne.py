"""The mends of daphne without a server; tests/integration/test_daphne_mends.py has them at work."""

import subprocess
import sys
from typing import Any

import pytest
from autobahn.websocket.protocol import WebSocketProtocol as AutobahnProtocol
from daphne.http_protocol import WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from django.test import override_settings
from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import ISSLTransport
from zope.interface import implementer  # type: ignore[import-untyped]

from panther_channels.servers import daphne

REPLACED = ("create_application", "kill_all_applications", "log_action")


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mended is as it was before, whatever the test installs."""
    allowed = list(AutobahnProtocol.CLOSE_STATUS_CODES_ALLOWED)
    monkeypatch.setattr(AutobahnProtocol, "CLOSE_STATUS_CODES_ALLOWED", allowed)
    monkeypatch.setattr(WebSocketFactory, "protocol", WebSocketProtocol)
    monkeypatch.setattr(FileDescriptor, "SEND_LIMIT", FileDescriptor.SEND_LIMIT)
    monkeypatch.setattr(WebRequest, "gotLength", WebRequest.gotLength)
    for name in ("sigInt", "sigTerm"):
        monkeypatch.setattr(reactor, name, getattr(reactor, name))
    for name in REPLACED:
        monkeypatch.setattr(Server, name, getattr(Server, name))


@pytest.mark.usefixtures("restored")
def test_install_twice():
    daphne.install()
    once = [getattr(Server, name) for name in REPLACED]
    daphne.install()
    assert once == [getattr(Server, name) for name in REPLACED]
    assert WebSocketFactory.protocol is daphne.WebSocketProtocol
    assert AutobahnProtocol.CLOSE_STATUS_CODES_ALLOWED.count(1014) == 1


def test_twisted_still_sends_little_in_a_turn():
    code = "from twisted.internet.abstract import FileDescriptor as F; print(F.SEND_LIMIT)"
    limit = int(subprocess.check_output([sys.executable, "-c", code]))
    assert limit < 256 * 1024 <= FileDescriptor.SEND_LIMIT, "asyncio reads 256 KiB"


@pytest.mark.usefixtures("restored")
def test_install_keeps_a_protocol_that_is_built_on_ours(monkeypatch: pytest.MonkeyPatch):
    class Own(daphne.WebSocketProtocol):
        pass

    monkeypatch.setattr(WebSocketFactory, "protocol", Own)
    daphne.install()
    assert WebSocketFactory.protocol is Own


@implementer(ISSLTransport)
class TlsTransport:
    pass


@pytest.mark.parametrize(
    ("transport", "forwarded", "scheme"),
    [
        (object(), "absent", "ws"),
        (TlsTransport(), "absent", "wss"),
        (object(), None, "ws"),
        (TlsTransport(), None, "wss"),
        (TlsTransport(), "http", "ws"),
        (object(), " HTTPS ", "wss"),
        (object(), "wss", "wss"),
        (object(), "", "ws"),
    ],
)
def test_scheme(transport: object, forwarded: str | None, scheme: str):
    protocol = daphne.WebSocketProtocol()
    protocol.transport = transport
    protocol.websocket_protocols = []
    if forwarded != "absent":
        protocol.client_scheme = forwarded
    scope: dict[str, Any] = {}
    protocol.complete_scope(scope)
    assert scope == {
        "scheme": scheme,
        "http_version": "1.1",
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }


class RootPathServer:
    """What of Server is used for a request over HTTP."""

    root_path = "/own"


@pytest.mark.parametrize(
    ("setting", "root_path"), [({}, "/own"), ({"WS_TRUST_DAPHNE_ROOT_PATH": True}, "/claimed")]
)
def test_of_the_scope_of_http_the_root_path_alone_changes(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], root_path: str
):
    seen: list[object] = []
    monkeypatch.setattr(
        daphne, "_daphne_create_application", lambda *arguments: seen.extend(arguments)
    )
    server = RootPathServer()
    with override_settings(**setting):
        daphne._create_application(
            server, "protocol", {"type": "http", "path": "/a", "root_path": "/claimed"}
        )
    assert seen == [server, "protocol", {"type": "http", "path": "/a", "root_path": root_path}]
