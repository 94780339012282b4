"""What `manage.py check` says: one row for each mistake, and for what looks like one."""

import re
import sys
from datetime import timedelta
from functools import partial, wraps
from typing import Any

import panther.throttling
import pytest
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings
from django.utils.functional import SimpleLazyObject
from rest_framework.authentication import SessionAuthentication as DRFSession

import panther_channels.layers
from panther_channels.asgi import Application, get_asgi_application
from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    DRFAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
    SubprotocolJWTAuthentication,
)
from panther_channels.checks import CHECKS, check_runserver
from panther_channels.middlewares import WebsocketMiddleware, WebsocketMonitoringMiddleware
from panther_channels.permissions import BasePermission, HasPermission, IsAuthenticated, IsStaff
from panther_channels.throttling import Throttle
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.names import name_of
from tests.unit.postponed_annotations import Unresolvable
from tests.unit.system_checks import BACKEND, PUBSUB, URL, found, ids

SECOND = timedelta(seconds=1)
THROTTLE = Throttle(rate=20, duration=SECOND)


def urls(**attributes: Any) -> dict[str, Any]:
    """URLs of one class with these attributes, nested as in a real project."""
    return {"WS_URLS": {"a": {"b/<name>": type("Checked", (GenericWebsocket,), attributes)}}}


async def good(connection):
    return None


async def without_argument():
    return None


async def with_three(one, two, three):
    return None


async def method(self, connection):
    return None


def is_sync(connection):
    return None


class SyncCall:
    def __call__(self, connection):
        return None


class AsyncCall:
    async def __call__(self, connection, further=None, **kwargs):
        return None


class TooMany:
    async def __call__(self, connection, further):
        return None


class Abstract(BaseAuthentication):
    pass


class AbstractPermission(BasePermission):
    pass


class OwnSession(SessionAuthentication):
    pass


class OwnQuery(QueryParamJWTAuthentication):
    parameter = "jwt"


class NoDispatch:
    async def __call__(self, connection):
        return connection


class SyncMiddleware(WebsocketMiddleware):
    def __call__(self, connection):
        return connection


def factory(dispatch):
    return dispatch


class Refined(Throttle):
    pass


class OfWebsocket(Websocket):
    pass


class Taking(GenericWebsocket):
    def __init__(self, *args, permissions=None, room="", **kwargs):
        super().__init__(*args, **kwargs)


class ForViews(LoginRequiredMixin, GenericWebsocket):
    pass


class Annotated(GenericWebsocket):
    permissions: [IsAuthenticated]  # type: ignore[misc, valid-type]


BASE = type("Base", (GenericWebsocket,), {"auth": is_sync})
CHILD = type("Child", (BASE,), {})


class Private:
    def __init__(self, *applications: Any) -> None:
        self._applications = applications

    async def __call__(self, scope, receive, send):
        pass


def wrapped(application: Any) -> Any:
    """A middleware as a function, in which nobody can see what it wraps."""

    async def middleware(scope, receive, send):
        await application(scope, receive, send)

    return middleware


ROUTER = URLRouter([])
PROTOCOLS = ProtocolTypeRouter({"websocket": AuthMiddlewareStack(ROUTER)})
HIDDEN = [wrapped(ROUTER), wrapped(wrapped(ROUTER)), Private(ROUTER), Private(5, [ROUTER])]
HIDDEN += [PROTOCOLS, Private(partial(wrapped(5), ROUTER)), Private(Private(ROUTER).__call__)]
HIDDEN += [Private(SimpleLazyObject(without_argument), {1: ROUTER})]
HIDDEN += [AuthMiddlewareStack(wrapped(AuthMiddlewareStack(ROUTER)))]


async def take(self, data):
    pass


async def take_nothing(self):
    pass


async def take_as_channels_does(self, text_data=None, bytes_data=None):
    pass


async def take_another_name(self, message):
    pass


async def take_any(*args, **kwargs):
    pass


@wraps(take_nothing)
async def decorated(self, code):
    pass


