from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User

from panther_channels.permissions import BasePermission, HasPermission, IsAuthenticated, IsStaff


class Yes(BasePermission):
    async def __call__(self, connection):
        connection.asked.append("yes")
        return True


class No(BasePermission):
    async def __call__(self, connection):
        connection.asked.append("no")
        return ""


async def plain(connection):
    connection.asked.append("plain")
    return 1


async def plain_no(connection):
    connection.asked.append("plain no")


def of(user: Any) -> Any:
    return SimpleNamespace(user=user, asked=[])


def test_a_subclass_needs_a_call():
    with pytest.raises(TypeError, match="__call__"):
        type("Empty", (BasePermission,), {})()


NOBODY = SimpleNamespace(is_authenticated=False, is_active=True, is_staff=True)
USERS: list[tuple[Any, str]] = [
    (None, ""),
    (AnonymousUser(), ""),
    (NOBODY, ""),
    ({}, ""),
    ("", ""),
    ({"id": 1}, "authenticated"),
    (User(is_superuser=True, is_staff=True), "authenticated staff permission"),
    (User(is_staff=True, is_active=False), "authenticated"),
    (User(is_superuser=True), "authenticated permission"),
    (User(is_superuser=True, is_active=False), "authenticated"),
    (SimpleNamespace(has_perm=lambda name: name == "a.b"), "authenticated permission"),
    (SimpleNamespace(has_perm=lambda name: name == "a.c"), "authenticated"),
]


@pytest.mark.parametrize(("user", "may"), USERS)
async def test_by_user(user: Any, may: str):
    asked = {
        "authenticated": IsAuthenticated(),
        "staff": IsStaff(),
        "permission": HasPermission("a.b"),
    }
    answers = {name: await permission(of(user)) for name, permission in asked.items()}
    assert answers == {name: name in may.split() for name in asked}


COMBINED: list[tuple[Any, bool, str]] = [
    (Yes & Yes, True, "yes, yes"),
    (Yes & No, False, "yes, no"),
    (No & Yes, False, "no"),
    (Yes | No, True, "yes"),
    (No | Yes, True, "no, yes"),
    (~~Yes, True, "yes"),
    (~(Yes & No), True, "yes, no"),
    (~Yes | No, False, "yes, no"),
    (Yes & (No | Yes), True, "yes, no, yes"),
    (Yes() & No(), False, "yes, no"),
    (~No(), True, "no"),
    (plain & Yes, True, "plain, yes"),
    (plain_no | No, False, "plain no, no"),
    (No | plain, True, "no, plain"),
    (Yes() & plain, True, "yes, plain"),
    (Yes & plain_no & Yes, False, "yes, plain no"),
]


@pytest.mark.parametrize(("permission", "answer", "asked"), COMBINED)
async def test_combined(permission: Any, answer: bool, asked: str):
    connection = of(None)
    assert await permission(connection) is answer
    assert ", ".join(connection.asked) == asked


def test_how_it_prints():
    text = repr(IsAuthenticated & (IsStaff | ~HasPermission("a.b")))
    for name in ("IsAuthenticated", "IsStaff", "~HasPermission('a.b')"):
        assert name in text
