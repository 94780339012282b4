import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from channels.sessions import CookieMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, path, re_path, register_converter
from django.urls.converters import REGISTERED_CONVERTERS, StringConverter, get_converters
from django.urls.resolvers import RegexPattern

from panther_channels import asgi
from panther_channels._handshake.routes import Routes
from panther_channels.routing import build_url_patterns
from panther_channels.test import HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.unit.postponed_annotations import Unresolvable


def named(name: str) -> type[GenericWebsocket]:
    """A class that tells its name and its path variables."""

    class Named(GenericWebsocket):
        async def connect(self, **kwargs):
            await self.accept()
            await self.send([name, kwargs])

    return Named


A, B, C, D = named("A"), named("B"), named("C"), named("D")


async def mounted(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": f'["mounted",{scope["url_route"]["kwargs"]}]'})


class Channels(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send(f'["Channels",{self.scope["url_route"]["kwargs"]}]')


class Takes(GenericWebsocket):
    async def connect(self, number: int):
        await self.accept()


async def route(urls: Any, target: str) -> str | None:
    """What the endpoint of a path says, in our router and in Channels'; `None` for no endpoint."""

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    patterns = build_url_patterns(urls)
    router = URLRouter([*patterns, URLPattern(RegexPattern(""), nothing)])
    said: list[str | None] = []
    for application in (router, asgi.Application(None, patterns)):
        try:
            async with WebsocketClient(application).connect(target) as ws:
                said.append(str(await ws.receive()))
        except HandshakeRejected:
            said.append(None)
    assert said[0] == said[1]
    return said[0]


NESTED = {"": A, "ws": {"": B, "<name>": {"": D, "below": A}, "deep/er": {"<a>/<b>": B}}}
CONVERTED = {
    "n/<int:number>": A,
    "u/<uuid:key>/x": B,
    "s/<slug:slug>": C,
    "p/<path:rest>": D,
}
SLASHED = {
    "<path:rest>": {"edit": A, "<int:number>": B, "-/<path:more>": C},
    "fixed": {},
}
UUID_1 = "00000000-0000-0000-0000-000000000001"
ALL_OF_RFC_3986, _A = "aZ9-._~!$&'()*+,;=:@", '["A",{}]'
# What Panther has, too, is in tests/contracts.
MATCHES: list[tuple[dict[str, Any], str, str | None]] = [
    ({"ws/a": A}, "/ws/a%0A", None),
    ({"ws/a": A}, "/", None),
    ({}, "/", None),
    ({"/": A}, "/", '["A",{}]'),
    ({"<a>/x": A, "b/<c>": B}, "/b/x", '["B",{"c":"x"}]'),
    ({"<a>/x": A, "<a>/y": B}, "/1/y", '["B",{"a":"1"}]'),
    ({"<name>": A}, "/", None),
    (CONVERTED, "/n/5", '["A",{"number":5}]'),
    (CONVERTED, "/n/x", None),
    (CONVERTED, "/n/%D9%A5", None),
    (CONVERTED, f"/u/{UUID_1}/x", f'["B",{{"key":"{UUID_1}"}}]'),
    (CONVERTED, "/s/a-b", '["C",{"slug":"a-b"}]'),
    (CONVERTED, "/s/a b", None),
    (CONVERTED, "/p/a/b", '["D",{"rest":"a/b"}]'),
    (CONVERTED, f"/n/{'9' * 5000}", None),
    (CONVERTED, "/p/a//b//", '["D",{"rest":"a//b"}]'),
    (CONVERTED, "/p//", None),
    (CONVERTED, "/p/a%0Ab", None),
    (SLASHED, "/a/b/c/edit/", '["A",{"rest":"a/b/c"}]'),
    (SLASHED, "/edit/edit/edit", '["A",{"rest":"edit/edit"}]'),
    (SLASHED, "/a/b/5", '["B",{"rest":"a/b","number":5}]'),
    (SLASHED, "/a/-/b/-/c/d", '["C",{"rest":"a/-/b","more":"c/d"}]'),
    (SLASHED, "/a/b", None),
    (SLASHED, "/-/b", None),
    (SLASHED, "/fixed/b/edit", None),
    ({"<path:a>/<path:b>/<path:c>": A}, "/1/2/3/4", '["A",{"a":"1/2","b":"3","c":"4"}]'),
    ({"<path:a>/<path:b>/<c>": A}, "/1/2/%0A", '["A",{"a":"1","b":"2","c":"\\n"}]'),
    ({"<name>": A, "fixed": B}, "/fixed%0A", '["A",{"name":"fixed\\n"}]'),
    ({"<name>": A}, f"/{'a' * 8192}", f'["A",{{"name":"{"a" * 8192}"}}]'),
    ({"<name>": A}, f"/{'a' * 8193}", None),
    # What RFC 3986 lets stand in a path as it is; nothing of it is a pattern.
    *(
        (({urls: A, "<x>": B}), target, expected)
        for urls in (
            ".well-known",
            "v1.0",
            "socket.io",
            "~me",
            "a..b",
            "a(b)",
            "!$&'()*+,;=:@",
            "...",
        )
        for target, expected in (
            (f"/{urls}", '["A",{}]'),
            (f"/{urls}x", f'["B",{{"x":"{urls}x"}}]'),
        )
    ),
    ({"v1.0": {"a.b": A}}, "/v1.0/a.b", '["A",{}]'),
    ({"v1.0": A}, "/v1x0", None),
    ({"v1.0/<x>": A}, "/v1x0/y", None),
    ({"<x>/v1.0/<y>": A, "<x>/a(b": B}, "/1/v1.0/2", '["A",{"x":"1","y":"2"}]'),
    ({"<x>/v1.0/<y>": A}, "/1/v1x0/2", None),
    ({"m/<x>": mounted}, "/m/1", "[\"mounted\",{'x': '1'}]"),
    ({"m": mounted}, "/m/1", None),
    ({"c": Channels.as_asgi()}, "/c", '["Channels",{}]'),
    ({"g": A.as_asgi()}, "/g", '["A",{}]'),
]


@pytest.mark.django_db  # Channels' own consumer closes old connections
@pytest.mark.parametrize(("urls", "target", "expected"), MATCHES)
async def test_matches(urls: dict[str, Any], target: str, expected: str | None):
    assert await route(urls, target) == expected


class Inner:
    """A middleware; below, others that keep what they wrap under another name."""

    name = "inner"

    def __init__(self, application: Any) -> None:
        setattr(self, self.name, application)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await getattr(self, self.name)(dict(scope), receive, send)


class Application(Inner):
    name = "application"


class App(Inner):
    name = "app"


class Hiding(Inner):
    name = "hidden"


class Twice(Inner):
    """Holds something else first."""

    inner = "something else"
    name = "app"

    def __init__(self, application: Any) -> None:
        super().__init__(Inner(Application(application)))


class Endless:
    def __getattr__(self, name: str) -> "Endless":
        return self if name == "inner" else Endless()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "endless"})