# As they are called, or not.
GOOD_HOOKS: list[dict[str, Any]] = [
    *({"receive": hook} for hook in (take, take_another_name, take_any, staticmethod(good))),
    *({"disconnect": hook} for hook in (take, decorated, take_any, classmethod(take))),
    {"send": take, "close": take_any, "accept": take_nothing},
]
BAD_HOOKS: list[dict[str, Any]] = [
    *({name: take_nothing} for name in ("receive", "disconnect", "send", "close")),
    *({name: take_as_channels_does} for name in ("receive", "send", "close")),
    *({"receive": hook} for hook in (with_three, AsyncJsonWebsocketConsumer.receive, is_sync)),
    *({"send": take_another_name}, {"close": take}, {"disconnect": with_three}),
]

plain_application = ASGIHandler()
own_application = Application(plain_application, [])

GOOD = [good, AsyncCall, AsyncCall(), [good, AsyncCall], (good,), [], None]
BAD = [is_sync, SyncCall, SyncCall(), without_argument, with_three, TooMany, TooMany(), "good", 5]
BAD += [Abstract, AbstractPermission, ["good"], [good, is_sync], JWTAuthentication.find_credential]
OURS = [JWTAuthentication, SubprotocolJWTAuthentication(), DRFAuthentication(SyncCall)]
OURS += [[SessionAuthentication, JWTAuthentication]]
OF_USERS: list[Any] = [IsAuthenticated, IsStaff(), HasPermission("a.b"), ~IsStaff, good & IsStaff]
OF_USERS += [IsAuthenticated & (IsStaff | HasPermission("a.b")), [IsAuthenticated, good]]
MIDDLEWARE = "panther_channels.middlewares.WebsocketMiddleware"
SESSION = "panther_channels.authentications.SessionAuthentication"
EVERYWHERE, PRODUCTION = {"WS_ALLOWED_ORIGINS": ["https://a.b", "*"]}, {"DEBUG": False}
NO_ORIGINS = ["example.com", "*.example.com", "https://example.com/", "https://example.com/path"]
NO_ORIGINS += ["https://example.com:99999", "http://[::1", "https://a.com, https://b.com"]
NO_ORIGINS += ["https://*", "https://*.*.example.com", "https://exam*ple.com", "nulls", "file:"]
NO_ORIGINS += ["https://", "https:///", "app://x/", "moz-extension://*", "://", "app://a, b"]
OF_APPS = ("file://", "file:///", "app://.", "APP://", "capacitor://localhost", "x+y://a_b", "null")

