"""What ASGI does not tell of a connection: how much waits for its client, and how to cut it off.

A client that stops reading is no message of ASGI: `send()` just doesn't return. To see that and to
end it takes the transport, which is found behind the callables that the server gave. Where they are
none of a server that is known here, :func:`find` finds nothing, and the server's own limits hold.
"""

import socket
import struct
import sys
from typing import Any, Protocol

_BYTES_ACKED = 120  # where Linux has it in struct tcp_info, since 4.1


class Transport(Protocol):
    """The transport of one connection."""

    def waiting(self) -> int:
        """How many bytes wait in this process until the client takes them."""

    def taken(self) -> int:
        """A number that grows when the client takes bytes."""

    def unblock(self) -> None:
        """Let whoever waits in ``send()`` go on, so that a close frame can go out."""

    def abort(self) -> None:
        """End the connection now, without what waits."""


def find(*callables: Any) -> Transport | None:
    """The transport behind ASGI's ``send`` or ``receive``; ``None`` where it isn't known.

    Args:
        callables: those that the server gave; middlewares around us may have wrapped one of them.
    """
    for given in callables:
        protocol: Any = getattr(given, "__self__", None)
        if hasattr(protocol, "asgi_transport"):  # our own, of daphne
            found: Transport = protocol.asgi_transport
            return found
        if hasattr(getattr(protocol, "transport", None), "get_write_buffer_size"):  # also uvloop's
            return _UvicornTransport(protocol)
    return None


def acknowledged(connection: Any) -> int | None:
    """How many bytes the other end of a socket has acknowledged; ``None`` if that isn't known."""
    if sys.platform != "linux" or connection is None or connection.family == socket.AF_UNIX:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
        return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0])
    except (OSError, ValueError, struct.error):  # ValueError: uvloop's, of one that is closed
        return None


class _UvicornTransport:
    """The transport of a protocol of uvicorn 0.54."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        _mend_keepalive(type(protocol))

    def waiting(self) -> int:
        return int(self._protocol.transport.get_write_buffer_size())

    def taken(self) -> int:
        acked = acknowledged(self._protocol.transport.get_extra_info("socket"))
        return -self.waiting() if acked is None else acked

    def unblock(self) -> None:
        writable = getattr(self._protocol, "writable", None)
        if writable is not None:
            writable.set()

    def abort(self) -> None:
        self._protocol.transport.abort()


def _mend_keepalive(kind: Any) -> None:
    """Pings: to uvicorn 0.54 a client is dead whose pong comes late, whatever the reason.

    The ping of a slow client waits behind data, and where it is the handler that is slow, uvicorn
    itself has stopped reading: the pong may have come. Who takes data in the meantime is alive.
    """
    if not hasattr(kind, "keepalive_timeout") or hasattr(kind, "_taken_at_ping"):
        return
    send_ping, end = kind.send_keepalive_ping, kind.keepalive_timeout

    def send_keepalive_ping(protocol: Any) -> None:
        protocol._taken_at_ping = _UvicornTransport(protocol).taken()
        send_ping(protocol)

    def keepalive_timeout(protocol: Any) -> None:
        taken = _UvicornTransport(protocol).taken()
        if protocol.read_paused or taken > protocol._taken_at_ping:
            protocol._taken_at_ping = taken
            later = protocol.loop.call_later(protocol.ping_timeout, protocol.keepalive_timeout)
            protocol.pong_timer = later
        else:
            end(protocol)

    kind._taken_at_ping = 0
    kind.send_keepalive_ping, kind.keepalive_timeout = send_keepalive_ping, keepalive_timeout
