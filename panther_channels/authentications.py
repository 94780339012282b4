"""Who is connecting: authentications are async callables that answer with a user or ``None``."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket


class BaseAuthentication(ABC):
    """The shape of an authentication class (Panther's ``BaseAuthentication``).

    Set the class, or an instance of it, as ``auth`` of a :class:`GenericWebsocket`, or as the
    setting ``WS_AUTHENTICATION``.
    """

    @abstractmethod
    async def __call__(self, request: "Websocket") -> Any:
        """The user, or ``None`` where no credential was sent.

        Raises:
            AuthenticationAPIError: the credential is bad; the handshake is refused.
        """
