"""Asking again who may stay: how often, how many at once, and what the answers do."""

import asyncio
import re
from collections import Counter, OrderedDict
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError

from panther_channels._hub import rechecks as _rechecks
from panther_channels._hub.rechecks import Rechecks
from panther_channels._socket.state import Socket, State
from panther_channels.authentications import BaseAuthentication
from panther_channels.exceptions import AuthenticationAPIError, BaseError, ChannelLayerError
from panther_channels.websocket import GenericWebsocket, recheck_user_websockets
from tests.client import Closed, InProcess
from tests.names import name_of
from tests.unit.peer import subclass
from tests.waiting import until


@pytest.fixture(autouse=True)
def _short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rechecks, "_REST", 0.05)
    monkeypatch.setattr(_rechecks, "_PATIENCE", 0.2)
    monkeypatch.setattr(_rechecks._unknown, "_known", OrderedDict())


def sockets(count: int) -> list[Socket]:
    found = [Socket("Checked") for _ in range(count)]
    for socket in found:
        socket.scope = {"path": "/"}
        socket.state = State.OPEN
    return found


class Asked:
    """Notes who asks, and how many do at once; fails while it is told to."""

    def __init__(self) -> None:
        self.times: Counter[Socket] = Counter()
        self.running = self.most = 0
        self.is_away = False

    def by(self, socket: Socket) -> Any:
        async def recheck() -> None:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.001)
            self.running -= 1
            self.times[socket] += 1
            if self.is_away:
                raise OSError("away")

        return recheck


async def test_a_few_at_a_time_and_each_once_for_all_that_is_wanted():
    rechecks, asked, all_of_them = Rechecks(), Asked(), sockets(50)
    for _ in range(100):
        for socket in all_of_them:
            rechecks.want(socket, asked.by(socket))
    await until(lambda: len(asked.times) == 50)
    # What was wanted before it was asked is answered; what comes later, after a rest.
    assert (asked.most, set(asked.times.values())) == (4, {1})
    rechecks.want(all_of_them[-1], asked.by(all_of_them[-1]))
    await until(lambda: asked.times[all_of_them[-1]] == 2)
    await until(lambda: not rechecks._known)
    assert asked.times.total() == 51


async def test_an_outage_is_not_asked_by_all(caplog: pytest.LogCaptureFixture):
    rechecks, asked, all_of_them = Rechecks(), Asked(), sockets(50)
    asked.is_away = True
    for socket in all_of_them:
        rechecks.want(socket, asked.by(socket))
    await until(lambda: asked.times.total() >= 8)
    assert len(asked.times) <= 12  # of each four, some rest
    all_of_them[0].state = State.CLOSED
    asked.is_away = False
    asked.times.clear()
    await until(lambda: not rechecks._known)
    assert set(asked.times.values()) == {1}
    assert set(all_of_them[1:]) >= asked.times.keys() >= set(all_of_them[12:])
    (line,) = caplog.messages  # not one for each
    assert "may stay isn't known, and it stays until it is: away" in line


class Badge(BaseAuthentication):
    """Answers as a test says, and raises what is an exception."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def __call__(self, connection):
        return User(pk=1)

    async def recheck(self, connection):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return await asyncio.Event().wait() if answer == "hang" else answer


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


LATER = AuthenticationAPIError("asked later")
ANSWERS: list[tuple[list[Any], tuple[int, str]]] = [
    ([None], (1008, "Authentication Error")),
    ([AuthenticationAPIError("your badge is void")], (1008, "your badge is void")),
    ([BaseError("come again", 4010)], (4010, "come again")),
    ([ZeroDivisionError("in recheck")], (1011, "")),
    # Nobody could be asked, and so somebody is asked again.
    ([OperationalError("away"), InterfaceError("away"), LATER], (1008, "asked later")),
    ([ConnectionRefusedError("away"), "hang", LATER], (1008, "asked later")),
    ([BaseError("away", 503), ChannelLayerError("away"), LATER], (1008, "asked later")),
]


@pytest.mark.parametrize(("answers", "ending"), ANSWERS, ids=name_of)
async def test_what_an_answer_does(
    answers: list[Any], ending: tuple[int, str], caplog: pytest.LogCaptureFixture
):
    badge = Badge(*answers)
    async with InProcess(subclass("Checked", Echo, auth=badge).as_asgi()) as connect:
        client = await connect("/")
        await recheck_user_websockets(User(pk=1))
        assert await client.receive() == Closed(*ending)
    assert badge.answers == []
    assert ("Traceback" in caplog.text) is (ending[0] == 1011)


async def test_who_may_stay_stays(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    badge, may = Badge(User(pk=1), User(pk=1)), [True]

    async def permissions(connection):
        return may[0]

    kind = subclass("Checked", Echo, auth=badge, permissions=permissions)
    async with InProcess(kind.as_asgi()) as connect:
        client = await connect("/")
        await recheck_user_websockets(User(pk=1))
        await until(lambda: len(badge.answers) == 1)
        assert await client.ask("still here") == "still here"
        may[0] = False
        await recheck_user_websockets(User(pk=1))
        assert await client.receive() == Closed(1008, "Permission Denied")
    assert re.search(r"access has ended by .*permissions.*: 'Permission Denied'", caplog.text)
