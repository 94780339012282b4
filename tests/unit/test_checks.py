import re
from datetime import timedelta
from typing import Any

import panther.throttling
import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core import asgi, checks
from django.core.exceptions import ImproperlyConfigured

from panther_channels.asgi import get_asgi_application
from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    DRFAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
    SubprotocolJWTAuthentication,
)
from panther_channels.middlewares import WebsocketMiddleware, WebsocketMonitoringMiddleware
from panther_channels.permissions import BasePermission, HasPermission, IsAuthenticated, IsStaff
from panther_channels.throttling import Throttle
from panther_channels.websocket import GenericWebsocket
from tests.names import name_of
from tests.unit.postponed_annotations import Unresolvable
from tests.unit.system_checks import found, ids

THROTTLE = Throttle(rate=20, duration=timedelta(seconds=1))


def test_all_is_well():
    assert found() == []
    assert found(WS_URLS=None, WS_MIDDLEWARES=None, WS_AUTHENTICATION=None) == []


@pytest.mark.parametrize(
    ("settings", "number", "text"),
    [
        ({"WS_URLS": "no.such.urls"}, 1, "no.such.urls"),
        ({"WS_URLS": []}, 1, "must be a dict"),
        ({"WS_URLS": {"a/b": None}}, 1, "'a/b'"),
        ({"WS_URLS": {"a/<number>": Unresolvable}}, 1, "'a/<number>'"),
        ({"WS_MIDDLEWARES": "project.Middleware"}, 2, "must be a list"),
        ({"WS_MIDDLEWARES": ["no.such.Middleware"]}, 2, "no.such.Middleware"),
        ({"WS_AUTHENTICATION": "no.such.Authentication"}, 3, "no.such.Authentication"),
        ({"WS_AUTHENTICATION": 5}, 3, "5"),
        ({"WS_CHANNEL_LAYER": "sockets"}, 4, "'sockets'"),
    ],
)
def test_errors(settings: dict[str, Any], number: int, text: str):
    (message,) = found(**settings)
    assert message.id == f"panther_channels.E{number:03}"
    assert message.level == checks.ERROR
    assert text in message.msg
    assert next(iter(settings)) in f"{message.msg} {message.hint}"
    assert message.hint


def test_each_setting_has_its_own():
    messages = found(WS_URLS=[], WS_MIDDLEWARES=5, WS_AUTHENTICATION=5, WS_CHANNEL_LAYER="sockets")
    numbers = [str(message.id)[-4:] for message in messages]
    assert sorted(numbers) == ["E001", "E002", "E003", "E004"]


def urls(**attributes: Any) -> dict[str, Any]:
    """URLs of one class with these attributes, nested as in a real project."""
    return {"WS_URLS": {"a": {"b/<name>": type("Checked", (GenericWebsocket,), attributes)}}}


async def good(connection):
    return None


async def without_argument():
    return None


async def with_three(one, two, three):
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


GOOD = [good, AsyncCall, AsyncCall(), [good, AsyncCall], (good,), [], None]
BAD = [is_sync, SyncCall, SyncCall(), without_argument, with_three, TooMany, TooMany(), "good", 5]
BAD += [Abstract, AbstractPermission, ["good"], [good, is_sync], JWTAuthentication.find_credential]


@pytest.mark.parametrize("value", GOOD, ids=name_of)
def test_what_may_be_asked(value: Any):
    assert ids(**urls(auth=value, permissions=value)) == []
    assert ids(WS_AUTHENTICATION=value) == []


@pytest.mark.parametrize("value", BAD, ids=name_of)
def test_what_may_not_be_asked(value: Any):
    for name, number in (("auth", "E005"), ("permissions", "E006")):
        (message,) = found(**urls(**{name: value}))
        assert message.id == f"panther_channels.{number}"
        assert message.level == checks.ERROR
        assert f"Checked.{name}: " in message.msg
        assert message.hint
    (message,) = found(WS_AUTHENTICATION=value)
    assert message.id == "panther_channels.E003"
    assert message.msg.startswith("WS_AUTHENTICATION: ")


