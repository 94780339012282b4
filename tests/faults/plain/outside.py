"""How code of a project with Channels alone sends to a connection: by the names of ours."""

import json
from types import SimpleNamespace
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from redis import RedisError

__all__ = [
    "ChannelLayerError",
    "close_websocket_connection",
    "send_message_to_websocket",
    "sync",
]


async def send_message_to_websocket(connection_id: str, data: Any) -> None:
    text = data if isinstance(data, str) else json.dumps(data)
    await _send(connection_id, {"type": "outside.send", "text": text})


async def close_websocket_connection(connection_id: str, code: int = 1000) -> None:
    await _send(connection_id, {"type": "outside.close", "code": code})


async def _send(connection_id: str, event: dict[str, Any]) -> None:
    layer: Any = get_channel_layer()
    await layer.group_send(f"connection.{connection_id}", event)


sync = SimpleNamespace(send_message_to_websocket=async_to_sync(send_message_to_websocket))

# What tells a sender that a layer failed.
ChannelLayerError = (RedisError, OSError)
