"""The echo of django-bolt, which has a server of its own."""

from django_bolt import BoltAPI
from django_bolt.websocket import WebSocket

api = BoltAPI()


@api.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)
