"""WebSockets whose hooks misbehave, and their URLs."""

import asyncio
import contextlib
import logging
import time

from asgiref.sync import sync_to_async

from panther_channels.websocket import GenericWebsocket

logger = logging.getLogger("tests.faults")

FOR_EVER = 3600


class Hooks(GenericWebsocket):
    """Sends its connection id, and writes a line for its end."""

    async def connect(self):
        await self.accept()
        await self.send(self.connection_id)

    async def receive(self, data: str | bytes):
        await self.send(data)

    async def disconnect(self, code: int):
        logger.info("disconnect called code=%s id=%s", code, self.connection_id)


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
        try:
            await asyncio.sleep(float(self.query_params.get("seconds", FOR_EVER)))
            await self.send("connected")
        except asyncio.CancelledError:
            logger.info("connect() was cancelled")
            raise


class SlowReceive(Hooks):
    """Sleeps for as many seconds as a message says, and sends it back."""

    async def receive(self, data: str | bytes):
        logger.info("busy with %s", data)
        try:
            await asyncio.sleep(float(data))
        except asyncio.CancelledError:
            logger.info("cancelled at %s", data)
            raise
        logger.info("handled %s", data)


class SlowDisconnect(Hooks):
    async def disconnect(self, code: int):
        await super().disconnect(code)
        await asyncio.sleep(FOR_EVER)


class Stubborn(Hooks):
    """Takes no notice of a first cancellation, as wait_for() of Python 3.11 may."""

    async def receive(self, data: str | bytes):
        logger.info("busy with %s", data)
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            logger.info("goes on")
        await asyncio.sleep(FOR_EVER)


class Deaf(Hooks):
    """Takes no notice of any cancellation."""

    async def receive(self, data: str | bytes):
        logger.info("busy with %s", data)
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(FOR_EVER)


class Threaded(Hooks):
    """Waits for a thread that never ends."""

    async def receive(self, data: str | bytes):
        logger.info("busy with %s", data)
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


class Working(Hooks):
    """Runs tasks: one for ever, and one that fails."""

    async def connect(self):
        await super().connect()
        self.create_task(self.work(), name="work")

    async def receive(self, data: str | bytes):
        self.create_task(self.fail())

    async def work(self):
        logger.info("work begins")
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            logger.info("work ends")

    async def fail(self):
        raise ZeroDivisionError("raised in a task")


websocket_urls = {
    "hooks": Hooks,
    "auth": SlowAuth,
    "permission": SlowPermission,
    "connect": SlowConnect,
    "code": SlowWithCode,
    "after": SlowAfterAccept,
    "receive": SlowReceive,
    "disconnect": SlowDisconnect,
    "stubborn": Stubborn,
    "deaf": Deaf,
    "threaded": Threaded,
    "blocking": Inherited,
    "working": Working,
}
