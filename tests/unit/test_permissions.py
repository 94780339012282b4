from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User

from panther_channels.permissions import BasePermission, HasPermission, IsAuthenticated, IsStaff
from panther_channels.test import HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket


class Yes(BasePermission):
    async def __call__(self, connection):
        connection.asked.append("yes")
        return True


class No(BasePermission):
    async def __call__(self, connection):
        connection.asked.append("no")
        return ""


class Raises(BasePermission):
    async def __call__(self, connection):
        raise RuntimeError("raised")


async def plain(connection):
    connection.asked.append("plain")
    return 1


async def plain_no(connection):
    connection.asked.append("plain no")


def of(user: Any) -> Any:
    return SimpleNamespace(user=user, asked=[])


def test_a_subclass_needs_a_call():
    class Empty(BasePermission):
        pass

    with pytest.raises(TypeError, match="__call__"):
        Empty()  # type: ignore[abstract]


async def test_a_subclass_answers():
    assert await Yes()(of(None)) is True


@pytest.mark.parametrize(
    ("user", "authenticated", "staff"),
    [
        (None, False, False),
        (AnonymousUser(), False, False),
        (User(), True, False),
        (User(is_staff=True), True, True),
        (User(is_staff=True, is_active=False), True, False),
        (User(is_superuser=True), True, False),
        ({"id": 1}, True, False),
        ({}, False, False),
        ("", False, False),
        (SimpleNamespace(is_authenticated=False, is_active=True, is_staff=True), False, False),
    ],
)
async def test_by_user(user: Any, authenticated: bool, staff: bool):
    assert await IsAuthenticated()(of(user)) is authenticated
    assert await IsStaff()(of(user)) is staff


async def test_has_permission():
    def has_perm(name: str) -> bool:
        return name == "a.b"

    assert await HasPermission("a.b")(of(SimpleNamespace(has_perm=has_perm))) is True
    assert await HasPermission("a.c")(of(SimpleNamespace(has_perm=has_perm))) is False
    for user in (None, {"id": 1}, AnonymousUser()):
        assert await HasPermission("a.b")(of(user)) is False
    assert await HasPermission("a.b")(of(User(is_superuser=True))) is True
    assert await HasPermission("a.b")(of(User(is_superuser=True, is_active=False))) is False


COMBINED: list[tuple[Any, bool, list[str]]] = [
    (Yes & Yes, True, ["yes", "yes"]),
    (Yes & No, False, ["yes", "no"]),
    (No & Yes, False, ["no"]),
    (Yes | No, True, ["yes"]),
    (No | Yes, True, ["no", "yes"]),
    (No | No, False, ["no", "no"]),
    (~Yes, False, ["yes"]),
    (~No, True, ["no"]),
    (~~Yes, True, ["yes"]),
    (~(Yes & No), True, ["yes", "no"]),
    (~Yes | No, False, ["yes", "no"]),
    (Yes & (No | Yes), True, ["yes", "no", "yes"]),
    (Yes & No | Yes, True, ["yes", "no", "yes"]),
    (Yes() & No, False, ["yes", "no"]),
    (Yes & No(), False, ["yes", "no"]),
    (Yes() | No(), True, ["yes"]),
    (~No(), True, ["no"]),
    (plain & Yes, True, ["plain", "yes"]),
    (Yes & plain, True, ["yes", "plain"]),
    (plain | No, True, ["plain"]),
    (plain_no | No, False, ["plain no", "no"]),
    (No | plain, True, ["no", "plain"]),
    (Yes() & plain, True, ["yes", "plain"]),
    (plain & Yes(), True, ["plain", "yes"]),
    (Yes & plain_no & Yes, False, ["yes", "plain no"]),
]


@pytest.mark.parametrize(("permission", "answer", "asked"), COMBINED)
async def test_combined(permission: Any, answer: bool, asked: list[str]):
    connection = of(None)
    assert await permission(connection) is answer
    assert connection.asked == asked


@pytest.mark.parametrize("permission", [Raises & Yes, Raises | Yes, ~Raises, Yes & Raises])
async def test_an_exception_comes_through(permission: Any):
    with pytest.raises(RuntimeError, match="raised"):
        await permission(of(None))


def test_how_it_prints():
    text = repr(IsAuthenticated & (IsStaff | ~HasPermission("a.b")))
    for name in ("IsAuthenticated", "IsStaff", "a.b"):
        assert name in text
    assert repr(HasPermission("a.b")) == "HasPermission('a.b')"


class Asked(GenericWebsocket):
    async def connect(self):
        await self.accept()


async def asked(permissions: Any) -> list[str]:
    names: list[str] = []
    consumer: Any = type("Consumer", (Asked,), {"permissions": permissions, "asked": names})
    try:
        async with WebsocketClient(consumer.as_asgi()).connect("/"):
            return [*names, "accepted"]
    except HandshakeRejected as error:
        return [*names, str(error.status)]


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        (Yes, ["yes", "accepted"]),
        (Yes & plain, ["yes", "plain", "accepted"]),
        ([Yes, plain, ~No], ["yes", "plain", "no", "accepted"]),
        ([Yes, No, Raises], ["yes", "no", "403"]),
        ((plain_no, Yes), ["plain no", "403"]),
        ([Raises, Yes], ["403"]),
        ([lambda _connection: True], ["403"]),
        (Yes & (lambda _connection: True), ["yes", "403"]),
        ([Yes(), No()], ["yes", "no", "403"]),
        ("Yes", ["403"]),
        (False, ["403"]),
        ([None], ["403"]),
        (HasPermission, ["403"]),
        ([], ["accepted"]),
        (None, ["accepted"]),
    ],
)
async def test_of_a_connection(permissions: Any, expected: list[str]):
    assert await asked(permissions) == expected
