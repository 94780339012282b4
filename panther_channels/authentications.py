"""Who is connecting: authentications are async callables that answer with a user or ``None``.

Each built-in one is four small steps, which a subclass can replace one by one: find the credential,
validate it, find the user, refuse. An absent credential is ``None``, and the permissions decide;
a bad one refuses the handshake, and the log says why, but never shows the credential.
"""

import time
from datetime import timedelta
from importlib import import_module
from io import BytesIO
from typing import Any, ClassVar, NoReturn
from urllib.parse import parse_qsl

from django.conf import settings
from django.contrib import auth
from django.core.exceptions import ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from panther_channels import status
from panther_channels._handshake.credentials import (
    BaseAuthentication,
    CredentialAuthentication,
    ForeignCredentialError,
    expiry_of,
)

__all__ = [
    "BaseAuthentication",
    "CookieJWTAuthentication",
    "CredentialAuthentication",
    "DRFAuthentication",
    "JWTAuthentication",
    "QueryParamJWTAuthentication",
    "SessionAuthentication",
    "SubprotocolJWTAuthentication",
]

from panther_channels._process.threads import asking_database
from panther_channels._socket.closing import SESSION_ENDED
from panther_channels._socket.websocket import Websocket
from panther_channels.exceptions import AuthenticationAPIError

# What libraries let out for credentials that no client of good will sends.
_NONSENSE = (ValueError, TypeError, OverflowError, RecursionError)


class JWTAuthentication(CredentialAuthentication):
    """A JSON web token in the ``Authorization`` header, by djangorestframework-simplejwt.

    All of ``SIMPLE_JWT`` holds, ``AUTH_HEADER_TYPES``, ``AUTH_TOKEN_CLASSES`` and
    ``USER_AUTHENTICATION_RULE`` among it.
    """

    @staticmethod
    def preload() -> None:
        """Import simplejwt when the server starts, not when the first client waits for it."""
        import_module("rest_framework_simplejwt.authentication")
        import_module("rest_framework_simplejwt.tokens")

    def find_credential(self, connection: Websocket) -> str | None:
        """The token after ``Bearer``, or another of ``AUTH_HEADER_TYPES``."""
        # simplejwt's setting is a key of request.META.
        name = _simplejwt().AUTH_HEADER_NAME.removeprefix("HTTP_")
        header = connection.headers[name]
        if not header:
            return None
        scheme, _, token = header.partition(" ")
        types = _simplejwt().AUTH_HEADER_TYPES
        known = [types] if isinstance(types, str) else types
        if scheme.lower() not in {name.lower() for name in known}:
            self.refuse("the Authorization header is of another type", ForeignCredentialError)
        if not token.strip() or " " in token.strip() or "," in token:
            self.refuse("the Authorization header must be one type and one token")
        return token.strip()

    def validate(self, credential: str) -> Any:
        """Check the signature, the times, the type and, where simplejwt does, the blacklist."""
        from rest_framework_simplejwt.exceptions import TokenError

        if not isinstance(credential, str | bytes):
            self.refuse("the token is no text")
        problems = []
        for token_class in _simplejwt().AUTH_TOKEN_CLASSES:
            try:
                return token_class(credential)
            except TokenError as error:
                problems.append(f"{token_class.__name__}: {error}")
            except (ValueError, TypeError) as error:  # what PyJWT lets through, such as bad UTF-8
                problems.append(f"{token_class.__name__}: {type(error).__name__}")
        return self.refuse("; ".join(problems))

    def expires_at(self, token: Any) -> float | None:
        """The ``exp`` of the token, and the ``LEEWAY`` with which it was let in."""
        expiry, leeway = expiry_of(token), _simplejwt().LEEWAY
        seconds = leeway.total_seconds() if isinstance(leeway, timedelta) else leeway
        return None if expiry is None else expiry + seconds

    async def recheck(self, connection: Websocket) -> Any:
        """Look at the user again, at ``CHECK_REVOKE_TOKEN``, and at simplejwt's blacklist.

        A token that has expired meanwhile is none of its business: that closes a connection, where
        it is to, without being asked.
        """
        if (check_blacklist := getattr(connection.token, "check_blacklist", None)) is not None:
            from rest_framework_simplejwt.exceptions import TokenError

            try:
                await asking_database(check_blacklist)()
            except TokenError as error:
                self.refuse(str(error))
        return await super().recheck(connection)

    def find_user(self, validated: Any) -> Any:
        """The user by ``USER_ID_CLAIM``: there, active and not revoked."""
        from rest_framework.exceptions import APIException
        from rest_framework_simplejwt.authentication import JWTAuthentication as SimpleJWT

        try:
            user = SimpleJWT().get_user(validated)
        except APIException as error:
            self.refuse(_text(error.detail))
        except (ValueError, TypeError, OverflowError, ValidationError):
            self.refuse("the token's user id is no user id")
        if not _simplejwt().USER_AUTHENTICATION_RULE(user):
            self.refuse("USER_AUTHENTICATION_RULE says no")
        return user


