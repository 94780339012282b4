"""The four steps, and what of them a subclass can replace.

Users and their database are a matter of tests/integration/test_authentication.py.
"""

import asyncio
import logging
import threading
import time
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedSession
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.test import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from rest_framework.authentication import SessionAuthentication as DRFSession
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from panther_channels._logs import redact
from panther_channels.authentications import (
    BaseAuthentication,
    CookieJWTAuthentication,
    CredentialAuthentication,
    DRFAuthentication,
    JWTAuthentication,
    QueryParamJWTAuthentication,
    SessionAuthentication,
    SubprotocolJWTAuthentication,
)
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.test import ConnectionClosed, HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer


def token(**claims: Any) -> str:
    known = {"token_type": "access", "jti": "1", "exp": int(time.time()) + 60, "user_id": "1"}
    return jwt.encode({**known, **claims}, settings.SECRET_KEY, "HS256")


class Found(JWTAuthentication):
    """Its users are strings, without a database."""

    def find_user(self, validated):
        return f"user {validated['user_id']}"


class Who(GenericWebsocket):
    auth: Any = Found

    async def connect(self):
        await self.accept()
        await self.send([self.user, self.token is not None, threading.get_ident()])

    async def receive(self, data: str | bytes):
        await self.refresh_token(str(data))


def with_auth(*auth: Any) -> Any:
    declared = auth[0] if len(auth) == 1 else list(auth)
    consumer: Any = type("WithAuth", (Who,), {"auth": declared})
    return consumer.as_asgi()


async def first(application: Any, **options: Any) -> Any:
    async with WebsocketClient(application).connect("/", **options) as ws:
        return await ws.receive()


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def test_a_subclass_needs_a_call():
    class Empty(BaseAuthentication):
        pass

    with pytest.raises(TypeError, match="__call__"):
        Empty()  # type: ignore[abstract]


async def test_a_subclass_answers():
    class Alice(BaseAuthentication):
        async def __call__(self, connection):
            return "alice"

    assert await Alice()(SimpleNamespace()) == "alice"
    assert "alice" in str(await first(with_auth(Alice)))


async def test_a_subclass_replaces_steps():
    steps: list[str] = []

    class Numbers(CredentialAuthentication):
        def find_credential(self, connection):
            steps.append("find_credential")
            return connection.query_params.get("number")

        def validate(self, credential):
            assert threading.current_thread() is not threading.main_thread()
            steps.append("validate")
            return int(credential) if credential.isdigit() else self.refuse("no number")

        def find_user(self, validated):
            steps.append("find_user")
            return validated + 1

        def refuse(self, reason, error=None):
            steps.append(f"refuse: {reason}")
            super().refuse(reason, error)

    application = with_auth(Numbers)
    assert str(await first(application, query_params={"number": "41"})).startswith("[42,true")
    assert steps == ["find_credential", "validate", "find_user"]
    steps.clear()
    with pytest.raises(HandshakeRejected) as rejected:
        await first(application, query_params={"number": "x"})
    assert (rejected.value.status, rejected.value.body) == (
        401,
        b'{"detail": "Authentication Error"}',
    )
    assert steps == ["find_credential", "validate", "refuse: no number"]
    assert str(await first(application)).startswith("[null,false")


async def test_names_of_one_s_own():
    class Query(Found, QueryParamJWTAuthentication):
        parameter = "jwt"
        find_credential = QueryParamJWTAuthentication.find_credential

    class Cookie(Found):
        cookie = "jwt"
        find_credential = CookieJWTAuthentication.find_credential
        # The helper of the cookie class is on the base of all.

    class Subprotocol(Found):
        subprotocol = "jwt"
        find_credential = SubprotocolJWTAuthentication.find_credential

    good = token()
    assert "user 1" in str(await first(with_auth(Query), query_params={"jwt": good}))
    assert "user 1" in str(await first(with_auth(Cookie), headers={"cookie": f"jwt={good}"}))
    assert "user 1" in str(await first(with_auth(Subprotocol), subprotocols=["jwt", good]))
    assert redact("/ws?jwt=secret") == "/ws?jwt=***"


