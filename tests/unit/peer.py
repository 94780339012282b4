"""The server's side of one connection, where a test decides about every ASGI message."""

import asyncio
from typing import Any, Self

SECONDS = 2.0
DENIAL: Any = {"websocket.http.response": {}}  # the extension of a server that can refuse so


def subclass(name: str, base: Any, **attributes: Any) -> Any:
    """A class with attributes that are a test's parameters."""
    return type(name, (base,), attributes)


class Peer:
    """Runs an ASGI application on a WebSocket scope.

    ::

        async with Peer(Echo.as_asgi()) as peer:
            assert (await peer.next())["type"] == "websocket.accept"

    Attributes:
        failure: what the server raises when the application sends.
        journal: a list in the scope, for what the application's hooks want to tell the test.
        task: the running application.
    """

    task: "asyncio.Task[None]"

    def __init__(self, application: Any, path: str = "/peer", **scope: Any) -> None:
        self.failure: BaseException | None = None
        self.journal: list[Any] = []
        self._application = application
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
            "subprotocols": [],
            "journal": self.journal,
            **scope,
        }

    async def __aenter__(self) -> Self:
        self.tell({"type": "websocket.connect"})
        self.task = asyncio.create_task(self.served())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=SECONDS)

    async def served(self) -> None:
        """Serve what was told, in the running task."""
        await self._application(self.scope, self._incoming.get, self.take)

    def tell(self, message: dict[str, Any]) -> None:
        """A message of the server."""
        self._incoming.put_nowait(message)

    def push(self, data: str | bytes) -> None:
        """A frame of the client."""
        key = "text" if isinstance(data, str) else "bytes"
        self.tell({"type": "websocket.receive", key: data})

    def leave(self, code: int | None = 1000, **fields: Any) -> None:
        """The end of the client, as a server tells it."""
        fields.setdefault("reason", "")
        self.tell({"type": "websocket.disconnect", "code": code, **fields})

    @property
    def unread(self) -> int:
        """How many messages of the application nobody has read."""
        return self._outgoing.qsize()

    async def next(self) -> dict[str, Any]:
        """The next message that the application sends."""
        return await asyncio.wait_for(self._outgoing.get(), SECONDS)

    async def accepted(self) -> Self:
        """Wait until the application has accepted."""
        message = await self.next()
        assert message["type"] == "websocket.accept"
        return self

    async def ended(self) -> list[dict[str, Any]]:
        """Wait until the application has returned; what it sent that nobody has read."""
        await asyncio.wait_for(asyncio.shield(self.task), SECONDS)
        return [self._outgoing.get_nowait() for _ in range(self.unread)]

    async def left(self, code: int | None = 1000) -> list[dict[str, Any]]:
        """leave(), and wait as ended() does."""
        self.leave(code)
        return await self.ended()

    async def journaled(self, entry: Any) -> None:
        """Wait until the journal has an entry."""
        async with asyncio.timeout(SECONDS):
            while entry not in self.journal:  # noqa: ASYNC110 - a list wakes nobody
                await asyncio.sleep(0)

    async def take(self, message: dict[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        self._outgoing.put_nowait(message)


class StuckPeer(Peer):
    """A server that shows its transport, and whose client takes nothing.

    Attributes:
        taken_so_far: a number that grows when the client takes bytes.
        backlog: how many bytes wait for it.
        aborted: how often the connection was cut off.
    """

    def __init__(self, *arguments: Any, **scope: Any) -> None:
        super().__init__(*arguments, **scope)
        self.asgi_transport = self
        self.taken_so_far = 0
        self.backlog = 1
        self.aborted = 0
        self._is_writable = asyncio.Event()

    async def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            await self._is_writable.wait()
        await super().take(message)

    def waiting(self) -> int:
        return self.backlog

    def taken(self) -> int:
        return self.taken_so_far

    def unblock(self) -> None:
        self._is_writable.set()

    def abort(self) -> None:
        self.aborted += 1
        self.backlog = 0
