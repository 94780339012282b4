"""WebSockets whose hooks misbehave, send much, or ask the database; and their URLs."""

import asyncio
import contextlib
import logging
import time
from types import SimpleNamespace

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db import Error, connection

from panther_channels.authentications import SessionAuthentication
from panther_channels.permissions import HasPermission, IsAuthenticated
from panther_channels.websocket import GenericWebsocket

logger = logging.getLogger("tests.faults")

FOR_EVER = 3600


class Hooks(GenericWebsocket):
    """Sends its connection id, echoes, and writes a line for its end."""

    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes):
        await self.send(data)

    async def disconnect(self, code: int):
        logger.info("disconnect called code=%s id=%s", code, self.connection_id)


# Hooks that misbehave


class SlowAuth(Hooks):
    async def auth(self, connection):
        await asyncio.sleep(FOR_EVER)


class SlowPermission(Hooks):
    async def permissions(self, connection):
        await asyncio.sleep(FOR_EVER)


class SlowConnect(Hooks):
    async def connect(self):
        await asyncio.sleep(FOR_EVER)


class SlowWithCode(SlowConnect):
    reject_with_close_code = True


class SlowAfterAccept(Hooks):
    """Its connect() goes on after accept()."""

    async def connect(self):
        await super().connect()
        await asyncio.sleep(float(self.query_params.get("seconds", FOR_EVER)))
        await self.send("connected")


class SlowReceive(Hooks):
    """Sleeps for as many seconds as a message says."""

    async def receive(self, data: str | bytes):
        logger.info("busy with %s", data)
        await self.be_busy(float(data))
        logger.info("handled %s", data)

    async def be_busy(self, seconds: float):
        await asyncio.sleep(seconds)


class SlowDisconnect(Hooks):
    async def disconnect(self, code: int):
        await super().disconnect(code)
        await asyncio.sleep(FOR_EVER)


class Stubborn(SlowReceive):
    """Takes no notice of a first cancellation, as wait_for() of Python 3.11 may."""

    async def be_busy(self, seconds: float):
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            logger.info("goes on")
        await asyncio.sleep(FOR_EVER)


class Deaf(SlowReceive):
    """Takes no notice of any cancellation."""

    async def be_busy(self, seconds: float):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(FOR_EVER)


class SlowEvents(SlowReceive):
    """Sleeps over what comes from outside, too."""

    async def send(self, data=None):
        if data == "sleep":
            logger.info("busy with an event")
            await asyncio.sleep(FOR_EVER)
        await super().send(data)


class Threaded(SlowReceive):
    """Waits for a thread that never ends."""

    async def be_busy(self, seconds: float):
        await sync_to_async(self.wait)()

    def wait(self) -> None:
        time.sleep(FOR_EVER)


class Blocking(Hooks):
    """Holds up the event loop for as many seconds as a message says."""

    async def receive(self, data: str | bytes):
        logger.info("busy with %s", data)
        time.sleep(float(data))  # noqa: ASYNC251 - the mistake that is looked for
        await self.send(data)


class Inherited(Blocking):
    """Has the blocking hook of another class."""


# Those that send much, or are slow to take what they get


class Push(Hooks):
    """Sends as many messages of as many bytes as it is told: "200 1000000"."""

    async def receive(self, data: str | bytes):
        count, size = map(int, data.split())
        try:
            for _ in range(count):
                await self.send("x" * size)
        finally:
            logger.info("push has ended")


class Slow(Hooks):
    """Takes 5 ms for a message; answers what is short."""

    async def receive(self, data: str | bytes):
        await asyncio.sleep(0.005)
        if len(data) < 100:
            await self.send(data)


class Count(Hooks):
    """Answers how many bytes came."""

    async def receive(self, data: str | bytes):
        await self.send(str(len(data)))


class Both(Push):
    """Sends while it receives; answers what is short."""

    async def receive(self, data: str | bytes):
        if len(data) < 20:
            self.create_task(super().receive(data))


