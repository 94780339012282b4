"""What daphne's server does beside its WebSockets: its end, its access log, requests with a body.

Written for daphne 4.2.3, as :mod:`panther_channels.servers.daphne.protocol`, which installs it.
"""

import asyncio
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
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

# Connections that may wait for daphne to take them. Of more, the kernel drops the packets, and they
# come again after one second and after three: Twisted has 50, uvicorn as many as here.
_BACKLOG = 2048
_RELOADING = 2.0  # seconds for all closes, at most: a developer waits, and a page may be asleep
_RELOAD = 3  # the exit code by which the child of the autoreloader asks for the next one

_daphne_run = Server.run
_daphne_log_action = Server.log_action
_daphne_got_length = WebRequest.gotLength
_twisted: Any = reactor


def install() -> None:
    """Called once, by :func:`panther_channels.servers.daphne.protocol.install`."""
    Server.run = _run
    Server.kill_all_applications = _kill_all_applications
    Server.log_action = _log_action
    WebRequest.gotLength = _got_length
    _twisted.sigTerm = functools.partial(_signalled, _twisted.sigTerm)
    _twisted.sigInt = functools.partial(_signalled, _twisted.sigInt)
    if (autoreload := sys.modules.get("django.utils.autoreload")) is not None:
        autoreload.restart_with_reloader = _restart_with_reloader  # type: ignore[attr-defined]
        autoreload.start_django = functools.partial(_start_django, autoreload.start_django)  # type: ignore[attr-defined]


def _run(server: Any) -> None:
    """Under the autoreloader of runserver, daphne has a thread which ends without notice.

    The main thread ends by an exception, when a file has changed or by a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        # Not by atexit: the pools of threads have ended then, and disconnect() may need one.
        threading._register_atexit(_end, server)  # type: ignore[attr-defined]  # noqa: SLF001
    server.endpoints = [_with_backlog(each) for each in server.endpoints]
    _daphne_run(server)


def _with_backlog(endpoint: str) -> str:
    """A description of a socket as Twisted has them, with room for all who come at once."""
    has_one = endpoint.startswith(("tcp:", "ssl:", "unix:")) and ":backlog=" not in endpoint
    return f"{endpoint}:backlog={_BACKLOG}" if has_one else endpoint


def _end(server: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which would interrupt this
    loop, seconds = _twisted._asyncioEventloop, min(_limit_of(server), _RELOADING)  # noqa: SLF001
    if loop.is_running():
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_stop(server, seconds), loop).result(seconds)


def _restart_with_reloader() -> int:
    """The parent of the autoreloader, which in Django 5.2 kills the server when it is to end.

    On SIGTERM, as `docker stop` sends it, at once; on ^C after a quarter of a second. Here, the
    server is told, and waited for.
    """
    from django.utils import autoreload

    environ = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    is_told, code = False, _RELOAD

    def end(*_: Any) -> None:
        nonlocal is_told
        is_told = True  # it may be between two children, or a child about to end for the next
        child.terminate()

    while code == _RELOAD and not is_told:
        arguments = autoreload.get_child_arguments()
        with subprocess.Popen(arguments, env=environ, close_fds=False) as child:  # noqa: S603
            signal.signal(signal.SIGTERM, end)
            if is_told:
                child.terminate()
            try:
                code = child.wait()
            except KeyboardInterrupt:  # which the child has got from the terminal, too
                with suppress(subprocess.TimeoutExpired):
                    child.wait(2 * _RELOADING)
                child.kill()
                raise
    return 0 if code == _RELOAD else code


def _start_django(start: Any, *args: Any, **kwargs: Any) -> None:
    """The server under the autoreloader: a second SIGTERM doesn't interrupt its end.

    There are two where a whole group of processes gets it, the parent among them.
    """

    def end(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    start(*args, **kwargs)


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
    return Deferred.fromFuture(asyncio.ensure_future(_stop(server, _limit_of(server))))


def _limit_of(server: Any) -> float:
    return conf.shutdown_timeout() if settings.configured else server.application_close_timeout


async def _stop(server: Any, seconds: float) -> None:
    started = time.monotonic()
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
