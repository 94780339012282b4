"""Reads the numbers that Redis answers a PUBLISH with, and leaves all else to redis-py."""

import asyncio
import re
from typing import Any

from panther_channels.layers.redis.ahead import Ahead

_NUMBERS = re.compile(rb"(?::\d+\r\n)+")


def answers_of(connection: Any) -> "Answers":
    """Those of a connection of redis-py, which must be there."""
    transport = connection._writer.transport
    protocol = transport.get_protocol()
    return protocol if isinstance(protocol, Answers) else Answers(transport)


class Answers(Ahead):
    """Waits for the answers to what is asked. What nobody waits for here is the stream's.

    Args:
        transport: that of a connection.
    """

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._waiter: asyncio.Future[list[int] | None] | None = None
        self._received = b""
        self._missing = 0  # lines
        self._is_over = False

    def ask(self, commands: bytes, count: int) -> "asyncio.Future[list[int] | None]":
        """Write commands, and wait for a number from each.

        Returns:
            The numbers; ``None`` where something else came, or the connection was lost. Then all
            that came is to be read by redis-py, which knows what it means.
        """
        waiter = asyncio.get_running_loop().create_future()
        if self._is_over or self._transport.is_closing():
            waiter.set_result(None)
        else:
            self._waiter, self._received, self._missing = waiter, b"", count
            self._transport.write(commands)
        return waiter

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has been read."""
        if self._waiter is None:
            self._stream.data_received(self._buffer[:nbytes])
            return
        received = bytes(self._buffer[:nbytes])
        self._received += received
        self._missing -= received.count(b"\n")
        if self._missing <= 0:
            self._answer()

    def eof_received(self) -> Any:
        """Redis has closed the connection."""
        self._end()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no connection any more."""
        self._end()
        super().connection_lost(exc)

    def _end(self) -> None:
        self._is_over = True
        if self._waiter is not None:
            self._answer()

    def _answer(self) -> None:
        waiter, self._waiter = self._waiter, None
        numbers = None
        if self._missing == 0 and _NUMBERS.fullmatch(self._received):
            numbers = [int(each) for each in self._received[1:].split(b":")]
        else:
            self._stream.data_received(self._received)
        if waiter is not None and not waiter.done():  # who waited may have been cancelled
            waiter.set_result(numbers)
