"""The other end of the local layer's connections, where a test decides when it reads."""

import asyncio
import socket

from panther_channels.layers.local.directory import Directory


def named(name: str) -> str:
    """A name that a node may have."""
    return f"{name.encode().hex():0<8.8}"


class Listener:
    """A peer that reads when it is told to."""

    def __init__(self, directory: Directory, name: str) -> None:
        self.socket = directory.listen(named(name))
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self.connection, _ = self.socket.accept()
        self.connection.setblocking(False)
        return self.connection

    def read(self) -> bytes:
        """What is there now."""
        data = b""
        try:
            connection = self.connection or self.accept()
            while more := connection.recv(1 << 20):
                data += more
        except BlockingIOError:
            pass
        return data

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(10):
            while len(data) < size:
                data += self.read()
                await asyncio.sleep(0)
        return data

    def close(self) -> None:
        self.socket.close()
        if self.connection is not None:
            self.connection.close()
