"""What the log says of a refusal, and a second look at a user; tests/contracts asks the rest."""

import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections

from panther_channels._handshake.questions import confirm
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer, subclass


async def raising(connection):
    raise ValueError("no such user")


async def refusing(connection):
    raise AuthenticationAPIError("bad token")


def sync_alice(connection):
    return "alice"


@pytest.mark.parametrize(
    ("auth", "level", "text"),
    [
        (refusing, "INFO", "'/peer' was refused: 'bad token'"),
        (raising, "ERROR", "no such user"),
        (sync_alice, "ERROR", "sync_alice .*must be an async function"),
    ],
)
async def test_a_refusal_is_one_line_and_a_mistake_has_a_traceback(
    caplog: pytest.LogCaptureFixture, auth: Any, level: str, text: str
):
    caplog.set_level("INFO", "panther_channels")
    async with Peer(subclass("Authenticated", GenericWebsocket, auth=auth).as_asgi()) as peer:
        await peer.ended()
    (record,) = caplog.records
    assert (record.levelname, record.exc_info is None) == (level, level == "INFO")
    assert "'/peer'" in record.getMessage()
    assert re.search(text, f"{record.getMessage()} {record.exc_info}")


@pytest.mark.django_db(transaction=True)
async def test_a_second_look_at_a_user():
    inactive = await User.objects.acreate(username="inactive", is_active=False)
    active = await User.objects.acreate(username="active")
    # An authentication of the project's own may let in whom it wants.
    for user in (None, inactive, active, User(pk=77), object()):
        await confirm(user)
    await User.objects.filter(pk=active.pk).aupdate(is_active=False)
    with pytest.raises(AuthenticationAPIError):
        await confirm(active)
    await User.objects.filter(pk=active.pk).adelete()
    with pytest.raises(AuthenticationAPIError):
        await confirm(active)
    await sync_to_async(connections.close_all)()  # else other tests meet one that is open