class QueryParamJWTAuthentication(JWTAuthentication):
    """A JSON web token in the query string: ``?authorization=<token>``.

    URLs are logged by proxies and kept by browsers; prefer
    :class:`SubprotocolJWTAuthentication` for browsers.
    """

    #: The name of the query parameter.
    parameter: ClassVar[str] = "authorization"

    def find_credential(self, connection: Websocket) -> str | None:
        """The value of the parameter, which must not be given twice."""
        query = connection.scope.get("query_string", b"").decode("utf-8", "replace")
        pairs = parse_qsl(query, keep_blank_values=True)
        values = [value for name, value in pairs if name == self.parameter]
        return self.only(values, f"the query parameter {self.parameter!r}")


class CookieJWTAuthentication(JWTAuthentication):
    """A JSON web token in a cookie; a refresh token alone is nobody."""

    #: The name of the cookie.
    cookie: ClassVar[str] = "access_token"

    def find_credential(self, connection: Websocket) -> str | None:
        """The value of the cookie."""
        return connection.headers.get_cookies().get(self.cookie) or None


class SubprotocolJWTAuthentication(JWTAuthentication):
    """A JSON web token as a subprotocol: the only header that a browser's script can set.

    ``new WebSocket(url, ["bearer", token])``. ``accept()`` selects ``bearer`` where the class
    selects none, so that the token doesn't come back, and stays out of URLs and logs.
    """

    #: The subprotocol before the token.
    subprotocol: ClassVar[str] = "bearer"

    def find_credential(self, connection: Websocket) -> str | None:
        """The subprotocol that follows ``bearer``."""
        offered = list(connection.scope.get("subprotocols") or ())
        if self.subprotocol not in offered:
            return None
        position = offered.index(self.subprotocol)
        if len(offered) == position + 1 or offered.count(self.subprotocol) > 1:
            self.refuse(f"after the subprotocol {self.subprotocol!r} there must be one token")
        return str(offered[position + 1])


class SessionAuthentication(CredentialAuthentication):
    """Django's session cookie; the session hash is verified, as Django does for HTTP.

    A cookie is sent by whatever page opens the socket: keep the check of origins on.
    """

    def find_credential(self, connection: Websocket) -> str | None:
        """The session key in the cookie ``SESSION_COOKIE_NAME``."""
        return connection.headers.get_cookies().get(settings.SESSION_COOKIE_NAME) or None

    def validate(self, credential: str) -> Any:
        """The session, empty where it has ended."""
        return _session(credential)

    def session_key_of(self, connection: Websocket) -> str | None:
        """The key of the session, for whoever is told that one has ended."""
        return self.find_credential(connection)

    async def recheck(self, connection: Websocket) -> Any:
        """Look whether the session is still there, and of the same user and password."""
        return await asking_database(self._look_again)(self.find_credential(connection))

    def _look_again(self, credential: Any) -> Any:
        try:
            user = self.find_user(self.validate(credential))
        except AuthenticationAPIError:  # it is one of another password, say
            user = None
        return user or _tell_end_of(credential)

    def find_user(self, validated: Any) -> Any:
        """The user who is logged in; nobody where the session knows none."""
        request = HttpRequest()
        request.session = _left_alone(validated)
        if auth.SESSION_KEY not in validated:
            return None
        user = auth.get_user(request)
        if not user.is_authenticated:
            self.refuse("the session's user has gone, is inactive, or has a new password")
        return user