class Gate(Count):
    """Waits in its handshake for "/gate/opened"; refuses "/gate/closed"."""

    async def connect(self):
        state = self.path.rpartition("/")[2]
        if state == "opened":
            gate.set()
        else:
            logger.info("waits at the gate")
            await gate.wait()
            gate.clear()
        if state != "closed":
            await self.accept()


gate = asyncio.Event()


class Limited(GenericWebsocket):
    """An echo for the user whose number is in the query."""

    async def auth(self, connection):
        number = self.query_params.get("user")
        return SimpleNamespace(pk=number) if number else None

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await self.send(data)


class LimitedWithCode(Limited):
    reject_with_close_code = True


class Asking(Hooks):
    """Asks the database in the way that a message names; all else is echoed."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        ask = getattr(self, f"_by_{data!s}", None)
        await self.send(data if ask is None else str(await ask()))

    async def _by_orm(self):
        return await ContentType.objects.acount()

    async def _by_database(self):
        return await database_sync_to_async(ContentType.objects.count)()

    async def _by_sync(self):
        return await sync_to_async(ContentType.objects.count)()

    async def _by_sleep(self):
        return await sync_to_async(self._sleep)()

    async def _by_database_sleep(self):
        return await database_sync_to_async(self._sleep)()

    def _sleep(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")

    async def _by_caught(self):
        try:
            return await ContentType.objects.acount()
        except Error:
            return "failed"


async def user_by_cache(connection):
    await cache.aset("auth", 1)


class Caching(Hooks):
    """Uses the cache in every hook, in an event, and in tasks that end before it or don't."""

    auth = user_by_cache

    async def permissions(self, connection):
        await sync_to_async(cache.set)("permissions", 1)
        return True

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await cache.aset("receive", 1)
        await self.create_task(cache.aset("task", 1))
        ready = asyncio.Event()
        self.create_task(self.linger(ready))
        await ready.wait()
        await self.channel_layer.send(self.channel_name, {"type": "use.cache"})

    async def linger(self, ready):
        await cache.aset("linger", 1)
        ready.set()
        await asyncio.sleep(FOR_EVER)

    async def use_cache(self, event):
        await cache.aset("event", 1)
        await self.send("used")

    async def disconnect(self, code: int):
        await super().disconnect(code)
        await cache.aset("disconnect", 1)


def _entered(**questions):
    """One whose authentication or permissions ask the database."""
    return type("Entered", (Asking,), questions)


async def user_by_orm(connection):
    return await User.objects.aget()


async def user_by_sync(connection):
    return await sync_to_async(User.objects.get)()


async def user_by_task(connection):
    return await asyncio.create_task(database_sync_to_async(User.objects.get)())


async def user_by_lines(connection):
    (user,) = [user async for user in User.objects.aiterator(chunk_size=1)]
    return user


async def user_there(connection):
    return await User.objects.aexists()


websocket_urls = {
    "entered": {
        "session": _entered(auth=SessionAuthentication, permissions=IsAuthenticated),
        "permitted": _entered(auth=SessionAuthentication, permissions=HasPermission("auth.x")),
        "orm": _entered(auth=user_by_orm),
        "sync": _entered(auth=user_by_sync),
        "task": _entered(auth=user_by_task),
        "lines": _entered(auth=user_by_lines),
        "permission": _entered(permissions=user_there),
    },
    "hooks": Hooks,
    "id": Hooks,
    "auth": SlowAuth,
    "permission": SlowPermission,
    "connect": SlowConnect,
    "code": SlowWithCode,
    "after": SlowAfterAccept,
    "receive": SlowReceive,
    "disconnect": SlowDisconnect,
    "stubborn": Stubborn,
    "deaf": Deaf,
    "events": SlowEvents,
    "threaded": Threaded,
    "blocking": Inherited,
    "push": Push,
    "slow": Slow,
    "count": Count,
    "both": Both,
    "limited": Limited,
    "limited-with-code": LimitedWithCode,
    "asking": Asking,
    "caching": Caching,
    "gate": {"open": Gate, "closed": Gate, "opened": Gate},
}
