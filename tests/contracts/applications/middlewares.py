"""WS_AUTHENTICATION, and WS_MIDDLEWARES that do only what the header X-Middleware asks for."""

from tests.contracts.applications.journal import facts, note
from tests.contracts.applications.package import (
    AuthenticationAPIError,
    GenericWebsocket,
    MeantError,
    Websocket,
    WebsocketMiddleware,
)


class DefaultAuthentication:
    """The WS_AUTHENTICATION of the project: a header names the user."""

    async def __call__(self, connection: Websocket) -> str | None:
        return connection.headers["x-default-user"]


class Outer(WebsocketMiddleware):
    async def __call__(self, connection: Websocket) -> Websocket:
        task = connection.headers["x-middleware"]
        if task == "order":
            note(connection, "outer before")
        result = await self.dispatch(connection=connection)
        if task == "order":
            note(connection, "outer after")
        elif task == "after":
            raise MeantError("meant: after the end")
        elif task == "state":
            note(connection, [*facts(result), type(result).__name__, result.path_variables])
        return result


class Inner(WebsocketMiddleware):
    async def __call__(self, connection: Websocket) -> Websocket:
        match connection.headers["x-middleware"]:
            case "order":
                note(connection, "inner before")
                result = await self.dispatch(connection=connection)
                note(connection, "inner after")
                return result
            case "close":
                note(connection, facts(connection))
                await connection.close(4001, "not you")
                note(connection, facts(connection))
                return connection
            case "swallow":
                return connection
            case "accept":
                await connection.accept()
            case "fail":
                raise MeantError("meant: in a middleware")
            case "raise":
                raise AuthenticationAPIError("meant: refused")
            case "attribute":
                connection.tenant = "acme"
                connection.user = "set before"
            case "look":
                note(
                    connection,
                    [connection.path, connection.query_params, connection.headers["x-contract"]],
                )
        return await self.dispatch(connection=connection)


class Watched(GenericWebsocket):
    auth = None

    async def connect(self):
        note(self, "connect")
        await self.accept()
        await self.send("open")

    async def receive(self, data: str | bytes) -> None:
        if data == "close":
            await self.close(4002, "asked")
        elif data == "tenant":
            await self.send(self.tenant)
        else:
            note(self, ["receive", data])
            await self.send(data)


class Denied(Watched):
    async def permissions(self, connection: Websocket) -> bool:
        note(self, "deny")
        return False