@pytest.mark.parametrize(
    "value",
    [
        JWTAuthentication,
        SubprotocolJWTAuthentication(),
        DRFAuthentication(SyncCall),
        [SessionAuthentication, JWTAuthentication],
    ],
    ids=name_of,
)
def test_our_own_authentications(value: Any):
    assert ids(**urls(auth=value)) == []
    assert ids(WS_AUTHENTICATION=value) == []


@pytest.mark.parametrize(
    "value",
    [
        IsAuthenticated,
        IsStaff(),
        HasPermission("a.b"),
        ~IsStaff,
        IsAuthenticated & (IsStaff | HasPermission("a.b")),
        good & IsStaff,
        [IsAuthenticated, good],
    ],
    ids=name_of,
)
def test_our_own_permissions(value: Any):
    assert ids(**urls(permissions=value, auth=good)) == []
    assert ids(**urls(permissions=value), WS_AUTHENTICATION=good) == []
    (message,) = found(**urls(permissions=value))
    assert (message.id, message.level) == ("panther_channels.W007", checks.WARNING)
    assert message.msg.startswith("Checked.permissions ")
    assert found(**urls(permissions=good)) == []


FOREIGN = {
    "permission_classes": [IsAuthenticated],
    "permission": good,
    "permission_required": "blog.change_post",
    "authentication_classes": [JWTAuthentication],
    "authentication": JWTAuthentication,
    "auth_classes": (),
    "throttle_classes": [THROTTLE],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_that_would_let_everybody_in(name: str):
    right = name.partition("_")[0].replace("authentication", "auth").replace("ission", "issions")
    named = f"Checked.{name} does nothing here: the attribute is named `{right}`"
    consumer = urls(**{name: FOREIGN[name]})["WS_URLS"]["a"]["b/<name>"]
    for setting in ({"x": consumer}, {"x": {"y": type("Checked", (consumer,), {})}}):
        (message,) = found(WS_URLS=setting)
        assert (message.id, message.level) == ("panther_channels.E001", checks.ERROR)
        assert named in message.msg
        with pytest.raises(ImproperlyConfigured, match=re.escape(named)):
            get_asgi_application(setting)
    with pytest.raises(ImproperlyConfigured, match=re.escape(named)):  # for a router of one's own
        consumer.as_asgi()


def test_what_else_would_let_everybody_in():
    class Annotated(GenericWebsocket):
        permissions: [IsAuthenticated]  # type: ignore[misc, valid-type]

    class ForViews(LoginRequiredMixin, GenericWebsocket):
        pass

    class Taking(GenericWebsocket):
        def __init__(self, *args, permissions=None, room="", **kwargs):
            super().__init__(*args, **kwargs)

    for consumer in (Annotated, ForViews):
        (message,) = found(WS_URLS={"x": consumer})
        assert message.id == "panther_channels.E001"
        assert consumer.__qualname__ in message.msg
    for name in ("auth", "permissions", "permission_classes"):
        with pytest.raises(ImproperlyConfigured, match=name):
            GenericWebsocket.as_asgi(**{name: [good]})
    assert found(WS_URLS={"x": Taking.as_asgi(permissions=[good], room="a")}) == []


def test_a_class_that_wants_arguments():
    """It would refuse every connection."""
    assert ids(**urls(permissions=HasPermission, auth=good)) == ["E006"]
    assert ids(**urls(auth=DRFAuthentication)) == ["E005"]


def test_a_part_of_a_combination():
    """It would refuse every connection, too."""
    assert ids(**urls(permissions=IsStaff & is_sync, auth=good)) == ["E006"]
    assert ids(**urls(permissions=IsStaff & HasPermission("a.b") & is_sync, auth=good)) == ["E006"]


def test_methods_in_the_body_of_the_class():
    async def auth(self, connection):
        return None

    async def permissions(self, connection):
        return True

    assert ids(**urls(auth=auth, permissions=permissions)) == []
    assert ids(**urls(auth=staticmethod(good), permissions=staticmethod(good))) == []
    assert ids(**urls(auth=property(lambda self: good))) == []


def test_a_class_is_reported_once_and_also_if_it_inherits():
    base = type("Base", (GenericWebsocket,), {"auth": is_sync})
    child = type("Child", (base,), {})
    messages = found(WS_URLS={"a": base, "b": base, "c": child})
    assert [message.msg.partition(":")[0] for message in messages] == ["Base.auth", "Child.auth"]


def test_several_problems_are_told_at_once():
    assert ids(**urls(auth=[is_sync, "x"], permissions=5)) == ["E005", "E005", "E006"]
    assert ids(WS_AUTHENTICATION=[is_sync, "no.such"]) == ["E003"]


class NoDispatch:
    async def __call__(self, connection):
        return connection


class SyncMiddleware(WebsocketMiddleware):
    def __call__(self, connection):
        return connection


def factory(dispatch):
    return dispatch


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([WebsocketMiddleware, WebsocketMonitoringMiddleware], []),
        ((factory,), []),
        ([f"{WebsocketMiddleware.__module__}.WebsocketMiddleware"], []),
        ([], []),
        ([NoDispatch], ["E002"]),
        ([SyncMiddleware], ["E002"]),
        ([WebsocketMiddleware, SyncMiddleware, NoDispatch], ["E002", "E002"]),
        ([5], ["E002"]),
        (WebsocketMiddleware, ["E002"]),
        ("panther_channels.middlewares.WebsocketMiddleware", ["E002"]),
    ],
    ids=name_of,
)
def test_middlewares(value: Any, expected: list[str]):
    assert ids(WS_MIDDLEWARES=value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ([], []),
        (["https://example.com", "https://*.example.com", "http://[::1]:80", "*"], []),
        (("HTTPS://Example.com:8443",), []),
        ("https://example.com", ["E007"]),
        ("*", ["E007"]),
        (5, ["E007"]),
        (["example.com"], ["E007"]),
        (["*.example.com"], ["E007"]),
        (["https://example.com/"], ["E007"]),
        (["https://example.com/path"], ["E007"]),
        (["https://example.com:99999"], ["E007"]),
        (["http://[::1"], ["E007"]),
        (["null"], ["E007"]),
        (["https://a.com, https://b.com"], ["E007"]),
        (["https://*"], ["E007"]),
        (["https://*.*.example.com"], ["E007"]),
        (["https://exam*ple.com"], ["E007"]),
        (["", "x"], ["E007", "E007"]),
    ],
    ids=name_of,
)
def test_origins(value: Any, expected: list[str]):
    assert ids(WS_ALLOWED_ORIGINS=value) == expected
    for message in found(WS_ALLOWED_ORIGINS=value):
        assert "WS_ALLOWED_ORIGINS" in message.msg
        assert message.hint


