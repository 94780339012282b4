from panther_channels.websocket import GenericWebsocket


class Say(GenericWebsocket):
    async def connect(self, **variables: str):
        await self.accept()
        await self.send([self.path, variables])


async def bare(scope, receive, send):
    """Any ASGI application can stand in the dict, too."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1000, "reason": "that was all"})


chat_urls = {
    "": Say,  # /ws/chat
    "lobby": Say,  # /ws/chat/lobby
    "<room>": Say,  # /ws/chat/kitchen, but never /ws/chat/lobby
}

websocket_urls = {
    "": Say,  # the root
    "ws": {
        "chat": chat_urls,
        "users/<user_id>/inbox/": Say,
        "bare": bare,
    },
}
