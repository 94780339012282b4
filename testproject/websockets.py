"""The WebSockets of the demo site, one for each page."""

import asyncio
import json
from typing import Any

from panther_channels.authentications import SessionAuthentication
from panther_channels.connections import PresentUser
from panther_channels.exceptions import (
    ChannelLayerError,
    ConnectionNotFoundError,
    DeliveryTimeoutError,
)
from panther_channels.permissions import IsAuthenticated, IsStaff
from panther_channels.websocket import (
    GenericWebsocket,
    close_websocket_connection,
    list_connections,
    online_users,
    send_message_to_websocket,
)
from testproject.models import Message, Notification


class Echo(GenericWebsocket):
    """Sends back what it gets."""

    async def connect(self, **kwargs: Any) -> None:
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


class ShowId(GenericWebsocket):
    """Tells its client the id by which the connection can be reached from outside."""

    async def connect(self) -> None:
        await self.accept()
        await self.send({"connection_id": self.connection_id})


class Room(GenericWebsocket):
    """A chat: what a user says is kept, and goes to all in the room but the tab that says it."""

    auth = SessionAuthentication
    permissions = IsAuthenticated
    reject_with_close_code = True
    announces_presence = True

    async def connect(self, name: str) -> None:
        self.name, self.group = name, f"room {name}"
        await self.accept()
        await self.join(self.group)  # first, so that nothing is missed; the page knows what it has
        said = Message.objects.filter(room=name).select_related("sender").order_by("-pk")[:50]
        history = [message.as_json() async for message in said][::-1]
        members = [user.user_name for user in await online_users(self.group)]
        await self.send({"history": history, "members": members})

    async def receive(self, data: str | bytes) -> None:
        wanted = json.loads(data)
        if text := wanted.get("say", "").strip():
            message = await Message.objects.acreate(room=self.name, sender=self.user, text=text)
            await self.send_to_group(self.group, message.as_json(), exclude=self)
        else:
            await self.send_to_group(self.group, {"typing": self.user.get_username()}, exclude=self)

    async def user_joined(self, group: str, user: PresentUser) -> None:
        await self.send({"joined": user.user_name})

    async def user_left(self, group: str, user: PresentUser) -> None:
        await self.send({"left": user.user_name})


class Notifications(GenericWebsocket):
    """Shows a user's notifications: those that were sent before, and each one in the moment."""

    auth = SessionAuthentication
    permissions = IsAuthenticated
    reject_with_close_code = True

    async def connect(self) -> None:
        await self.accept()
        sent = Notification.objects.filter(user=self.user, sent_at__isnull=False).order_by("pk")
        await self.send({"notifications": [notification.as_json() async for notification in sent]})


class Staff(GenericWebsocket):
    """Shows staff what is connected, and lets them send to a connection, or close it."""

    auth = SessionAuthentication
    permissions = IsStaff
    reject_with_close_code = True

    async def connect(self) -> None:
        await self.accept()
        self.create_task(self.keep_current())

    async def keep_current(self) -> None:
        while True:
            try:
                found = await list_connections()
            except ChannelLayerError:  # it is asked again; what is shown may be old meanwhile
                await self.send({"is_away": True})
            else:
                await self.send({"connections": found, "missing": found.missing})
            await asyncio.sleep(1)

    async def receive(self, data: str | bytes) -> None:
        wanted = json.loads(data)
        try:
            if wanted["do"] == "close":
                await close_websocket_connection(
                    wanted["id"], 4000, "Closed by staff.", confirm_within=2
                )
            else:
                notice = {"notice": wanted["text"]}
                await send_message_to_websocket(wanted["id"], notice, confirm_within=2)
        except (ChannelLayerError, ConnectionNotFoundError, DeliveryTimeoutError) as error:
            await self.send({"notice": str(error)})
        else:
            await self.send({"notice": f"{wanted['do']}: done"})


class Private(GenericWebsocket):
    """Greets who is logged in. A page of somebody who isn't can read why it is refused."""

    auth = SessionAuthentication
    permissions = IsAuthenticated
    reject_with_close_code = True

    async def connect(self) -> None:
        await self.accept()
        await self.send(f"Hello, {self.user.get_username()}.")