class OwnSession(SessionAuthentication):
    pass


@pytest.mark.parametrize(
    "value",
    [SessionAuthentication, CookieJWTAuthentication(), OwnSession, [good, OwnSession]],
    ids=name_of,
)
def test_a_cookie_from_everywhere(value: Any):
    for origins in (["*"], ["https://a.b", "*"]):
        (message,) = found(**urls(auth=value), WS_ALLOWED_ORIGINS=origins)
        assert (message.id, message.level) == ("panther_channels.W001", checks.WARNING)
        assert message.msg.startswith("Checked.auth ")
        (message,) = found(WS_AUTHENTICATION=value, WS_ALLOWED_ORIGINS=origins)
        assert message.msg.startswith("WS_AUTHENTICATION ")
    for others in ([], ["https://a.b"], None):
        assert found(**urls(auth=value), WS_ALLOWED_ORIGINS=others) == []
    assert found(**urls(auth=JWTAuthentication), WS_ALLOWED_ORIGINS=["*"]) == []


def test_a_cookie_by_a_dotted_path():
    path = "panther_channels.authentications.SessionAuthentication"
    assert ids(WS_AUTHENTICATION=path, WS_ALLOWED_ORIGINS=["*"]) == ["W001"]
    assert ids(WS_AUTHENTICATION=[path], WS_ALLOWED_ORIGINS=["*"]) == ["W001"]