def at(route: str, application: Any, kind: Any = path) -> Any:
    """Django's function, which is typed for views."""
    return kind(route, application)


def router() -> URLRouter:
    return URLRouter([path("one/", A.as_asgi()), path("<word>/", B.as_asgi())])


@pytest.mark.parametrize(
    ("urls", "target", "expected"),
    [
        (lambda: {"r": router()}, "/r/one/", '["A",{}]'),
        (lambda: {"r": router()}, "/r/two/", '["B",{"word":"two"}]'),
        (lambda: {"r": router()}, "/r/two/three/", None),
        (lambda: {"r": router()}, "/rone/", None),
        (lambda: {"r": router(), "r/x": C}, "/r/x", '["C",{}]'),
        (lambda: {"r/x/": C, "r": router()}, "/r/x/", '["C",{}]'),
        (lambda: {"r": router()}, "/r//one/", '["A",{}]'),
        (lambda: {"r": router()}, "/r%0A", None),
        (lambda: {"": router()}, "/one/", '["A",{}]'),
        (lambda: {"": router(), "one": C}, "/one/", '["C",{}]'),
        (lambda: {"": router(), "one": {"more": C}}, "/one/more", '["C",{}]'),
        (lambda: {"<a>": router()}, "/1/two/", '["B",{"a":"1","word":"two"}]'),
        (lambda: {"<int:a>": router()}, "/1/two/", '["B",{"a":1,"word":"two"}]'),
        (
            lambda: {"r": URLRouter(build_url_patterns({"x": {"<y>": C}}))},
            "/r/x/1",
            '["C",{"y":"1"}]',
        ),
        # Through middlewares.
        *(
            (lambda wrap=wrap: {"r": wrap(router()), "r/x": C, "s/<a>": wrap(router())}, *row)
            for wrap in (Inner, Application, App, Twice, CookieMiddleware, AuthMiddlewareStack)
            for row in (
                ("/r/one/", '["A",{}]'),
                ("/r/two/", '["B",{"word":"two"}]'),
                ("/r/two/three/", None),
                ("/rone/", None),
                ("/r/x", '["C",{}]'),
                ("/s/1/two/", '["B",{"a":"1","word":"two"}]'),
            )
        ),
        (lambda: {"r": AllowedHostsOriginValidator(router())}, "/r/one/", None),  # it refuses
        (lambda: {"r": OriginValidator(router(), ["*"])}, "/r/one/", '["A",{}]'),
        # In routers, too, whose own patterns end there.
        *(
            (lambda outer=outer: {"r": outer}, "/r/<o>/one/", '["A",{"o":"<o>"}]')
            for outer in (
                URLRouter([at("<o>/", Inner(router()))]),
                Inner(URLRouter([at("x", B.as_asgi()), at("<o>/", Inner(App(router())))])),
                Inner(URLRouter([at("<o>/", URLRouter([at("", App(router()))]))])),
                App(URLRouter(build_url_patterns({"<o>": App(router())}))),
                URLRouter([at("^(?P<o>[^/]+)/", App(router()), re_path)]),
            )
        ),
        # What holds a router in another place, has all attributes, or itself, is an endpoint.
        (lambda: {"r": Hiding(router())}, "/r/one/", None),
        (lambda: {"r": Endless()}, "/r/one/", None),
        (lambda: {"r": Endless()}, "/r", "endless"),
    ],
)
async def test_nested_routers(urls: Callable[[], Any], target: str, expected: str | None):
    assert await route(urls(), target) == expected


