"""What a subclass can replace, and what no client sends that means well.

tests/integration/test_access.py has the table of who comes in.
"""

import threading
import time
from importlib import import_module
from typing import Any, ClassVar
from uuid import uuid4

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedSession
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import HttpRequest
from django.test import override_settings
from rest_framework.authentication import SessionAuthentication as DRFSession

from panther_channels._hub import rechecks as _rechecks
from panther_channels._process.logs import redact
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
from panther_channels.websocket import (
    GenericWebsocket,
    close_user_websockets,
    recheck_user_websockets,
)
from tests.client import Closed, InProcess
from tests.unit.peer import DENIAL, Peer, subclass
from tests.waiting import until

SIGNED = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}


def token(**claims: Any) -> str:
    known = {"token_type": "access", "jti": "1", "exp": int(time.time()) + 60, "user_id": "1"}
    return jwt.encode({**known, **claims}, settings.SECRET_KEY, "HS256")


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


class Found(JWTAuthentication):
    """Its users are strings, without a database."""

    def find_user(self, validated):
        return f"user {validated['user_id']}"


class Who(GenericWebsocket):
    auth: Any = Found

    async def connect(self):
        await self.accept()
        await self.send([str(self.user), self.token is not None])

    async def receive(self, data: str | bytes):
        others: dict[Any, Any] = {"none": None, "number": 5, "list": []}
        await self.refresh_token(others.get(data, data))
        await self.send(self.token["jti"])


async def first(auth: Any, path: str = "/", **options: Any) -> Any:
    """What the socket says of its user, or the status of the refusal."""
    async with InProcess(subclass("WithAuth", Who, auth=auth).as_asgi()) as connect:
        return await connect.first(path, **options)


def test_a_subclass_needs_a_call():
    with pytest.raises(TypeError, match="__call__"):
        type("Empty", (BaseAuthentication,), {})()


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
            return validated or None

        def refuse(self, reason, error=None):
            steps.append(f"refuse: {reason}")
            super().refuse(reason, error)

    assert await first(Numbers, "/?number=41") == '["41",true]'
    assert steps == ["find_credential", "validate", "find_user"]
    steps.clear()
    assert await first(Numbers, "/?number=x") == 401
    assert steps == ["find_credential", "validate", "refuse: no number"]
    # Nobody's credential is nobody's token.
    assert await first(Numbers, "/?number=0") == '["None",false]'
    assert await first(Numbers) == '["None",false]'


@pytest.mark.parametrize(("values", "found"), [([], None), ([""], None), (["a"], "a")])
def test_only(values: list[str], found: str | None):
    assert Found().only(values, "the badge") == found
    with pytest.raises(AuthenticationAPIError):
        Found().only(["a", *values, "a"], "the badge")


def test_a_refusal_may_carry_its_own_exception(caplog: pytest.LogCaptureFixture):
    class GoneError(AuthenticationAPIError):
        detail = "gone"

    caplog.set_level("INFO")
    with pytest.raises(GoneError):
        Found().refuse("because" * 1000, GoneError)
    assert caplog.messages[0].startswith("Found refused a connection: because")
    assert len(caplog.messages[0]) < 250


async def test_names_of_one_s_own():
    class Query(Found, QueryParamJWTAuthentication):
        parameter = "jwt"
        find_credential = QueryParamJWTAuthentication.find_credential

    class Cookie(Found):
        cookie = "jwt"
        find_credential = CookieJWTAuthentication.find_credential

    class Subprotocol(Found):
        subprotocol = "jwt"
        find_credential = SubprotocolJWTAuthentication.find_credential

    good, seen = token(), '["user 1",true]'
    assert await first(Query, f"/?jwt={good}") == seen
    assert await first(Cookie, headers={"cookie": f"jwt={good}"}) == seen
    assert await first(Subprotocol, subprotocols=["jwt", good, "chat"]) == seen
    assert await first(Subprotocol, subprotocols=["jwt", good, "jwt"]) == 401
    assert redact("/ws?jwt=secret") == "/ws?jwt=***"


OTHERS = [token(user_id="2"), token(token_type="refresh"), token(exp=1), token()[:-2]]