class OwnQuery(QueryParamJWTAuthentication):
    parameter = "jwt"


@pytest.mark.parametrize(
    "value", [QueryParamJWTAuthentication, OwnQuery(), [good, OwnQuery]], ids=name_of
)
def test_a_token_in_the_url(value: Any):
    (message,) = found(**urls(auth=value), DEBUG=False)
    assert (message.id, message.level) == ("panther_channels.W002", checks.WARNING)
    assert "SubprotocolJWTAuthentication" in str(message.hint)
    assert found(**urls(auth=value), DEBUG=True) == []
    assert found(**urls(auth=SubprotocolJWTAuthentication), DEBUG=False) == []
    assert ids(WS_AUTHENTICATION=value, DEBUG=False) == ["W002"]


plain_application: Any = None
own_application: Any = None


def test_an_application_without_websockets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "plain_application", asgi.get_asgi_application())
    monkeypatch.setitem(globals(), "own_application", get_asgi_application({}))
    here = f"{__name__}.plain_application"
    (message,) = found(ASGI_APPLICATION=here)
    assert (message.id, message.level) == ("panther_channels.W003", checks.WARNING)
    assert "get_asgi_application" in str(message.hint)
    assert found(ASGI_APPLICATION=here, WS_URLS=None) == []
    assert found(ASGI_APPLICATION=f"{__name__}.own_application") == []
    assert found(ASGI_APPLICATION="no.such.application") == []


def test_every_check_is_bound_and_every_id_is_of_one_check():
    from panther_channels.checks import CHECKS

    assert set(CHECKS) <= set(checks.registry.registry.get_checks())
    numbers = [
        number
        for check in CHECKS
        for number in re.findall(r"[EW]\d{3}", str(check.__doc__).partition(":")[0])
    ]
    expected = [f"E{number:03}" for number in range(1, 13)]
    expected += [f"W{number:03}" for number in range(1, 8)]
    assert sorted(numbers) == expected


class Refined(Throttle):
    pass


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, []),
        ({"throttle": None}, []),
        ({"throttle": THROTTLE}, []),
        ({"throttle": Refined(1, timedelta(hours=1))}, []),
        ({"throttle": property(lambda self: THROTTLE)}, []),
        ({"throttle": Throttle}, ["E009"]),
        ({"throttle": 20}, ["E009"]),
        ({"throttle": panther.throttling.Throttle(20, timedelta(seconds=1))}, ["E009"]),
        # Panther's name for it, which would limit nothing here.
        ({"throttling": THROTTLE}, ["E009"]),
        ({"throttling": "something else"}, []),
    ],
    ids=name_of,
)
def test_throttles(attributes: dict[str, Any], expected: list[str]):
    messages = found(**urls(**attributes))
    assert [str(message.id)[-4:] for message in messages] == expected
    assert all("Checked.thrott" in message.msg and message.hint for message in messages)


def test_limits_of_connections():
    assert ids(WS_MAX_CONNECTIONS_PER_USER=5, WS_CONNECTION_LIMIT_ACTION="close_oldest") == []
    messages = found(
        WS_MAX_CONNECTIONS_PER_USER=0,
        WS_MAX_CONNECTIONS_PER_CLIENT="many",
        WS_CONNECTION_LIMIT_ACTION="panic",
    )
    assert [message.id for message in messages] == ["panther_channels.E010"] * 3
    assert [message.level for message in messages] == [checks.ERROR] * 3
    assert ["'panic'" in message.msg for message in messages] == [False, False, True]
