from panther_channels.sync import send_message_to_websocket

connection_id = "7e82d57c9ec04787b01916910a9f45aa"
send_message_to_websocket(connection_id, {"from": "the shell"})
