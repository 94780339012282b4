"""The sending side of one connection: to the socket of another process.

It is written to directly and without blocking, so that a message is with the kernel, and outlives
its sender, when the call returns. A sender waits for a peer that is slow, but not for one that has
stopped reading.
"""

import asyncio
import logging
import socket
import time
from collections import deque

from panther_channels.layers.local.losses import Losses

logger = logging.getLogger("panther_channels")

#: Bytes that may wait for a peer that has stopped reading.
MAX_WAITING = 8 * 1024 * 1024
#: Seconds without reading after which a peer has stopped.
STALL = 0.5

_RETRY = 0.05  # seconds until a peer is asked again whose queue of connections is full


class PeerGoneError(Exception):
    """Nobody listens at a socket any more."""


class Peer:
    """One socket of another process, and what waits to be written to it.

    Args:
        path: where it is.
        losses: where it is told what was dropped.
    """

    def __init__(self, path: str, losses: Losses) -> None:
        self._path = path
        self._losses = losses
        self._socket: socket.socket | None = None
        self._waiting = bytearray()
        self._ends: deque[int] = deque()  # of the frames that wait, counted from the first byte
        self._written = 0
        self._is_reading = True
        self._has_read = False
        self._retry: asyncio.TimerHandle | None = None
        self._judgement: asyncio.TimerHandle | None = None
        self._senders: list[asyncio.Future[None]] = []

    def write(self, frame: bytes) -> bool:
        """Write a frame, or queue it; whether the sender should :meth:`drain`.

        Raises:
            PeerGoneError: nobody listens there.
        """
        if not self._waiting:
            sent = self._send(frame)
            if sent == len(frame):
                return False
            self._keep(memoryview(frame)[sent:])
            self._watch()
        elif self._is_reading or len(self._waiting) + len(frame) <= MAX_WAITING:
            self._keep(frame)
        else:
            self._losses.add(f"a process has stopped reading {self._path!r}.")
        return self._is_reading

    @property
    def is_connected(self) -> bool:
        """Whether there was somebody who listened, the last time that it was written to."""
        return self._socket is not None

    def is_still_connected(self) -> bool:
        """Whether the other end of the connection is there, whatever has become of the socket."""
        try:
            return self._socket is not None and self._socket.recv(1) != b""
        except BlockingIOError:  # it never sends anything
            return True
        except OSError:
            return False

    def is_alive(self) -> bool:
        """Whether somebody listens there."""
        try:
            if self._socket is None:
                self._connect()
        except PeerGoneError:
            return False
        except BlockingIOError:
            pass
        return True

    async def drain(self) -> None:
        """Wait until the kernel has taken all, or the peer turns out to have stopped reading."""
        while self._waiting and self._is_reading:
            sender = asyncio.get_running_loop().create_future()
            self._senders.append(sender)
            await sender

    def flush(self, deadline: float) -> None:
        """Write what waits, up to a time of ``time.monotonic()``, and no longer asynchronously."""
        while self._waiting and self._socket and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                self._advance(self._socket.send(self._waiting))
            except OSError:
                break
        if self._waiting:
            why = f"a process had stopped reading {self._path!r}, and the sender ended."
            self._losses.add(why, len(self._ends))

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the connection up, and what waits for it."""
        self._unwatch(loop)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._advance(len(self._waiting))
        self._wake()

    def abandon(self) -> None:
        """After a fork, in the child: close what is the parent's, whose event loop isn't ours."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, frame: bytes) -> int:
        if (connection := self._socket) is not None:
            try:
                return connection.send(frame)
            except BlockingIOError:
                return 0
            except ConnectionError:  # its event loop has ended, but perhaps another one has come
                connection.close()
                self._socket = None
        try:
            return self._connect().send(frame)
        except BlockingIOError:  # its queue of connections is full
            return 0

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(self._path)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            connection.close()
            raise PeerGoneError from error
        except BaseException:
            connection.close()
            raise
        self._socket = connection
        return connection

    def _keep(self, data: bytes | memoryview) -> None:
        self._waiting += data
        self._ends.append(self._written + len(self._waiting))

    def _advance(self, size: int) -> None:
        del self._waiting[:size]
        self._written += size
        while self._ends and self._ends[0] <= self._written:
            self._ends.popleft()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._retry = loop.call_later(_RETRY, self._connect_again)
        else:
            loop.add_writer(self._socket, self._write_waiting)
        self._expect_reading(loop)

    def _unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        for timer in (self._retry, self._judgement):
            if timer is not None:
                timer.cancel()
        self._retry = self._judgement = None
        if self._socket is not None and self._waiting:
            loop.remove_writer(self._socket)

    def _connect_again(self) -> None:
        try:
            self._connect()
        except BlockingIOError:
            pass
        except (PeerGoneError, OSError):
            self.close(asyncio.get_running_loop())
            return
        self._watch()

    def _write_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            sent = self._socket.send(self._waiting) if self._socket else 0
        except BlockingIOError:
            return
        except OSError:  # it has ended, and what it would have read with it
            self.close(loop)
            return
        self._has_read = self._is_reading = True
        if sent < len(self._waiting):
            self._expect_reading(loop)
        else:
            self._unwatch(loop)
            self._wake()
        self._advance(sent)

    def _expect_reading(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_reading and self._judgement is None:
            self._has_read = False
            self._judgement = loop.call_later(STALL, self._judge)

    def _judge(self) -> None:
        self._judgement = None
        self._is_reading = self._has_read
        if self._is_reading:
            self._expect_reading(asyncio.get_running_loop())
            return
        logger.warning(
            "A process has not read %r for %s s: messages to it are kept, up to %d bytes.",
            *(self._path, STALL, MAX_WAITING),
        )
        self._wake()

    def _wake(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            if not sender.done():
                sender.set_result(None)
