"""Whose thread authentications and permissions use; tests/faults/test_database.py has servers."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.core import mail
from django.test import TestCase
from rest_framework_simplejwt.tokens import AccessToken

from panther_channels._process import threads as _threads
from panther_channels._process.threads import apart_from_handlers
from panther_channels.authentications import JWTAuthentication
from panther_channels.permissions import BasePermission
from panther_channels.test import WebsocketClient
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer

where = sync_to_async(threading.current_thread)


@pytest.fixture(autouse=True)
def _threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a server, without those of other tests."""
    monkeypatch.delattr(mail, "outbox")
    found: list[Any] = []
    monkeypatch.setattr(_threads, "handshake_threads", found)
    yield
    for thread in found:
        thread.shutdown()


async def user_and_threads(connection: Any) -> list[Any]:
    return [await where(), await asyncio.create_task(where())]


class Permission(BasePermission):
    async def __call__(self, connection: Any) -> bool:
        connection.user.append(await where())
        return True


class Telling(GenericWebsocket):
    auth = user_and_threads
    permissions = ~Permission | Permission

    async def connect(self):
        self.user.append(await where())
        await self.accept()
        self.scope["journal"].extend(self.user)


async def test_hooks_are_apart_from_what_is_asked_before():
    async with Peer(Telling.as_asgi()) as peer:
        await peer.accepted()
        *asked, connecting = peer.journal
        await peer.left()
    assert len(set(asked)) == 1
    assert connecting is await where() is not asked[0]


async def test_more_threads_where_they_are_busy_but_not_without_limit():
    resume, found = threading.Event(), set()

    async def enter() -> None:
        with apart_from_handlers():
            found.add(await where())
            # asgiref's way back, for which the one thread must not wait.
            await sync_to_async(async_to_sync(asyncio.sleep))(0)

    async def wait() -> None:
        with apart_from_handlers():
            await sync_to_async(resume.wait)(10)

    for _ in range(3):
        await enter()
    assert len(found) == 1
    waiting = [asyncio.create_task(wait()) for _ in range(20)]
    entering = [asyncio.create_task(enter()) for _ in range(20)]
    await asyncio.sleep(0)
    resume.set()
    await asyncio.gather(*waiting, *entering)
    assert len(found) == len(_threads.handshake_threads) == 4


@pytest.mark.parametrize("how", ["in a test run", "by the project", "by async_to_sync()"])
async def test_one_that_is_chosen_already(how: str, monkeypatch: pytest.MonkeyPatch):
    async def stays() -> bool:
        before = await where()
        with apart_from_handlers():
            return await where() is before

    if how == "in a test run":
        monkeypatch.setattr(mail, "outbox", [], raising=False)
        assert await stays()
    elif how == "by the project":
        async with ThreadSensitiveContext():
            assert await stays()
    else:
        assert await asyncio.to_thread(async_to_sync(stays))
    assert _threads.handshake_threads == []


class Asking(GenericWebsocket):
    async def auth(self, connection):
        return await User.objects.aget(username="uncommitted")

    async def connect(self):
        await self.accept()
        await self.send(self.user.username)


class Counting(GenericWebsocket):
    auth = JWTAuthentication

    async def connect(self):
        await self.accept()
        await self.send([self.user.username, await database_sync_to_async(User.objects.count)()])


class InTransaction(TestCase):
    """Django's own test case, whose rows no other connection sees."""

    @classmethod
    def setUpTestData(cls):
        User.objects.create(username="uncommitted")

    async def test_it_is_seen(self):
        del mail.outbox  # which Django has set once more
        async with WebsocketClient(Asking.as_asgi()).connect("/") as ws:
            assert await ws.receive() == "uncommitted"
        async with Peer(Asking.as_asgi()) as peer:
            await peer.accepted()
            assert (await peer.next())["text"] == "uncommitted"
            await peer.left()

    async def test_it_outlives_what_channels_closes(self):
        user = await User.objects.aget()
        headers = {"Authorization": f"Bearer {AccessToken.for_user(user)}"}
        for _ in range(2):
            async with WebsocketClient(Counting.as_asgi()).connect("/", headers=headers) as ws:
                assert await ws.receive() == '["uncommitted",1]'
        assert await User.objects.acount() == 1