class Even:
    """A converter of a project."""

    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        if int(value) % 2:
            raise ValueError(value)
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


class Words(StringConverter):
    """A converter of a project that takes slashes."""

    regex = "[a-zA-Z]+(?:/[a-zA-Z]+)*"


class Bad(StringConverter):
    regex = "("


@pytest.fixture
def converters() -> Iterator[None]:
    kinds: dict[str, Any] = {"even": Even, "words": Words, "bad": Bad}
    for kind, converter in kinds.items():
        register_converter(converter, kind)
    yield
    for kind in kinds:
        del REGISTERED_CONVERTERS[kind]
    get_converters.cache_clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "expected"), [("/4", '["A",{"number":4}]'), ("/5", None), ("/x", None)]
)
async def test_a_converter_of_the_project(converters: None, target: str, expected: str | None):
    assert await route({"<even:number>": A}, target) == expected


@pytest.mark.parametrize(
    ("target", "expected"), [("/a/b/4", '["A",{"a":"a","b":"b","number":4}]'), ("/a/4", None)]
)
async def test_converters_of_the_project_beside_each_other(
    converters: None, target: str, expected: str | None
):
    assert await route({"<words:a>/<words:b>/<even:number>": A}, target) == expected


def test_a_thousand_urls_cost_as_one():
    urls = {f"{n}": {"": A, "<a>": B, "c/<path:a>": C, "d": {"<a>/x": A}} for n in range(1000)}
    patterns = build_url_patterns({"ws": urls})
    tried = []

    def watched(match: Callable[[str], Any], path: str) -> Any:
        tried.append(path)
        return match(path)

    for pattern in patterns:
        vars(pattern.pattern)["match"] = partial(watched, pattern.pattern.match)
    found = Routes(patterns).matches("ws/7/c/d/e")
    assert [(rest, variables) for _application, rest, variables in found] == [("", {"a": "d/e"})]
    assert len(tried) <= 3