# What is said, without `panther_channels.`; a part of each text; the settings.
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("", "", {}),
    ("", "", {"WS_URLS": None, "WS_MIDDLEWARES": None, "WS_AUTHENTICATION": None}),
    # URLs
    ("E001", "no.such.urls", {"WS_URLS": "no.such.urls"}),
    ("E001", "must be a dict", {"WS_URLS": []}),
    ("E001", "'a/b'", {"WS_URLS": {"a/b": None}}),
    ("E001", "'a/<number>'", {"WS_URLS": {"a/<number>": Unresolvable}}),
    ("E001", "Annotated", {"WS_URLS": {"x": Annotated}}),
    ("E001", "ForViews", {"WS_URLS": {"x": ForViews}}),
    *(("W009", "'x/<y>'", {"WS_URLS": {"x/<y>": hidden}}) for hidden in HIDDEN),
    ("", "", {"WS_URLS": {"x": AuthMiddlewareStack(ROUTER), "y": ROUTER, "z": wrapped(5)}}),
    ("", "", {"WS_URLS": {"x": AuthMiddlewareStack(Taking.as_asgi()), "y": wrapped(Taking)}}),
    ("", "", {"WS_URLS": {"x": Taking.as_asgi(permissions=[good], room="a")}}),
    *(("", "", urls(**hooks)) for hooks in GOOD_HOOKS),
    *(("E001", f"Checked, whose {next(iter(hooks))}() ", urls(**hooks)) for hooks in BAD_HOOKS),
    ("E001", "but no GenericWebsocket: ", {"WS_URLS": {"x": OfWebsocket}}),
    # Middlewares
    ("", "", {"WS_MIDDLEWARES": [WebsocketMiddleware, WebsocketMonitoringMiddleware, MIDDLEWARE]}),
    ("", "", {"WS_MIDDLEWARES": (factory,)}),
    ("", "", {"WS_MIDDLEWARES": []}),
    ("E002", "must be a list", {"WS_MIDDLEWARES": MIDDLEWARE}),
    ("E002", "must be a list", {"WS_MIDDLEWARES": WebsocketMiddleware}),
    ("E002", "no.such.Middleware", {"WS_MIDDLEWARES": ["no.such.Middleware"]}),
    ("E002", "NoDispatch", {"WS_MIDDLEWARES": [NoDispatch]}),
    ("E002", "5", {"WS_MIDDLEWARES": [5]}),
    ("E002 E002", "", {"WS_MIDDLEWARES": [WebsocketMiddleware, SyncMiddleware, NoDispatch]}),
    # Who may connect
    *(("", "", urls(auth=value, permissions=value)) for value in GOOD),
    *(("", "", {"WS_AUTHENTICATION": value}) for value in GOOD),
    *(("", "", {"WS_AUTHENTICATION": value}) for value in OURS),
    *(("", "", urls(auth=value)) for value in OURS),
    ("", "", urls(auth=method, permissions=method)),
    ("", "", urls(auth=staticmethod(good), permissions=staticmethod(good))),
    ("", "", urls(auth=property(lambda self: good))),
    ("E003", "no.such.Authentication", {"WS_AUTHENTICATION": "no.such.Authentication"}),
    ("E003", "no.such", {"WS_AUTHENTICATION": [is_sync, "no.such"]}),
    *(("E003", "WS_AUTHENTICATION: ", {"WS_AUTHENTICATION": value}) for value in BAD),
    *(("E005", "Checked.auth: ", urls(auth=value)) for value in BAD),
    *(("E006", "Checked.permissions: ", urls(permissions=value)) for value in BAD),
    ("E005 E005 E006", "Checked.", urls(auth=[is_sync, "x"], permissions=5)),
    # A class that wants arguments, or a part of a combination: it would refuse every connection.
    ("E005", "Checked.auth: ", urls(auth=DRFAuthentication)),
    ("E006", "Checked.permissions: ", urls(permissions=HasPermission, auth=good)),
    ("E006", "Checked.permissions: ", urls(permissions=IsStaff & is_sync, auth=good)),
    ("E006", "", urls(permissions=IsStaff & HasPermission("a.b") & is_sync, auth=good)),
    # Each class once, also if it inherits
    ("E005 E005", ".auth: ", {"WS_URLS": {"a": BASE, "b": BASE, "c": CHILD}}),
    *(("W007", "Checked.permissions ", urls(permissions=value)) for value in OF_USERS),
    *(("", "", urls(permissions=value, auth=good)) for value in OF_USERS),
    *(("", "", {**urls(permissions=value), "WS_AUTHENTICATION": good}) for value in OF_USERS),
    ("", "", urls(permissions=good)),
    # The layer
    ("E004", "'sockets'", {"WS_CHANNEL_LAYER": "sockets"}),
    # Origins, and credentials that they make dangerous
    ("", "", {"WS_ALLOWED_ORIGINS": None}),
    ("", "", {"WS_ALLOWED_ORIGINS": []}),
    ("", "", {"WS_ALLOWED_ORIGINS": ["https://example.com", "https://*.example.com", "*"]}),
    ("", "", {"WS_ALLOWED_ORIGINS": ("HTTPS://Example.com:8443", "http://[::1]:80")}),
    ("", "", {**urls(auth=JWTAuthentication), "WS_ALLOWED_ORIGINS": OF_APPS}),
    ("", "", {**urls(auth=SessionAuthentication), "WS_ALLOWED_ORIGINS": ["file://", "app://."]}),
    ("W001", 'has "null"', {**urls(auth=SessionAuthentication), "WS_ALLOWED_ORIGINS": ["NULL"]}),
    *(("E007", "WS_ALLOWED_ORIGINS", {"WS_ALLOWED_ORIGINS": item}) for item in ("*", 5)),
    *(("E007", item, {"WS_ALLOWED_ORIGINS": [item]}) for item in NO_ORIGINS),
    ("E007 E007", "WS_ALLOWED_ORIGINS", {"WS_ALLOWED_ORIGINS": ["", "x"]}),
    *(
        row
        for value in (
            *(SessionAuthentication, CookieJWTAuthentication(), [good, OwnSession]),
            *(DRFAuthentication(DRFSession), [DRFAuthentication(DRFSession())]),
        )
        for row in (
            ("W001", "Checked.auth ", {**urls(auth=value), **EVERYWHERE}),
            ("W001", "WS_AUTHENTICATION ", {"WS_AUTHENTICATION": value, **EVERYWHERE}),
            ("", "", {**urls(auth=value), "WS_ALLOWED_ORIGINS": ["https://a.b"]}),
            ("", "", {**urls(auth=value), "WS_ALLOWED_ORIGINS": []}),
            ("", "", urls(auth=value)),
        )
    ),
    ("W001", "WS_AUTHENTICATION ", {"WS_AUTHENTICATION": SESSION, **EVERYWHERE}),
    ("W001", "WS_AUTHENTICATION ", {"WS_AUTHENTICATION": [SESSION], "WS_ALLOWED_ORIGINS": ["*"]}),
    ("", "", {**urls(auth=JWTAuthentication), **EVERYWHERE}),
    ("", "", {**urls(auth=DRFAuthentication(SyncCall)), **EVERYWHERE}),
    *(
        row
        for value in (QueryParamJWTAuthentication, OwnQuery(), [good, OwnQuery])
        for row in (
            ("W002", "Checked.auth ", {**urls(auth=value), **PRODUCTION}),
            ("W002", "WS_AUTHENTICATION ", {"WS_AUTHENTICATION": value, **PRODUCTION}),
            ("", "", {**urls(auth=value), "DEBUG": True}),
        )
    ),
    ("", "", {**urls(auth=SubprotocolJWTAuthentication), **PRODUCTION}),
    # asgi.py
    ("W003", "ASGI_APPLICATION", {"ASGI_APPLICATION": f"{__name__}.plain_application"}),
    ("", "", {"ASGI_APPLICATION": f"{__name__}.plain_application", "WS_URLS": None}),
    ("", "", {"ASGI_APPLICATION": f"{__name__}.own_application"}),
    ("", "", {"ASGI_APPLICATION": "no.such.application"}),
    # Limits; `throttling` is Panther's name, which would limit nothing here
    ("", "", urls(throttle=THROTTLE)),
    ("", "", urls(throttle=Refined(1, SECOND))),
    ("", "", urls(throttle=property(lambda self: THROTTLE))),
    ("", "", urls(throttling="something else")),
    ("E009", "Checked.throttle: ", urls(throttle=Throttle)),
    ("E009", "Checked.throttle: ", urls(throttle=20)),
    ("E009", "Checked.throttle: ", urls(throttle=panther.throttling.Throttle(20, SECOND))),
    ("E009", "Checked.throttling ", urls(throttling=THROTTLE)),
    ("", "", {"WS_MAX_CONNECTIONS_PER_USER": 5, "WS_CONNECTION_LIMIT_ACTION": "close_oldest"}),
    *(
        ("E010", name, {name: value})
        for name, value in (
            ("WS_MAX_CONNECTIONS_PER_USER", 0),
            ("WS_MAX_CONNECTIONS_PER_CLIENT", "many"),
            ("WS_CONNECTION_LIMIT_ACTION", "panic"),
        )
    ),
    # Each mistake has its own
    ("E001 E002 E003", "", {"WS_URLS": [], "WS_MIDDLEWARES": 5, "WS_AUTHENTICATION": 5}),
]


