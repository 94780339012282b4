"""Takes what a connection of redis-py reads, before redis-py does.

redis-py reads from a stream of asyncio, through eight coroutines. For what comes often, that costs
more than all the rest.
"""

import asyncio
from typing import Any

# Bytes of the buffer; for a stream, asyncio has a new one of 256 KiB at every read. Not larger:
# uvloop fills it up to 32 times before anybody else has his turn.
_SIZE = 16 * 1024


class Ahead(asyncio.BufferedProtocol):
    """Comes before the protocol of a stream, which gets what isn't taken here.

    Args:
        transport: that of a connection.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._stream = transport.get_protocol()
        self._buffer = memoryview(bytearray(_SIZE))
        transport.set_protocol(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the transport may write what it reads."""
        return self._buffer

    def eof_received(self) -> Any:
        """Redis has closed the connection."""
        return self._stream.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no connection any more."""
        self._stream.connection_lost(exc)

    def pause_writing(self) -> None:
        """Too much waits to be written."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """It doesn't any more."""
        self._stream.resume_writing()
