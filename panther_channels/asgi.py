"""The ASGI application: HTTP to Django, WebSockets to their classes, and the lifespan."""

import asyncio
import logging
from collections.abc import MutableMapping
from itertools import chain
from typing import Any

from django.conf import settings
from django.core import asgi
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import get_script_prefix
from django.urls import Resolver404, URLPattern, is_valid_path, set_script_prefix

from panther_channels import conf, status
from panther_channels._handshake.origin import log_refusal, problem_with
from panther_channels._handshake.questions import consumers_of, declared_by, questions
from panther_channels._handshake.routers import router_in
from panther_channels._handshake.routes import Routes
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
        ImproperlyConfigured: there are no URLs, or something is wrong with one of them; or
            ``INSTALLED_APPS`` misses this package.
    """
    django = asgi.get_asgi_application()
    conf.check_installed()
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
        self._routes = Routes(patterns)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan of the server."""
        # A WebSocket is served here: each message resumes all that awaits it.
        if scope["type"] != "websocket":
            await self._serve_other(scope, receive, send)
            return
        problem = problem_with(scope["headers"], scope.get("scheme", "ws"))
        if problem is not None or hub().is_stopping:
            await _turn_away(problem, scope, receive, send)
            return
        path = scope["path"]
        if prefix := get_script_prefix(scope):
            set_script_prefix(prefix)  # for reverse(), in all that runs for this connection
            path = _below(prefix, path)
        for application, rest, variables in self._routes.matches(path):
            # As Channels' URLRouter leaves it to one below, which then doesn't look at root_path.
            url_route = {"args": (), "kwargs": variables}
            below = {**scope, "path_remaining": rest, "url_route": url_route}
            try:
                await application(below, receive, send)
            except Resolver404:  # of a router below
                continue
            return
        await _refuse(scope, receive, send)

    def applications_at(self, scope: Scope) -> list[Any]:
        """What may serve a WebSocket at the path of a scope, for tests that ask who will."""
        path = _below(get_script_prefix(scope), scope["path"])
        return [application for application, *_ in self._routes.matches(path)]

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http" and self._is_websocket_only(scope):
            await _demand_upgrade(send)
        else:
            await self._http(scope, receive, send)

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
        path = _below(get_script_prefix(scope), scope["path"])
        found = self._routes.matches(path)
        if not any(_matches(application, rest) for application, rest, _variables in found):
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


def _below(prefix: str, path: str) -> str:
    """A path without the prefix below which the site is; a proxy may have taken it off before."""
    prefix = prefix.rstrip("/")
    rest = path.removeprefix(prefix)
    return path if rest and not rest.startswith("/") else rest  # /appendix is not below /app


def _matches(application: Any, path: str) -> bool:
    """Whether an application has something at the rest of a path."""
    routes = getattr(router_in(application), "routes", None)
    if routes is None:
        return True
    path = path.lstrip("/")
    found = ((route, route.pattern.match(path)) for route in routes)
    return any(match and _matches(route.callback, match[0]) for route, match in found)


async def _turn_away(problem: str | None, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if problem is not None:
        log_refusal(problem, scope["path"])
        await deny(scope, receive, send, status.HTTP_403_FORBIDDEN, "Origin not allowed")
    else:  # the server stops: a handshake on a TCP connection that was there before
        code = status.HTTP_503_SERVICE_UNAVAILABLE
        await deny(scope, receive, send, code, "Service Unavailable")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    logger.info("No WebSocket URL matches the path %s.", shown(scope["path"]))
    await receive()  # websocket.connect
    await deny(scope, receive, send, status.HTTP_404_NOT_FOUND, "Not Found")


async def _demand_upgrade(send: Send) -> None:
    detail = "This service requires use of the WebSocket protocol."  # as in Panther
    # RFC 9110 section 15.5.22: the response says what to upgrade to.
    upgrade = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
    await respond(send, status.HTTP_426_UPGRADE_REQUIRED, detail, extra=upgrade)
