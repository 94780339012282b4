"""Who may connect: permissions are async callables that answer with a truth value.

They combine: ``permissions = IsAuthenticated & (IsStaff | HasPermission("blog.change_post"))``.
"""

from abc import ABCMeta, abstractmethod
from typing import Any

from asgiref.sync import sync_to_async

from panther_channels._process.log_lines import named
from panther_channels._socket.websocket import Websocket


class _Combining:
    """``&``, ``|`` and ``~`` for permissions, classes and instances alike."""

    def __and__(self, other: Any) -> "BasePermission":
        return _Combined(self, other, all_of_them=True)

    def __rand__(self, other: Any) -> "BasePermission":
        return _Combined(other, self, all_of_them=True)

    def __or__(self, other: Any) -> "BasePermission":
        return _Combined(self, other, all_of_them=False)

    def __ror__(self, other: Any) -> "BasePermission":
        return _Combined(other, self, all_of_them=False)

    def __invert__(self) -> "BasePermission":
        return _Not(self)


class _PermissionType(_Combining, ABCMeta):  # type: ignore[misc] # type has an "|" of its own
    pass


class BasePermission(_Combining, metaclass=_PermissionType):
    """The shape of a permission class (Panther's ``BasePermission``).

    List the class, or an instance of it, in ``permissions`` of a :class:`GenericWebsocket`.
    """

    @abstractmethod
    async def __call__(self, connection: Websocket) -> bool:
        """Whether this connection may be opened; any falsy answer refuses it."""


class IsAuthenticated(BasePermission):
    """Somebody is logged in (Panther's ``IsAuthenticated``); an ``AnonymousUser`` is nobody."""

    async def __call__(self, connection: Websocket) -> bool:
        """Whether the user is there, and authenticated."""
        user = connection.user
        return bool(user) and bool(getattr(user, "is_authenticated", True))


class IsStaff(IsAuthenticated):
    """A user of Django's admin: authenticated, active and ``is_staff``."""

    async def __call__(self, connection: Websocket) -> bool:
        """Whether the user is active staff."""
        user = connection.user
        is_staff = getattr(user, "is_active", False) and getattr(user, "is_staff", False)
        return bool(is_staff) and await super().__call__(connection)


class HasPermission(BasePermission):
    """A user with a permission of Django's, by ``user.has_perm()``.

    Args:
        permission: its name, such as ``"blog.change_post"``.
    """

    def __init__(self, permission: str) -> None:
        self._permission = permission

    def __repr__(self) -> str:
        return f"HasPermission({self._permission!r})"

    async def __call__(self, connection: Websocket) -> bool:
        """Ask the authentication backends, in the thread for database work."""
        has_perm = getattr(connection.user, "has_perm", None)
        return has_perm is not None and bool(await sync_to_async(has_perm)(self._permission))


class _Combined(BasePermission):
    def __init__(self, *parts: Any, all_of_them: bool) -> None:
        self.parts = [_ready(part) for part in parts]
        self._all_of_them = all_of_them

    def __repr__(self) -> str:
        return f"({(' & ' if self._all_of_them else ' | ').join(map(named, self.parts))})"

    async def __call__(self, connection: Websocket) -> bool:
        for part in self.parts:
            if bool(await part(connection)) is not self._all_of_them:
                return not self._all_of_them
        return self._all_of_them


class _Not(BasePermission):
    def __init__(self, part: Any) -> None:
        self.parts = [_ready(part)]

    def __repr__(self) -> str:
        return f"~{named(self.parts[0])}"

    async def __call__(self, connection: Websocket) -> bool:
        return not await self.parts[0](connection)


def _ready(permission: Any) -> Any:
    """An instance where a class was given."""
    return permission() if isinstance(permission, type) else permission
