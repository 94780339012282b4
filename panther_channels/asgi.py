"""The ASGI application: HTTP to Django, WebSockets to their classes, and the lifespan."""

import asyncio
import logging
from collections.abc import MutableMapping
from itertools import chain
from typing import Any

from channels.routing import URLRouter
from django.conf import settings
from django.core import asgi
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, is_valid_path
from django.urls.resolvers import RegexPattern

from panther_channels import conf, status
from panther_channels._handshake.origin import log_refusal, problem_with
from panther_channels._handshake.questions import consumers_of, declared_by, questions
from panther_channels._hub.hub import hub
from panther_channels._process.log_lines import shown
from panther_channels._socket.denial import Receive, Send, deny, respond
from panther_channels.layers.local import close_all
from panther_channels.routing import build_url_patterns

logger = logging.getLogger("panther_channels")

Scope = MutableMapping[str, Any]


def get_asgi_application(urls: dict[str, Any] | None = None) -> "Application":
    """Set Django up, and return the application for ``ASGI_APPLICATION``.

    A drop-in for the function of the same name in ``django.core.asgi``.

    Args:
        urls: the dict of WebSocket URLs. Default: the setting ``WS_URLS``.

    Raises:
        ImproperlyConfigured: there are no URLs, or something is wrong with one of them.
    """
    django = asgi.get_asgi_application()
    found = conf.urls() if urls is None else urls
    if found is None:
        raise ImproperlyConfigured(
            "There are no WebSocket URLs: set WS_URLS to the dotted path of a dict, such as "
            '"project.urls.websocket_urls", or hand the dict to get_asgi_application().'
        )
    patterns = build_url_patterns(found)
    _preload(patterns)
    return Application(django, patterns)


class Application:
    """An ASGI application that serves HTTP by Django and WebSockets by URL.

    Args:
        http: the application for HTTP.
        patterns: what ``build_url_patterns()`` gave.
    """

    def __init__(self, http: Any, patterns: list[URLPattern]) -> None:
        self._http = http
        self._patterns = patterns
        self._websocket = URLRouter([*patterns, URLPattern(RegexPattern(""), _refuse)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan of the server."""
        if scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http" and self._is_websocket_only(scope):
            await _demand_upgrade(send)
        else:
            await self._http(scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = problem_with(scope["headers"], scope.get("scheme", "ws"))
        if problem is not None:
            log_refusal(problem, scope["path"])
            await receive()  # websocket.connect
            await deny(scope, receive, send, status.HTTP_403_FORBIDDEN, "Origin not allowed")
        elif hub().is_stopping:  # a handshake on a TCP connection that was there before
            await receive()  # websocket.connect
            code = status.HTTP_503_SERVICE_UNAVAILABLE
            await deny(scope, receive, send, code, "Service Unavailable")
        elif scope["path"].startswith(scope.get("root_path", "")):
            await self._websocket(scope, receive, send)
        else:
            await _refuse(scope, receive, send)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                # uvicorn, out of patience with handlers, cancels them and waits for nothing else.
                await hub().emptied(conf.shutdown_timeout())
                # uvicorn ends by its own signal, without closing the event loop.
                close_all(asyncio.get_running_loop())
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    def _is_websocket_only(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not _matches(self._patterns, path):
            return False
        slashed = settings.APPEND_SLASH and not path.endswith("/") and is_valid_path(f"{path}/")
        return not (slashed or is_valid_path(path))


def _preload(patterns: list[URLPattern]) -> None:
    """Let the authentications load what they need before the first client waits for it."""
    declared = [declared_by(consumer, "auth") for consumer in consumers_of(patterns)]
    for authentication in chain.from_iterable(map(questions, [conf.authentication(), *declared])):
        preload = getattr(authentication, "preload", None)
        if preload is not None:
            preload()


def _matches(routes: Any, path: str) -> bool:
    path = path.lstrip("/")
    for route in routes:
        if (match := route.pattern.match(path)) is not None:
            below = getattr(route.callback, "routes", None)  # of a router
            if below is None or _matches(below, match[0]):
                return True
    return False


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    logger.info("No WebSocket URL matches the path %s.", shown(scope["path"]))
    await receive()  # websocket.connect
    await deny(scope, receive, send, status.HTTP_404_NOT_FOUND, "Not Found")


async def _demand_upgrade(send: Send) -> None:
    detail = "This service requires use of the WebSocket protocol."  # as in Panther
    # RFC 9110 section 15.5.22: the response says what to upgrade to.
    upgrade = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
    await respond(send, status.HTTP_426_UPGRADE_REQUIRED, detail, extra=upgrade)