@pytest.mark.parametrize(("expected", "text", "settings"), ROWS, ids=name_of)
def test_what_check_says(expected: str, text: str, settings: dict[str, Any]):
    messages = found(**settings)
    assert sorted(str(message.id)[-4:] for message in messages) == expected.split()
    for message in messages:
        is_error = str(message.id).startswith("panther_channels.E")
        assert message.level == (checks.ERROR if is_error else checks.WARNING)
        assert text in message.msg
        assert message.hint
        # Where to look: the attribute of a class, or the setting.
        assert re.search(r"(Checked|Base|Child)\.|WS_", f"{message.msg} {message.hint}")


def test_every_check_is_bound_and_every_id_is_of_one_check():
    assert set(CHECKS) <= set(checks.registry.registry.get_checks())
    heads = (str(check.__doc__).partition(":")[0] for check in CHECKS)
    numbers = sorted(number for head in heads for number in re.findall(r"[EW]\d{3}", head))
    errors, warnings = (sum(each[0] == letter for each in numbers) for letter in "EW")
    expected = [f"E{number:03}" for number in range(1, errors + 1)]
    assert numbers == [*expected, *(f"W{number:03}" for number in range(1, warnings + 1))]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("permission_classes", "permissions"),
        ("permission", "permissions"),
        ("permission_required", "permissions"),
        ("authentication_classes", "auth"),
        ("authentication", "auth"),
        ("auth_classes", "auth"),
        ("throttle_classes", "throttle"),
    ],
)
def test_a_name_that_would_let_everybody_in(name: str, right: str):
    named = f"Checked.{name} does nothing here: the attribute is named `{right}`"
    consumer: Any = type("Checked", (GenericWebsocket,), {name: [good]})
    for setting in ({"x": consumer}, {"x": {"y": type("Checked", (consumer,), {})}}):
        (message,) = found(WS_URLS=setting)
        assert (message.id, message.level) == ("panther_channels.E001", checks.ERROR)
        assert named in message.msg
        with pytest.raises(ImproperlyConfigured, match=re.escape(named)):
            get_asgi_application(setting)
    with pytest.raises(ImproperlyConfigured, match=re.escape(named)):  # for a router of one's own
        consumer.as_asgi()


