"""What the tests here serve, as the documentation of Channels would have it written."""

import asyncio
import logging
import time
from urllib.parse import parse_qs
from uuid import uuid4

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.contrib.contenttypes.models import ContentType
from django.db import Error

logger = logging.getLogger("tests.plain")

FOR_EVER = 3600


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        self.connection_id = uuid4().hex
        self.group = f"connection.{self.connection_id}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data, bytes_data)

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def outside_send(self, event):
        await self.send(event["text"])

    async def outside_close(self, event):
        await self.close(event["code"])


class Id(Echo):
    async def connect(self):
        await super().connect()
        await self.send(self.connection_id)

    async def disconnect(self, code):
        logger.info("disconnect called code=%s id=%s", code, self.connection_id)
        await super().disconnect(code)


class Tasks(Echo):
    async def connect(self):
        await super().connect()
        await self.send(str(len(asyncio.all_tasks())))


class RejectWithCode(AsyncWebsocketConsumer):
    async def connect(self):
        await self.close(4003)


class Push(Id):
    async def receive(self, text_data=None, bytes_data=None):
        count, size = map(int, text_data.split())
        try:
            for _ in range(count):
                await self.send("x" * size)
        finally:
            logger.info("push has ended")


class Slow(Id):
    async def receive(self, text_data=None, bytes_data=None):
        await asyncio.sleep(0.005)
        if len(text_data) < 100:
            await self.send(text_data)


class Count(Id):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(str(len(text_data or bytes_data)))


class SlowConnect(Echo):
    async def connect(self):
        await asyncio.sleep(FOR_EVER)


class SlowAfterAccept(Id):
    async def connect(self):
        await super().connect()
        query = parse_qs(self.scope["query_string"].decode())
        await asyncio.sleep(float(query.get("seconds", [FOR_EVER])[0]))
        await self.send("connected")


class SlowReceive(Id):
    async def receive(self, text_data=None, bytes_data=None):
        logger.info("busy with %s", text_data)
        try:
            await asyncio.sleep(float(text_data))
        except asyncio.CancelledError:
            logger.info("cancelled at %s", text_data)
            raise
        logger.info("handled %s", text_data)


class SlowDisconnect(Id):
    async def disconnect(self, code):
        await super().disconnect(code)
        await asyncio.sleep(FOR_EVER)


class Stubborn(Id):
    async def receive(self, text_data=None, bytes_data=None):
        logger.info("busy with %s", text_data)
        try:
            await asyncio.sleep(FOR_EVER)
        except asyncio.CancelledError:
            logger.info("goes on")
        await asyncio.sleep(FOR_EVER)


class Blocking(Id):
    async def receive(self, text_data=None, bytes_data=None):
        time.sleep(float(text_data))  # noqa: ASYNC251 - the mistake that is looked for
        await self.send(text_data)


class Working(Id):
    async def connect(self):
        await super().connect()
        self.tasks = [asyncio.create_task(self.work())]

    async def receive(self, text_data=None, bytes_data=None):
        self.tasks.append(asyncio.create_task(self.fail()))

    async def work(self):
        logger.info("work begins")
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            logger.info("work ends")

    async def fail(self):
        raise ZeroDivisionError("raised in a task")


class Asking(Echo):
    async def receive(self, text_data=None, bytes_data=None):
        ask = getattr(self, f"by_{text_data}", None)
        await self.send(text_data if ask is None else str(await ask()))

    async def by_orm(self):
        return await ContentType.objects.acount()

    async def by_database(self):
        return await database_sync_to_async(ContentType.objects.count)()

    async def by_sync(self):
        return await sync_to_async(ContentType.objects.count)()

    async def by_caught(self):
        try:
            return await ContentType.objects.acount()
        except Error:
            return "failed"
