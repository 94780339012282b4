"""Sees the end of a client behind a hook that is busy.

A server tells of the end in the same queue as of messages, where the next look would be after the
hook. So once a hook takes its time, somebody else looks, and keeps what comes in the meantime.
"""

import asyncio
from collections import deque

from panther_channels._socket.state import Message, Socket

_AHEAD = 64 * 1024  # bytes; further on, the transport slows the client down as it would without us
_OVERHEAD = 256  # bytes that every message counts more, for empty ones cost memory, too


class ReadingAhead:
    """Takes the place of ``socket.receive`` until what it read ahead has been received.

    Args:
        socket: that of a connection whose hook is busy.

    Attributes:
        end: the event by which the server told that the client has gone, once it did.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._receive = socket.receive
        self._ahead: deque[asyncio.Future[Message]] = deque()
        self._size = 0
        self._next: asyncio.Future[Message] | None = None
        self._is_awaited = False
        self.end: Message | None = None

    def go_on(self) -> None:
        """Read the next event, unless enough of them are waiting."""
        if self._next is None and self.end is None and self._size < _AHEAD:
            self._socket.receive = self.receive
            self._next = asyncio.ensure_future(self._receive())
            self._next.add_done_callback(self._came)

    async def receive(self) -> Message:
        """What the server's own ``receive`` would give, in the same order."""
        if not self._ahead and self._next is not None:
            self._is_awaited = True
            try:
                await asyncio.wait({self._next})
            finally:
                self._is_awaited = False
        if not self._ahead:
            self._socket.receive = self._receive
            return await self._receive()
        message = self._ahead.popleft().result()
        self._size -= _cost_of(message)
        return message

    def close(self) -> None:
        """Give up what nobody will receive any more."""
        if self._next is not None:
            self._next.cancel()
        self._socket.receive = self._receive

    def _came(self, future: "asyncio.Future[Message]") -> None:
        self._next = None
        if future.cancelled():
            return
        self._ahead.append(future)
        if future.exception() is not None:  # for whoever receives it
            return
        message = future.result()
        self._size += _cost_of(message)
        if message["type"] != "websocket.receive":
            self.end = message
        elif not self._is_awaited:
            self.go_on()


def _cost_of(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or "") + _OVERHEAD
