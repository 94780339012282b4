"""What the log says of a refusal, and a second look at a user; tests/contracts asks the rest."""

import re
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils.functional import SimpleLazyObject

from panther_channels._handshake.questions import confirm, refresh
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.permissions import IsAuthenticated
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer, subclass


async def raising(connection):
    raise ValueError("no such user")


async def refusing(connection):
    raise AuthenticationAPIError("bad token")


async def closing(connection):
    await connection.close(4001, "not you")


class Nobody(IsAuthenticated):
    pass


def sync_alice(connection):
    return "alice"


@pytest.mark.parametrize(
    ("attributes", "level", "text"),
    [
        ({"auth": refusing}, "INFO", "'/peer' was refused by refusing: 'bad token'"),
        ({"auth": partial(refusing)}, "INFO", "'/peer' was refused by refusing: 'bad token'"),
        ({"auth": closing}, "INFO", r"'/peer' was refused by closing: close\(4001, 'not you'\)"),
        ({"auth": raising}, "ERROR", "no such user"),
        ({"auth": sync_alice}, "ERROR", "sync_alice .*must be an async function"),
        # Without an authentication, it is of no use to log in.
        ({"permissions": Nobody}, "INFO", "'/peer' was refused by Nobody: 'Permission Denied'"),
        ({"permissions": ~Nobody & refusing}, "INFO", r"by \(~Nobody & refusing\): 'bad token'"),
        ({}, "INFO", r"'/peer' was refused: Authenticated.connect\(\) returned without accept"),
    ],
)
async def test_a_refusal_is_one_line_and_a_mistake_has_a_traceback(
    caplog: pytest.LogCaptureFixture, attributes: dict[str, Any], level: str, text: str
):
    caplog.set_level("INFO", "panther_channels")
    async with Peer(subclass("Authenticated", GenericWebsocket, **attributes).as_asgi()) as peer:
        await peer.ended()
    (record,) = caplog.records
    assert (record.levelname, record.exc_info is None) == (level, level == "INFO")
    assert "'/peer'" in record.getMessage()
    assert re.search(text, f"{record.getMessage()} {record.exc_info}")


@pytest.mark.django_db(transaction=True)
async def test_a_second_look_at_a_user():
    inactive = await User.objects.acreate(username="inactive", is_active=False)
    active = await User.objects.acreate(username="active")
    known = await User.objects.aget(pk=active.pk)
    # An authentication of the project's own may let in whom it wants.
    for user in (None, inactive, active, User(pk=77), object()):
        await confirm(user)
    await User.objects.filter(pk=active.pk).aupdate(is_active=False)
    with pytest.raises(AuthenticationAPIError):
        await confirm(active)
    with pytest.raises(AuthenticationAPIError, match="user deactivated"):
        await refresh(known)
    await User.objects.filter(pk=active.pk).adelete()
    with pytest.raises(AuthenticationAPIError):
        await confirm(active)
    with pytest.raises(AuthenticationAPIError, match="user deleted"):
        await refresh(active)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_lazy", [False, True])
async def test_a_user_is_refreshed_in_place(is_lazy: bool):
    alice = await User.objects.acreate(username="alice")
    user: Any = SimpleLazyObject(lambda: alice) if is_lazy else alice
    user.tenant = "of the project's own"
    assert not await user.ahas_perm("auth.add_user")
    permission = await Permission.objects.aget(codename="add_user")
    found = await User.objects.aget(pk=user.pk)
    await found.user_permissions.aadd(permission)
    await User.objects.filter(pk=user.pk).aupdate(email="a@example.com")
    await refresh(user)
    assert await user.ahas_perm("auth.add_user")
    assert (user.email, user.tenant) == ("a@example.com", "of the project's own")
