"""What daphne's server does beside its WebSockets: its end, its access log, requests with a body.

Written for daphne 4.2.3, as :mod:`panther_channels.servers.daphne.protocol`, which installs it.
"""

import asyncio
import functools
import time
from typing import Any

# First, for it installs the reactor that runs on asyncio.
from daphne.server import Server  # isort: skip
from daphne.http_protocol import WebRequest
from django.conf import settings
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort

from panther_channels import conf
from panther_channels._hub.hub import hub
from panther_channels._process.logs import redact
from panther_channels.servers.shutdown import told_to_stop

_daphne_log_action = Server.log_action
_daphne_got_length = WebRequest.gotLength
_twisted: Any = reactor


def install() -> None:
    """Called once, by :func:`panther_channels.servers.daphne.protocol.install`."""
    Server.kill_all_applications = _kill_all_applications
    Server.log_action = _log_action
    WebRequest.gotLength = _got_length
    _twisted.sigTerm = functools.partial(_signalled, _twisted.sigTerm)
    _twisted.sigInt = functools.partial(_signalled, _twisted.sigInt)


def _got_length(request: Any, length: int | None) -> None:
    """A handshake with a body: daphne waits for all of it, as long as a byte comes each minute.

    RFC 6455 knows of none, and uvicorn ends such a connection.
    """
    _daphne_got_length(request, length)
    upgrade = request.requestHeaders.getRawHeaders(b"upgrade", [b""])[0]
    if length != 0 and upgrade.lower() == b"websocket":
        request.channel._respondToBadRequestAndDisconnect()  # noqa: SLF001 - Twisted's own


def _log_action(server: Any, protocol: str, action: str, details: dict[str, Any]) -> None:
    """The access log: daphne prints the whole query of a request, also what is a token in it."""
    details = {**details, "path": redact(details["path"])}
    _daphne_log_action(server, protocol, action, details)


def _signalled(handler: Any, number: int, frame: Any = None) -> None:
    """The signals that end it: daphne waits for as long as anything hangs, a thread or its loop."""
    handler(number, frame)
    told_to_stop(frame)


def _kill_all_applications(server: Any) -> Deferred[object]:
    """The server's end: closes the ports, then our connections, and cancels what is left then.

    daphne goes on accepting connections, sends no close frames, cancels nobody if one connection
    has no application (KeyError), and stops waiting as soon as one has ended.
    """
    return Deferred.fromFuture(asyncio.ensure_future(_stop(server)))


async def _stop(server: Any) -> None:
    started = time.monotonic()
    seconds = server.application_close_timeout
    if settings.configured:
        seconds = conf.shutdown_timeout()
    for reader in _twisted.getReaders():
        if IListeningPort.providedBy(reader):
            reader.stopListening()
    await hub().stop(seconds)
    applications = [entry.get("application_instance") for entry in server.connections.values()]
    pending = [each for each in applications if each is not None and not each.done()]
    for application in pending:
        application.cancel()
    if pending:
        await asyncio.wait(pending, timeout=seconds - (time.monotonic() - started))
