"""The WebSockets of the demo site, one for each page."""

from typing import Any

from panther_channels.authentications import SessionAuthentication
from panther_channels.permissions import IsAuthenticated
from panther_channels.websocket import GenericWebsocket
from testproject.views import MAX_NAME


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
    """A chat: what one client says goes to the group of the room, and from there to everybody."""

    async def connect(self, name: str) -> None:
        self.room = f"room.{name}"
        self.nickname = self.query_params.get("name", "guest")[:MAX_NAME]
        await self.accept()
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.tell_everybody(f"{self.nickname} came in")

    async def receive(self, data: str | bytes) -> None:
        if isinstance(data, str) and data.strip():
            await self.tell_everybody(data, sender=self.nickname)

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)
        await self.tell_everybody(f"{self.nickname} left")

    async def tell_everybody(self, text: str, sender: str = "") -> None:
        event = {"type": "chat.message", "sender": sender, "text": text}
        await self.channel_layer.group_send(self.room, event)

    async def chat_message(self, event: dict[str, str]) -> None:
        await self.send({"sender": event["sender"], "text": event["text"]})


class Private(GenericWebsocket):
    """Greets who is logged in. A page of somebody who isn't can read why it is refused."""

    auth = SessionAuthentication
    permissions = IsAuthenticated
    reject_with_close_code = True

    async def connect(self) -> None:
        await self.accept()
        await self.send(f"Hello, {self.user.get_username()}.")