def test_the_patterns_are_django_s():
    patterns = build_url_patterns(NESTED)
    assert all(isinstance(pattern, URLPattern) for pattern in patterns)
    assert len(patterns) == 5
    assert {str(pattern.pattern) for pattern in patterns} >= {"", "ws/<name>/below"}


LONG = [
    "a" + "/" * 40_000 + "\n",
    "/" * 8_000 + "\n",
    "b/" * 2_400 + "\n",
    "b/" * 1_000 + "\n/" + "b/" * 1_000 + "\n",
    "b/" * 60 + "1" * 8_000 + "\n",
    "1" * 8_000,
    "b" * 8_000 + "/1",
]


@pytest.mark.parametrize("path", LONG, ids=[f"{path[:10]!r}-{len(path)}" for path in LONG])
@pytest.mark.parametrize(
    "url",
    [
        "<path:a>",
        "<path:a>/edit",
        "<path:a>/<path:b>",
        "<path:a>/b/<path:b>/b/<path:c>",
        "<path:a>/<path:b>/<path:c>/<path:d>",
        "<slug:a>/<path:b>/<int:c>/<path:d>/<str:e>",
        "<words:a>/<words:b>/<words:c>",
    ],
)
def test_no_path_takes_long(converters: None, url: str, path: str):
    (pattern,) = build_url_patterns({url: A})
    started = time.process_time()
    pattern.pattern.match(path)
    pattern.pattern.match(f"{path}/edit\n")
    assert time.process_time() - started < 0.2  # some ms; without limits minutes


# What is wrong with a URL


class Sync(GenericWebsocket):
    def receive(self, data):
        pass


class SyncConnect(GenericWebsocket):
    def connect(self):
        pass


class OldStyle:
    def __init__(self, scope):
        pass


class NotSync:
    async def __call__(self, scope, receive, send):
        pass


def view(request):
    return None


async def async_view(request):
    return None


def sync_application(scope, receive, send):
    return None


