"""The four steps of an authentication by a credential, of which a subclass can replace each."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from panther_channels._process.log_lines import shortened
from panther_channels._process.threads import apart_from_handlers, asking_database
from panther_channels._socket.websocket import Websocket
from panther_channels.exceptions import AuthenticationAPIError

logger = logging.getLogger("panther_channels")


class ForeignCredentialError(AuthenticationAPIError):
    """There is a credential, but of a kind that another authentication may understand."""


class BaseAuthentication(ABC):
    """The shape of an authentication class (Panther's ``BaseAuthentication``).

    Set the class, an instance of it, or a list of them as ``auth`` of a
    :class:`GenericWebsocket`, or as the setting ``WS_AUTHENTICATION``.
    """

    #: Names of headers in which the credential comes; what servers log of these is masked.
    #: ``Authorization``, cookies, subprotocols and simplejwt's header always are.
    credential_headers: Collection[str] = ()

    @abstractmethod
    async def __call__(self, connection: Websocket) -> Any:
        """The user, or ``None`` where no credential was sent.

        Raises:
            AuthenticationAPIError: the credential is bad; the handshake is refused.
        """

    async def recheck(self, connection: Websocket) -> Any:
        """The user of an open connection once more, since the access may have changed.

        The row in the database was looked at already. Called at any time and any number of times,
        so it must not use up what it looks at.

        Raises:
            AuthenticationAPIError: the user is let in no more; an answer of ``None`` says so, too.
            Exception: an ``OSError``, an ``OperationalError`` of Django's, or one with the
                ``status_code`` 503 says that it can't be told now, so that it is asked again; any
                other closes the connection with 1011.
        """
        return connection.user

    def only(self, values: Sequence[str], what: str) -> str | None:
        """The one value of a credential, ``None`` where there is none; refuses several."""
        if len(values) > 1:
            self.refuse(f"{what} was sent {len(values)} times")
        return values[0] if values and values[0] else None

    def refuse(self, reason: str, error: type[AuthenticationAPIError] | None = None) -> NoReturn:
        """The fourth step: log the reason, and refuse without telling it to the client.

        Args:
            reason: what is wrong, for the log; must not hold the credential.
            error: the exception to raise, ``AuthenticationAPIError`` by default.
        """
        logger.info("%s refused a connection: %s", type(self).__name__, shortened(reason, 200))
        raise (error or AuthenticationAPIError)


class CredentialAuthentication(BaseAuthentication):
    """The four steps, to subclass for a credential of your own.

    The second and the third step run in the thread for database work, as one.
    """

    async def __call__(self, connection: Websocket) -> Any:
        """Take the steps one after the other."""
        credential = self.find_credential(connection)
        if credential is None:
            return None
        user, validated = await asking_database(self._find)(credential)
        if user is not None:
            connection.token = validated
        return user

    def expires_at(self, token: Any) -> float | None:
        """When a token ceases to let in, in seconds since the epoch; ``None`` for never."""
        return expiry_of(token)

    async def refresh(self, connection: Websocket, credential: Any) -> None:
        """Take a fresh credential of the same user, for ``connection.refresh_token()``.

        Raises:
            AuthenticationAPIError: it is bad, or of another user.
        """
        with apart_from_handlers():
            user, token = await asking_database(self._find)(credential)
        if user is None or user != connection.user:
            self.refuse("the fresh credential is of another user")
        connection.user, connection.token = user, token

    async def recheck(self, connection: Websocket) -> Any:
        """Take the third step again, by what the second one gave."""
        if connection.token is None:
            return connection.user
        return await asking_database(self.find_user)(connection.token)

    def _find(self, credential: Any) -> tuple[Any, Any]:
        validated = self.validate(credential)
        return self.find_user(validated), validated

    @abstractmethod
    def find_credential(self, connection: Websocket) -> Any:
        """The first step: the credential of the request, or ``None``."""

    @abstractmethod
    def validate(self, credential: Any) -> Any:
        """The second step, in a thread: what the credential says, once it is known to be true."""

    @abstractmethod
    def find_user(self, validated: Any) -> Any:
        """The third step, in a thread: the user of whom it speaks."""


def expiry_of(token: Any) -> float | None:
    """The ``exp`` of a token's claims (RFC 7519 section 4.1.4), in seconds since the epoch."""
    try:
        return float(token["exp"])
    except (TypeError, KeyError, ValueError):
        return None
