"""A class that asks the database in each of the ways that Django and Channels have."""

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import Error

from panther_channels.websocket import GenericWebsocket


class Asking(GenericWebsocket):
    """Asks in the way that a message names; all else is echoed."""

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

    async def _by_caught(self):
        try:
            return await ContentType.objects.acount()
        except Error:
            return "failed"


websocket_urls = {"ws": {"asking": Asking}}