@pytest.mark.parametrize("name", ["auth", "permissions", "permission_classes"])
def test_an_argument_that_would_let_everybody_in(name: str):
    with pytest.raises(ImproperlyConfigured, match=name):
        GenericWebsocket.as_asgi(**{name: [good]})


@pytest.mark.parametrize("hooks", BAD_HOOKS, ids=name_of)
def test_a_hook_that_takes_something_else_in_a_router_of_ones_own(hooks: dict[str, Any]):
    with pytest.raises(ImproperlyConfigured, match=rf"^Own\.{next(iter(hooks))}\(\) "):
        type("Own", (GenericWebsocket,), hooks).as_asgi()  # type: ignore[attr-defined]


def test_a_subclass_of_what_is_for_annotations():
    with pytest.raises(ImproperlyConfigured, match=r"OfWebsocket .*: derive it from Generic"):
        OfWebsocket.as_asgi()


@pytest.mark.parametrize(
    ("command", "app", "expected"),
    [
        ("runserver", "django.core", ["panther_channels.W010"]),
        ("runserver", "django.contrib.staticfiles", ["panther_channels.W010"]),
        ("runserver", "daphne", []),
        ("runserver", "somebody.elses", []),
        ("check", "django.core", []),
    ],
)
def test_a_runserver_without_websockets(
    command: str, app: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["manage.py", command])
    monkeypatch.setattr("panther_channels.checks.get_commands", lambda: {"runserver": app})
    for setting, said in (({}, expected), (None, [])):
        with override_settings(WS_URLS=setting):
            assert [message.id for message in check_runserver()] == said


def test_without_the_app():
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"]):
        for serve in (GenericWebsocket.as_asgi, lambda: get_asgi_application({})):
            with pytest.raises(ImproperlyConfigured, match='INSTALLED_APPS has no "panther_cha'):
                serve()


# The channel layer

LOCAL = "panther_channels.layers.LocalChannelLayer"
MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
CORE = "channels_redis.core.RedisChannelLayer"
PLAIN = "channels_redis.pubsub.RedisPubSubChannelLayer"


def over_redis(backend: str, *hosts: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "CONFIG": {"hosts": list(hosts)}}


def of_layer(layer: Any, alias: str = "default", **settings: Any) -> list[checks.CheckMessage]:
    return found(CHANNEL_LAYERS={alias: layer}, WS_CHANNEL_LAYER=alias, **settings)


def test_no_layer():
    (message,) = found(CHANNEL_LAYERS={})
    assert (message.id, message.level) == ("panther_channels.W004", checks.WARNING)
    assert 'CHANNEL_LAYERS["default"]' in message.msg
    assert recommends(message)
    assert found(CHANNEL_LAYERS={}, WS_URLS=None) == []
    assert ids(CHANNEL_LAYERS={"default": MEMORY}, WS_CHANNEL_LAYER="sockets") == ["E004"]
    assert of_layer(PUBSUB, "sockets") == []


def test_a_layer_in_memory():
    for kind in ("channels.layers.InMemoryChannelLayer", f"{__name__}.OwnMemory"):
        (message,) = of_layer({"BACKEND": kind}, "sockets", DEBUG=False)
        assert (message.id, message.level) == ("panther_channels.W005", checks.WARNING)
        assert 'CHANNEL_LAYERS["sockets"]' in message.msg
        assert kind in message.msg
        assert recommends(message)
        assert of_layer({"BACKEND": kind}, DEBUG=True) == []


