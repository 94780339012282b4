"""One event loop's place among the processes: its socket, its channels, its peers."""

import asyncio
import logging
import socket
from pathlib import Path

from panther_channels.layers.backplane import node_of
from panther_channels.layers.local.channels import Channels
from panther_channels.layers.local.directory import Directory
from panther_channels.layers.local.frames import Decoder, Kind, encode
from panther_channels.layers.local.peers import Peers

logger = logging.getLogger("panther_channels")

_CHUNK = 64 * 1024  # bytes that are read before others get their turn
_ACCEPT_AGAIN = 1.0  # seconds after the process was out of file descriptors
_LOOK_AFTER = 10.0  # seconds between two looks whether the socket is still in its place
_TURN = 64  # sends to groups after which other tasks get their turn


class Node:
    """Listens at a socket of its own, once it has channels, and hands over what comes.

    Args:
        directory: where the sockets are.
        channels: the channels and groups of this event loop.
        peers: the sockets of all other nodes.

    Attributes:
        name: eight hexadecimal digits, once it listens: unique among those in the directory.
    """

    def __init__(self, directory: Directory, channels: Channels, peers: Peers) -> None:
        self.name = ""
        self.channels = channels
        self.peers = peers
        self._directory = directory
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sends = 0

    def listen(self) -> None:
        """Listen from now on; does nothing if it does already.

        Raises:
            ImproperlyConfigured: the directory can't be used.
        """
        if self._listener is None:
            if not self.name:
                self.name = self.peers.own_name = self._directory.new_name()
            self._start()
            self.peers.remove_dead()

    def names(self) -> set[str]:
        """All nodes that listen."""
        others = self.peers.names()
        return others if self._listener is None else {self.name, *others}

    async def group_send(self, group: str, payload: bytes) -> bool:
        """Send a message to all members of a group, wherever they are.

        Returns:
            Whether the node is there that a group belongs to.
        """
        owner, is_crowded, is_there = node_of(group), False, True
        if owner is None:
            slow = self.peers.write(encode(Kind.GROUP_SEND, group, payload))
            is_crowded = self._deliver_to_group(group, payload)
            for peer in slow:
                await peer.drain()
        elif owner == self.name:
            is_crowded = self._deliver_to_group(group, payload)
        else:
            is_there = await self.peers.post(owner, encode(Kind.GROUP_SEND, group, payload))
        self._sends += 1
        if is_crowded or self._sends % _TURN == 0:
            await asyncio.sleep(0)  # else a long series of sends would hold up all other tasks
        return is_there

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop listening, remove the socket and close all connections."""
        self._stop(loop)
        for connection in list(self._connections):
            self._hang_up(connection, loop)
        self.peers.close(loop)

    def abandon(self) -> None:
        """After a fork, in the child: close what is the parent's, whose event loop isn't ours."""
        if self._listener is not None:
            self._listener.close()
        for connection in self._connections:
            connection.close()
        self.peers.abandon()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = self._directory.listen(self.name)
        loop.add_reader(self._listener, self._accept)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(_LOOK_AFTER, self._look_after)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            self._directory.remove(self.name)

    def _look_after(self) -> None:
        # Whoever cleans /tmp may have taken the socket away: nobody would find us any more.
        loop = asyncio.get_running_loop()
        if Path(self._directory.path_of(self.name)).exists():
            self._timer = loop.call_later(_LOOK_AFTER, self._look_after)
            return
        self._stop(loop)
        try:
            self._start()
        except Exception:
            logger.exception("The channel layer can't listen at %r.", self._directory.path)
            self._timer = loop.call_later(_LOOK_AFTER, self._look_after)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                logger.exception("The channel layer can't accept connections.")
                loop.remove_reader(self._listener)
                loop.call_later(_ACCEPT_AGAIN, self._accept_again)
                return
            connection.setblocking(False)
            self._connections.add(connection)
            loop.add_reader(connection, self._read, connection, Decoder())

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _read(self, connection: socket.socket, decoder: Decoder) -> None:
        try:
            data = connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for kind, name, payload in decoder.feed(data):
                self._handle(kind, name, payload)
        except ValueError as error:  # FrameError, and a name that is no UTF-8
            text = "Another process sent the channel layer what it can't read: %s"
            logger.error(text, error)  # noqa: TRY400 - the traceback tells no more
            data = b""
        if not data:
            self._hang_up(connection, asyncio.get_running_loop())

    def _hang_up(self, connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(connection)
        connection.close()
        self._connections.discard(connection)

    def _handle(self, kind: int, name: str, payload: bytes) -> None:
        if kind == Kind.GROUP_SEND:
            self._deliver_to_group(name, payload)
        elif kind == Kind.SEND:
            self.channels.put_or_drop(self.channels.channel(name), payload)
        elif kind == Kind.GROUP_ADD:
            self.channels.join(payload.decode(), self.channels.channel(name))
        elif kind == Kind.GROUP_DISCARD:
            self.channels.discard(payload.decode(), name)
        else:
            self.channels.flush()

    def _deliver_to_group(self, group: str, payload: bytes) -> bool:
        is_crowded = False
        for channel in self.channels.members(group):
            self.channels.put_or_drop(channel, payload)
            is_crowded = is_crowded or channel.is_crowded
        return is_crowded
