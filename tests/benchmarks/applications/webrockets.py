"""The echo of webrockets, which is its own server: the port, and "sync" or "async" handlers."""

import sys

from webrockets import WebsocketServer

port, how = sys.argv[1:]
server = WebsocketServer(host="127.0.0.1", port=int(port))
echo = server.create_route("ws", "echo")

if how == "async":

    @echo.receive
    async def answer(connection, data):
        await connection.asend(data)

else:

    @echo.receive
    def answer(connection, data):
        connection.send(data)


server.start()
