from asgiref.sync import async_to_sync

from panther_channels.websocket import send_message_to_websocket

connection_id = "7e82d57c9ec04787b01916910a9f45aa"
async_to_sync(send_message_to_websocket)(connection_id, {"from": "the shell"})
