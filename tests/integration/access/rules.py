"""Rules of the project's own: about whom a token may let in, and when."""

from typing import Any

from panther_channels.middlewares import WebsocketMiddleware


def is_not_bob(user: Any) -> bool:
    return bool(user.is_active) and user.username != "bob"


class AcceptEarly(WebsocketMiddleware):
    """Lets everybody in before anybody was asked."""

    async def __call__(self, connection):
        await connection.accept()
        return await self.dispatch(connection=connection)