class DRFAuthentication(BaseAuthentication):
    """Any authentication class of Django REST framework, such as ``TokenAuthentication``.

    It is given the handshake as a GET request, with Django's session and its user, and runs in
    the thread for database work. With DRF's ``SessionAuthentication``, keep the check of origins
    on, as with that of this module.

    If that reads another header than ``Authorization``, name it in an attribute
    ``credential_headers`` of the class.

    Args:
        authentication: the class, or an instance of it.
    """

    def __init__(self, authentication: Any) -> None:
        self._authentication = authentication() if callable(authentication) else authentication
        self.credential_headers = getattr(self._authentication, "credential_headers", ())

    async def __call__(self, connection: Websocket) -> Any:
        """Ask the class, and refuse where it raises."""
        user, connection.token = await asking_database(self._ask)(connection)
        return user

    @property
    def trusts_session(self) -> bool:
        """Whether Django's session lets in, whose cookie comes from whatever page."""
        from rest_framework.authentication import SessionAuthentication as SessionOfDRF

        return isinstance(self._authentication, SessionOfDRF)

    def session_key_of(self, connection: Websocket) -> str | None:
        """The key of the session, if that lets in, for whoever is told that one has ended."""
        return _session_key(_request(connection)) if self.trusts_session else None

    async def recheck(self, connection: Websocket) -> Any:
        """Ask the class again; but a token may expire, unless it closes the connection anyway."""
        expiry = expiry_of(connection.token)
        if expiry is not None and expiry <= time.time():
            return connection.user
        return await asking_database(self._ask_again)(connection)

    def _ask_again(self, connection: Websocket) -> Any:
        user, _ = self._ask(connection)
        if user is None and self.trusts_session:
            _tell_end_of(self.session_key_of(connection))
        return user

    def _ask(self, connection: Websocket) -> tuple[Any, Any]:
        from rest_framework.exceptions import APIException
        from rest_framework.request import Request

        try:
            request = _request(connection)
            request.session = SimpleLazyObject(lambda: _left_alone(_session(_session_key(request))))
            request.user = SimpleLazyObject(lambda: auth.get_user(request))
            return self._authentication.authenticate(Request(request)) or (None, None)
        except APIException as error:
            if error.status_code != status.HTTP_401_UNAUTHORIZED:
                raise
            return self.refuse(_text(error.detail))
        except _NONSENSE as error:
            return self.refuse(type(error).__name__)


def _request(connection: Websocket) -> Any:
    """The handshake, as Django sees requests."""
    scheme = {"wss": "https"}.get(connection.scheme, "http")
    scope = {**connection.scope, "type": "http", "method": "GET", "scheme": scheme}
    return ASGIRequest(scope, BytesIO())


def _session_key(request: Any) -> str | None:
    key: str | None = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return key


def _session(key: str | None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def _tell_end_of(key: str | None) -> NoReturn:
    _session(key).exists(key)  # raises where a cache is away, which looks the same
    raise AuthenticationAPIError(SESSION_ENDED.reason)


def _left_alone(session: Any) -> Any:
    # Django gives some sessions a new key, of which a socket can't tell the browser.
    session.cycle_key = session.flush = lambda: None
    return session


def _simplejwt() -> Any:
    # Looked up at every use: simplejwt replaces the object when SIMPLE_JWT is overridden.
    from rest_framework_simplejwt import settings as simplejwt

    return simplejwt.api_settings


def _text(detail: Any) -> str:
    """The sentence in the ``detail`` of an exception of Django REST framework."""
    return str(detail.get("detail", detail) if isinstance(detail, dict) else detail)