@pytest.mark.parametrize("data", ["x", "", "none", "number", "list", b"\xff", *OTHERS])
async def test_a_bad_fresh_token(data: str | bytes, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    async with InProcess(Who.as_asgi()) as connect:
        ws = await connect("/", headers=bearer(token()))
        await ws.receive()
        assert await ws.ask(data) == Closed(1008, "Authentication Error")
    assert "Found refused a connection: " in caplog.text
    assert "Traceback" not in caplog.text


async def test_nothing_to_refresh(caplog: pytest.LogCaptureFixture):
    application = subclass("WithDRF", Who, auth=DRFAuthentication(DRFSession)).as_asgi()
    async with InProcess(application) as connect:
        ws = await connect("/")
        assert await ws.receive() == '["None",false]'
        assert await ws.ask("x") == Closed(1011, "")
    assert ImproperlyConfigured.__name__ in caplog.text


async def session_of(user: User, session: Any) -> Any:
    session["of its own"] = uuid4().hex
    session[SESSION_KEY], session[HASH_SESSION_KEY] = user.pk, user.get_session_auth_hash()
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    await session.asave()
    return session


@pytest.mark.parametrize("auth", [SessionAuthentication, DRFAuthentication(DRFSession)])
@pytest.mark.django_db(transaction=True)
async def test_a_logout_ends_a_session_that_is_still_there(auth: Any):
    """Django ends it after its signal; and one that is nowhere but in a cookie, never."""
    application = subclass("InSession", Who, auth=auth).as_asgi()
    with override_settings(**SIGNED):
        user = await User.objects.acreate(username="alice")
        one, other = [await session_of(user, SignedSession()) for _ in range(2)]
        async with InProcess(application) as connect:
            clients = []
            for session in (one, other):
                cookie = {"cookie": f"sessionid={session.session_key}"}
                clients.append(await connect("/", headers=cookie))
                assert "alice" in str(await clients[-1].receive())
            request = HttpRequest()
            request.session, request.user = one, user
            await sync_to_async(logout)(request)
            assert await clients[0].receive() == Closed(1008, "session ended")
            await close_user_websockets(user)
            assert await clients[1].receive() == Closed(1008, "")


class Cache(LocMemCache):
    """One that is away, in a test that says so."""

    is_away = False
    asked: ClassVar[list[Any]] = []

    def get(self, *args: Any, **options: Any) -> Any:
        self.asked.append(args)
        if self.is_away:
            raise ConnectionError("away")
        return super().get(*args, **options)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        return self.get(key) is not None


@pytest.mark.parametrize("auth", [SessionAuthentication, DRFAuthentication(DRFSession)])
@pytest.mark.parametrize("engine", ["cache", "cached_db"])
@pytest.mark.django_db(transaction=True)
async def test_a_cache_that_is_away_ends_no_session(
    monkeypatch: pytest.MonkeyPatch, auth: Any, engine: str
):
    """Django takes a session for ended then; it is one only once the cache has said so."""
    monkeypatch.setattr(_rechecks, "_REST", 0.01)
    options: Any = {
        "CACHES": {"default": {"BACKEND": f"{__name__}.Cache", "LOCATION": uuid4().hex}},
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
    }
    with override_settings(**options):
        store = import_module(options["SESSION_ENGINE"]).SessionStore
        user = await User.objects.acreate(username="alice")
        session = await session_of(user, store())
        async with InProcess(subclass("InSession", Who, auth=auth).as_asgi()) as connect:
            cookie = {"cookie": f"sessionid={session.session_key}"}
            client = await connect("/", headers=cookie)
            assert "alice" in str(await client.receive())
            monkeypatch.setattr(Cache, "is_away", True)
            Cache.asked.clear()
            await recheck_user_websockets(user)
            await until(lambda: len(Cache.asked) > (2 if engine == "cache" else 0))
            monkeypatch.setattr(Cache, "is_away", False)
            if engine == "cached_db":  # which has a copy: nobody need wait for the cache
                await recheck_user_websockets(user)
            await session.aflush()
            await recheck_user_websockets(user)
            assert await client.receive() == Closed(1008, "session ended")


async def test_an_adapter_shows_the_request():
    class Look:
        def authenticate(self, request):
            assert request.method == "GET"
            seen = [request.path, request.query_params["a"], request.META["HTTP_X_ONE"]]
            seen += [request.COOKIES["b"], request.META.get("HTTP_X_TWO")]
            return "-".join(map(str, seen)), None

    # As in Django, no header with an underscore passes for one with a hyphen.
    headers = {"x-one": "1", "cookie": "b=2", "x_two": "2"}
    seen = await first(DRFAuthentication(Look), "/p/q?a=0", headers=headers)
    assert seen == '["/p/q-0-1-2-None",false]'


async def test_bytes_that_an_adapter_cannot_read_are_no_mistake():
    application = subclass("WithDRF", Who, auth=DRFAuthentication(DRFSession)).as_asgi()
    async with Peer(application, query_string=b"\x80", extensions=DENIAL) as peer:
        assert (await peer.next())["status"] == 401


async def test_a_user_id_that_the_model_takes_for_no_id(monkeypatch: pytest.MonkeyPatch):
    """As of a model whose key is a UUID: what it raises is no ValueError."""

    def get(**_kwargs: Any) -> Any:
        raise ValidationError("“1” is not a valid UUID.")

    monkeypatch.setattr(User.objects, "get", get)
    assert await first(JWTAuthentication, headers=bearer(token())) == 401


async def test_a_session_whose_key_was_rotated_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch):
    """Django gives it a new key then, which only a response to a request could tell the client."""
    user = User(pk=1, username="alice", password="x")
    for manager in (User.objects, User._default_manager):
        monkeypatch.setattr(manager, "get", lambda **_kwargs: user)
    changes: list[str] = []
    for name in ("cycle_key", "flush", "save", "create", "delete"):
        note = lambda *_args, name=name, **_kwargs: changes.append(name)  # noqa: E731
        monkeypatch.setattr(SignedSession, name, note)
    with override_settings(SECRET_KEY="old key " * 8):
        session = {SESSION_KEY: "1", HASH_SESSION_KEY: user.get_session_auth_hash()}
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    monkeypatch.setattr(SignedSession, "load", lambda _self: session)
    cookie = {"cookie": f"sessionid={'x' * 32}"}
    with override_settings(SECRET_KEY_FALLBACKS=["old key " * 8], **SIGNED):
        assert await first(SessionAuthentication, headers=cookie) == '["alice",true]'
    assert changes == []
