from panther_channels.websocket import GenericWebsocket


class Room(GenericWebsocket):
    """What one member says, all members of the room hear."""

    async def connect(self, room: str):
        self.group = f"room.{room}"
        await self.accept()
        await self.channel_layer.group_add(self.group, self.channel_name)

    async def receive(self, data: str | bytes):
        event = {"type": "room.message", "text": data}
        await self.channel_layer.group_send(self.group, event)

    async def room_message(self, event):
        await self.send({"room": self.group, "text": event["text"]})

    async def disconnect(self, code: int):
        await self.channel_layer.group_discard(self.group, self.channel_name)


class News(GenericWebsocket):
    groups = ("news",)

    async def connect(self):
        await self.accept()

    async def news_flash(self, event):
        await self.send(event["headline"])


websocket_urls = {"rooms/<room>": Room, "news": News}