async def test_the_log_says_which_and_never_the_token(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    wrong = jwt.encode({"exp": 9999999999}, "x" * 40, "HS256")
    with pytest.raises(HandshakeRejected):
        await first(with_auth(Found), headers=bearer(wrong))
    lines = [record.getMessage() for record in caplog.records if record.name == "panther_channels"]
    assert lines[0] == "Found refused a connection: AccessToken: Token is invalid"
    assert wrong not in caplog.text
    assert wrong.split(".")[2] not in caplog.text


async def test_a_header_that_the_client_cannot_have_meant():
    for value in ("Bearer", "Bearer ", "Bearer a b", "Bearer a,Bearer b", "Basic x", "x"):
        with pytest.raises(HandshakeRejected) as rejected:
            await first(with_auth(Found), headers={"authorization": value})
        assert rejected.value.status == 401, value
    assert "user 1" in str(
        await first(with_auth(Found), headers={"authorization": f"bearer  {token()}"})
    )


async def test_a_foreign_scheme_is_left_to_the_others():
    class Own(BaseAuthentication):
        async def __call__(self, connection):
            return "own" if connection.headers.authorization == "Own x" else None

    for order in ((Found, Own), (Own, Found)):
        application = with_auth(*order)
        assert "own" in str(await first(application, headers={"authorization": "Own x"}))
        assert "null" in str(await first(application))
        with pytest.raises(HandshakeRejected) as rejected:
            await first(application, headers={"authorization": "Other x"})
        assert rejected.value.status == 401


async def test_a_bad_credential_is_not_left_to_the_others():
    async def everybody(connection):
        return "everybody"

    with pytest.raises(HandshakeRejected):
        await first(with_auth(Found, everybody), headers=bearer("x"))
    assert "everybody" in str(await first(with_auth(Found, everybody)))


async def test_a_class_s_own_auth_is_over_the_setting():
    async def own(connection):
        return "own"

    async def none(connection):
        return None

    class Default(Who):
        auth = None

    with override_settings(WS_AUTHENTICATION=own):
        assert "own" in str(await first(Default.as_asgi()))
        assert "null" in str(await first(with_auth(none)))
    assert "null" in str(await first(Default.as_asgi()))


async def test_what_is_not_async_refuses(caplog: pytest.LogCaptureFixture):
    with pytest.raises(HandshakeRejected):
        await first(with_auth(lambda connection: "everybody"))
    assert "must be an async function" in caplog.text


class Pupil(GenericWebsocket):
    """Has found "user 1", and takes fresh tokens."""

    auth = Found

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        others: dict[Any, Any] = {"none": None, "number": 5, "list": []}
        await self.refresh_token(others.get(data, data))
        await self.send(self.token["jti"])


async def test_a_fresh_token():
    async with WebsocketClient(Pupil.as_asgi()).connect("/", headers=bearer(token())) as ws:
        for number in ("2", "3"):
            await ws.send(token(jti=number))
            assert await ws.receive() == f'"{number}"' or number
        await ws.send(token(jti="4").encode())
        await ws.receive()


@pytest.mark.parametrize("data", ["x", "", "none", "number", "list", token(user_id="2"), b"\xff"])
async def test_a_bad_fresh_token(data: str | bytes):
    async with WebsocketClient(Pupil.as_asgi()).connect("/", headers=bearer(token())) as ws:
        await ws.send(data)
        with pytest.raises(ConnectionClosed) as ended:
            await ws.receive()
        assert (ended.value.code, ended.value.reason) == (1008, "Authentication Error")


async def test_nothing_to_refresh(caplog: pytest.LogCaptureFixture):
    async with WebsocketClient(with_auth(DRFAuthentication(DRFSession))).connect("/") as ws:
        await ws.receive()
        await ws.send("x")
        with pytest.raises(ConnectionClosed) as ended:
            await ws.receive()
        assert ended.value.code == 1011
    assert ImproperlyConfigured.__name__ in caplog.text


async def test_a_user_id_that_the_model_takes_for_no_id(monkeypatch: pytest.MonkeyPatch):
    """As of a model whose key is a UUID: what it raises is no ValueError."""

    def get(**_kwargs: Any) -> Any:
        raise ValidationError("“1” is not a valid UUID.")

    monkeypatch.setattr(User.objects, "get", get)
    with pytest.raises(HandshakeRejected) as rejected:
        await first(with_auth(JWTAuthentication), headers=bearer(token()))
    assert rejected.value.status == 401


async def test_a_session_whose_key_was_rotated_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    """Django gives it a new key then, which only a response to a request could tell the client."""
    user = User(pk=1, username="alice", password="x")
    monkeypatch.setattr(User.objects, "get", lambda **_kwargs: user)
    monkeypatch.setattr(User._default_manager, "get", lambda **_kwargs: user)
    changes: list[str] = []
    for name in ("cycle_key", "flush", "save", "create", "delete"):
        monkeypatch.setattr(
            SignedSession, name, lambda *_args, name=name, **_kwargs: changes.append(name)
        )
    with override_settings(SECRET_KEY="old key " * 8):
        session = {SESSION_KEY: "1", HASH_SESSION_KEY: user.get_session_auth_hash()}
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    monkeypatch.setattr(SignedSession, "load", lambda _self: session)

    class Named(Who):
        auth = SessionAuthentication

        async def connect(self):
            await self.accept()
            await self.send(self.user.username)

    options = {
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "SECRET_KEY_FALLBACKS": ["old key " * 8],
    }
    cookie = {"cookie": f"sessionid={'x' * 32}"}
    with override_settings(**options):
        assert await first(Named.as_asgi(), headers=cookie) == "alice"
    assert changes == []


async def test_an_adapter_for_rest_framework():
    # One that wants Django's middleware finds nobody, and fails on nothing.
    assert "null,false" in str(await first(with_auth(DRFAuthentication(DRFSession))))
    for headers in ({}, {"authorization": "Bearer x"}):
        application = with_auth(DRFAuthentication(TokenAuthentication()))
        assert "null,false" in str(await first(application, headers=headers))


async def test_an_adapter_shows_the_request():
    class Look:
        def authenticate(self, request):
            assert request.method == "GET"
            seen = [request.path, request.query_params["a"], request.META["HTTP_X_ONE"]]
            seen += [request.COOKIES["b"], request.META.get("HTTP_X_TWO")]
            return "-".join(map(str, seen)), None

    headers = {"x-one": "1", "cookie": "b=2", "x_two": "2"}
    application = with_auth(DRFAuthentication(Look))
    async with WebsocketClient(application).connect(
        "/p/q", headers=headers, query_params={"a": "0"}
    ) as ws:
        # As in Django, no header with an underscore passes for one with a hyphen.
        assert "/p/q-0-1-2-None" in str(await ws.receive())


async def test_the_loop_goes_on():
    class Slow(Found):
        def find_user(self, validated):
            time.sleep(0.3)
            return "slow"

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert "slow" in str(await first(with_auth(Slow), headers=bearer(token())))
    ticking.cancel()
    assert ticks > 10


def test_a_refusal_may_carry_its_own_exception():
    class GoneError(AuthenticationAPIError):
        detail = "gone"

    with pytest.raises(GoneError):
        Found().refuse("because", GoneError)


class Unknown(TokenAuthentication):
    """Looks at the header as Django REST framework does, and knows no token."""

    def authenticate_credentials(self, key):
        raise AuthenticationFailed("Invalid token.")


CARRIERS = {
    "header": JWTAuthentication,
    "query": QueryParamJWTAuthentication,
    "cookie": CookieJWTAuthentication,
    "subprotocol": SubprotocolJWTAuthentication,
    "drf": DRFAuthentication(Unknown),
    "session": SessionAuthentication,
}
SEGMENT = st.one_of(
    st.binary(max_size=30).map(lambda value: jwt.utils.base64url_encode(value)),
    st.sampled_from(
        [
            b"eyJhbGciOiJIUzI1NiJ9",
            b"eyJhbGciOiJub25lIn0",
            b"e30",
            b"W10",
            b"bnVsbA",
            b"eyJhbGciOltdfQ",
            b"eyJhbGciOiJIUzI1NiIsImtpZCI6MX0",
            b"eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19",
        ]
    ),
)
ANYTHING = st.one_of(
    st.binary(max_size=60),
    st.lists(SEGMENT, max_size=4).map(b".".join),
    st.text(max_size=40).map(lambda text: text.encode(errors="replace")),
)


@pytest.mark.parametrize("carrier", CARRIERS)
@hypothesis(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(data=st.data())
async def test_no_bytes_make_a_traceback(carrier: str, data: st.DataObject):
    value = data.draw(ANYTHING)
    prefix = data.draw(
        st.sampled_from([b"", b"Bearer ", b"Token ", b"access_token=", b"sessionid="])
    )
    scope: dict[str, Any] = {
        "headers": [(b"authorization", prefix + value), (b"cookie", prefix + value)]
    }
    scope["query_string"] = b"authorization=" + value
    scope["subprotocols"] = ["bearer", value.decode("latin-1")]
    scope["extensions"] = {"websocket.http.response": {}}
    application = with_auth(CARRIERS[carrier])
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"):
        async with Peer(application, **scope) as peer:
            message = await peer.next()
    accepted = message["type"] == "websocket.accept"
    assert accepted or message["status"] == 401, message