class OwnMemory(InMemoryChannelLayer):
    pass


class OwnCore(RedisChannelLayer):
    def __init__(self, hosts=None):
        super().__init__([{**host, "socket_timeout": None} for host in hosts])


class OwnPlain(RedisPubSubChannelLayer):
    pass


class Own(panther_channels.layers.RedisChannelLayer):
    pass


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    ("backend", "costs"),
    [
        (CORE, ("capacity", "process", "groups")),
        (f"{__name__}.OwnCore", ("capacity", "process", "groups")),
        (PLAIN, ("connects to Redis again", "bursts", "number", "subscribes")),
        (f"{__name__}.OwnPlain", ("connects to Redis again", "bursts", "number", "subscribes")),
    ],
)
def test_a_layer_of_channels_redis(backend: str, costs: tuple[str, ...], debug: bool):
    layer = over_redis(backend, {"address": URL, "socket_timeout": None})
    (message,) = of_layer(layer, "sockets", DEBUG=debug)
    assert (message.id, message.level) == ("panther_channels.W006", checks.WARNING)
    for word in ("sockets", backend, *costs):
        assert word in message.msg
    assert f'CHANNEL_LAYERS["sockets"]["BACKEND"] to "{BACKEND}"' in str(message.hint)
    assert '"prefix"' in str(message.hint)


def test_our_layer_of_redis():
    for backend in (BACKEND, f"{__name__}.Own"):
        assert of_layer(over_redis(backend, URL), DEBUG=False) == []


SENTINEL = {"sentinels": [("127.0.0.1", 26379)], "master_name": "mymaster"}
RIGHT = {"address": URL, "socket_timeout": None}


@pytest.mark.parametrize(
    ("hosts", "wrong"),
    [
        ([URL], [0]),
        ([("127.0.0.1", 6379)], [0]),
        ([RIGHT, {"address": URL}, {"address": URL, "socket_timeout": 5}], [1, 2]),
        ([SENTINEL], [0]),
        ([{**SENTINEL, "socket_timeout": None}], []),
        ([{"address": URL, "socket_timeout": 6}, f"{URL}?socket_timeout=6"], []),
    ],
    ids=name_of,
)
def test_redis_that_is_not_waited_for(hosts: list[Any], wrong: list[int]):
    first, *others = of_layer(over_redis(CORE, *hosts))
    assert first.id == "panther_channels.W006"
    for message, index in zip(others, wrong, strict=True):
        assert (message.id, message.level) == ("panther_channels.W008", checks.WARNING)
        assert f"hosts[{index}]" in message.msg
        assert '"socket_timeout": None' in str(message.hint)
        assert recommends(message)


def recommends(message: checks.CheckMessage) -> bool:
    hint = str(message.hint)
    return "panther_channels.layers.LocalChannelLayer" in hint and BACKEND in hint


@pytest.mark.parametrize(
    "layer",
    [
        {"BACKEND": "no.such.Layer"},
        {},
        {"BACKEND": None},
        over_redis(BACKEND, "http://no.redis"),
        {"BACKEND": CORE, "CONFIG": {"hosts": URL}},
        {"BACKEND": CORE, "CONFIG": {"no": "such"}},
        {"BACKEND": BACKEND, "CONFIG": {"prefx": "staging"}},
        {"BACKEND": LOCAL, "CONFIG": {"dir": "/tmp"}},
    ],
    ids=name_of,
)
def test_a_layer_that_can_not_be_made(layer: dict[str, Any]):
    (message,) = (found for found in of_layer(layer) if found.id != "panther_channels.W006")
    assert message.id == "panther_channels.E011"
    assert message.level == checks.ERROR
    assert message.hint


def test_a_local_layer(tmp_path):
    assert of_layer({"BACKEND": LOCAL, "CONFIG": {"directory": "/run/project"}}) == []
    assert of_layer({"BACKEND": LOCAL}, BASE_DIR=tmp_path) == []
    for layer in (
        {"BACKEND": LOCAL},
        {"BACKEND": LOCAL, "CONFIG": {"directory": "/run/" + "x" * 100}},
    ):
        (message,) = of_layer(layer, "sockets")
        assert (message.id, message.level) == ("panther_channels.E011", checks.ERROR)
        assert '["CONFIG"]["directory"]' in message.msg
