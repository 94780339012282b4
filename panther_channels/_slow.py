"""How a connection ends whose client doesn't take what it is sent: 1013 "slow consumer"."""

import asyncio
import logging

from panther_channels import _transport, conf, status
from panther_channels._lines import shown
from panther_channels._state import OPEN, Ending, Socket, State

logger = logging.getLogger("panther_channels")

_REASON = "slow consumer"
_LINGER = 2.0  # seconds for the close frame to reach a client that does read


class SlowClient:
    """What one connection does when its client is too slow.

    Args:
        socket: the connection's.
    """

    __slots__ = ("_id", "_socket", "_task", "_transport")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._id = ""
        self._transport = _transport.find(socket.asgi_send, socket.receive)
        self._task: asyncio.Future[None] | None = None  # kept: a loop has only weak references

    def watch(self, connection_id: str) -> None:
        """Look from time to time whether the client takes anything.

        Args:
            connection_id: what the log calls it.
        """
        self._id = connection_id
        if self._transport is not None:
            _transport.watch().add(self._transport, self.stall)

    def release(self) -> None:
        """The connection has ended."""
        if self._transport is not None:
            _transport.watch().release(self._transport)

    def unblock(self) -> None:
        """A close frame goes out: it doesn't wait behind what waits."""
        if self._transport is not None:
            self._transport.unblock()

    def overflow(self) -> None:
        """More waits in the channel layer than may."""
        self._end(f"more than {conf.max_send_buffer()} bytes wait")

    def stall(self) -> None:
        """The client has taken nothing for too long."""
        self._end(f"nothing was taken for {conf.send_timeout():g} seconds")

    def _end(self, why: str) -> None:
        if self._socket.state is OPEN:
            if self._task is None:
                self._log(why)
                self._socket.is_gone = True
                self._task = asyncio.ensure_future(self._close())
            return
        if self._socket.state is State.CONNECTING:
            self._log(why)
        if self._transport is not None:
            self._transport.abort()

    async def _close(self) -> None:
        self.unblock()
        await self._socket.close(Ending(status.WS_1013_TRY_AGAIN_LATER, _REASON))
        if self._transport is not None:
            asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)

    def _log(self, why: str) -> None:
        logger.warning(
            "WebSocket %s, connection %s: %s, %s; it is closed with 1013.",
            shown(self._socket.scope["path"]),
            self._id or "(not accepted)",
            _REASON,
            why,
        )