WRONG: list[tuple[Any, str, str]] = [
    ({"a/b": None}, "'a/b'", "subclass of GenericWebsocket"),
    ({"a/b": ...}, "'a/b'", "subclass of GenericWebsocket"),
    ({"a/b": types}, "'a/b'", "is a module"),
    ({"a/b": "project.Book"}, "'a/b'", "subclass of GenericWebsocket"),
    ({"a/b": 5}, "'a/b'", "subclass of GenericWebsocket"),
    ({"a/b": [A]}, "'a/b'", "subclass of GenericWebsocket"),
    ({"a/b": object}, "'a/b'", "no GenericWebsocket"),
    ({"a/b": Websocket}, "'a/b'", "no GenericWebsocket"),
    ({"a/b": Channels}, "'a/b'", ".as_asgi()"),
    ({"a/b": OldStyle}, "'a/b'", "no GenericWebsocket"),
    ({"a/b": NotSync}, "'a/b'", "no GenericWebsocket"),
    ({"a/b": A()}, "'a/b'", "class"),
    ({"a/b": Channels()}, "'a/b'", "as_asgi"),
    ({"a/b": view}, "'a/b'", "no async callable"),
    ({"a/b": async_view}, "'a/b'", "ROOT_URLCONF"),
    ({"a/b": sync_application}, "'a/b'", "no async callable"),
    ({"a": {"b": None}}, "'a/b'", "subclass of GenericWebsocket"),
    ({"a/b": Sync}, "'a/b'", "async def receive"),
    ({"a/b": SyncConnect}, "'a/b'", "async def connect"),
    ({"a b": A}, "'a b'", "letters, digits"),
    ({"é": A}, "'é'", "letters, digits"),
    ({"a//b": A}, "'a//b'", "letters, digits"),
    ({"a%20b": A}, "'a%20b'", "letters, digits"),
    ({"a?b": A}, "'a?b'", "letters, digits"),
    *(
        ({f"a/{pattern}": A}, repr(pattern), "no pattern")
        for pattern in (":id", "*", "**", ".*", "(.*)", "x.+", "([0-9]+)", "chat$", "^a", ".", "..")
    ),
    ({"a\n": A}, r"'a\n'", "letters, digits"),
    ({"a/<b": A}, "'a/<b'", "letters, digits"),
    ({"a/<>": A}, "'a/<>'", "letters, digits"),
    ({"a/x<b>": A}, "'a/x<b>'", "is a variable"),
    ({"a/<b>x": A}, "'a/<b>x'", "is a variable"),
    ({"<1a>": A}, "'<1a>'", "no parameter can have"),
    ({"a/<b>/<b>": A}, "'a/<b>/<b>'", "rename"),
    ({"a/<nope:b>": A}, "'a/<nope:b>'", "register_converter"),
    ({"a/b": A, "/a/b/": B}, "'/a/b/'", "twice"),
    ({"a": {"b": A}, "a/b": B}, "'a/b'", "twice"),
    ({"": A, "/": B}, "'/'", "twice"),
    ({"a/<b>": A, "a/<c>/d": B}, "'a/<c>/d'", "<b>"),
    ({"a/<b>": A, "a/<int:b>/d": B}, "'a/<int:b>/d'", "<b>"),
    ({"a/<word>": Takes}, "'a/<word>'", "**kwargs"),
    ({"a": Takes}, "'a'", "<number>"),
    ({"a/<word>": Takes.as_asgi()}, "'a/<word>'", "**kwargs"),
    ({"a/<number>/<amount>": Unresolvable}, "'a/<number>/<amount>'", "TYPE_CHECKING"),
    ({5: A}, "5", "strings"),
    ({"a": {None: A}}, "None", "strings"),
    ({"a": {b"b": A}}, "b'b'", "strings"),
]


@pytest.mark.parametrize(("urls", "url", "fix"), WRONG, ids=[f"{row[1]}-{row[2]}" for row in WRONG])
def test_what_is_wrong_names_the_url_and_the_fix(urls: Any, url: str, fix: str):
    with pytest.raises(ImproperlyConfigured) as caught:
        build_url_patterns(urls)
    assert url in str(caught.value)
    assert fix in str(caught.value)


def test_a_converter_with_a_bad_regular_expression_is_named(converters: None):
    with pytest.raises(ImproperlyConfigured, match=r"'a/<bad:b>' .* bad regular expression"):
        build_url_patterns({"a/<bad:b>": A})


@pytest.mark.parametrize("urls", [None, [], "project.urls", A, [("a", A)], 5])
def test_urls_that_are_no_dict(urls: Any):
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        build_url_patterns(urls)


def test_an_annotation_that_is_no_type_is_no_crash():
    class Odd(GenericWebsocket):
        async def connect(self, number: [int]):  # type: ignore[valid-type, misc]
            pass

    with suppress(ImproperlyConfigured):  # or else it is taken for one without a cast
        build_url_patterns({"a/<number>": Odd})
