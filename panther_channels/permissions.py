"""Who may connect: permissions are async callables that answer with a truth value."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panther_channels.websocket import Websocket


class BasePermission(ABC):
    """The shape of a permission class (Panther's ``BasePermission``).

    List the class, or an instance of it, in ``permissions`` of a :class:`GenericWebsocket`.
    """

    @abstractmethod
    async def __call__(self, request: "Websocket") -> bool:
        """Whether this connection may be opened; any falsy answer refuses it."""
