"""The sockets of the other nodes, as they come and go."""

import asyncio
import time

from panther_channels.layers.local.directory import Directory
from panther_channels.layers.local.losses import Losses
from panther_channels.layers.local.peer import Peer, PeerGoneError

#: Seconds that an event loop, when it closes, gives to all peers that have not read everything.
LAST_WAIT = 1.0

# Changes within this time may carry the same time stamp: clocks of file systems are coarse.
_CLOCK_STEP = 1_100_000_000  # nanoseconds


class Peers:
    """The sockets of the other nodes, as far as one event loop writes to them.

    Args:
        directory: where the sockets are.
        losses: where it is told what was dropped.

    Attributes:
        own_name: the node of this event loop, which is none of them; empty where it has none.
    """

    def __init__(self, directory: Directory, losses: Losses) -> None:
        self.own_name = ""
        self._directory = directory
        self._losses = losses
        self._peers: dict[str, Peer] = {}
        self._changed: int | None = -1

    async def broadcast(self, frame: bytes) -> None:
        """Write a frame to all of them."""
        for peer in self.write(frame):
            await peer.drain()

    async def post(self, name: str, frame: bytes) -> bool:
        """Write a frame to one of them; whether there is one of this name."""
        peer = self._peers.get(name)
        if peer is None or not peer.is_connected:  # else there is no need to look at the directory
            self.look()
            peer = self._peers.get(name)
        if peer is None:
            return False
        try:
            if peer.write(frame):
                await peer.drain()
        except PeerGoneError:
            self._remove([name])
            return False
        return True

    def write(self, frame: bytes) -> list[Peer]:
        """Write a frame to all of them; those for which the sender should wait."""
        self.look()
        slow, gone = [], []
        for name, peer in self._peers.items():
            try:
                if peer.write(frame):
                    slow.append(peer)
            except PeerGoneError:
                gone.append(name)
        self._remove(gone)
        return slow

    def names(self) -> set[str]:
        """The nodes that there are, without that of this event loop."""
        self.look()
        return set(self._peers)

    def remove_dead(self) -> None:
        """Remove the sockets of processes that were killed, and connect to all others."""
        self.look()
        self._remove([name for name, peer in self._peers.items() if not peer.is_alive()])

    def look(self) -> None:
        """See which have come and gone, where there was a change.

        Raises:
            ImproperlyConfigured: the directory is not safe.
        """
        changed = self._directory.changed()
        if changed == self._changed:
            return
        # What changes in the same instant again would go unnoticed: only an old time is remembered.
        is_old = changed is None or time.time_ns() - changed > _CLOCK_STEP
        names = self._directory.names() - {self.own_name}
        self._changed = changed if is_old else -1
        for name in self._peers.keys() - names:
            # Whoever cleans /tmp takes sockets away, and no connections.
            if not self._peers[name].is_still_connected():
                self._peers.pop(name).close(asyncio.get_running_loop())
        for name in names - self._peers.keys():
            self._peers[name] = Peer(self._directory.path_of(name), self._losses)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._directory.remove(name)
            self._peers.pop(name).close(asyncio.get_running_loop())

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what waits, as long as :data:`LAST_WAIT` allows, and close all connections."""
        deadline = time.monotonic() + LAST_WAIT
        for peer in self._peers.values():
            peer.flush(deadline)
            peer.close(loop)
        self._peers.clear()

    def abandon(self) -> None:
        """After a fork, in the child: close what is the parent's."""
        for peer in self._peers.values():
            peer.abandon()
        self._peers.clear()
