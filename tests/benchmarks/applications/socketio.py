"""The echo of python-socketio: an event with a name, answered by one."""

import socketio

server = socketio.AsyncServer(async_mode="asgi")
application = socketio.ASGIApp(server, socketio_path="ws")


@server.event
async def echo(sid: str, data: str) -> None:
    await server.emit("echo", data, to=sid)
