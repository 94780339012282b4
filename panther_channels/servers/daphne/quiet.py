"""What autobahn makes for a debug log that nobody reads: half of what a message costs on daphne.

Written for autobahn 26.10.2, which paints names and numbers in colours, by click, at each read and
each write, and prints all its options neatly at each connection, before it asks whether that is
logged.
"""

from operator import attrgetter
from typing import Any

from autobahn.twisted import websocket as autobahn_twisted
from autobahn.websocket import protocol as autobahn
from daphne import ws_protocol

_OPTIONS = autobahn.WebSocketServerProtocol.CONFIG_ATTRS


def install() -> None:
    """In the debug log of this process, names and numbers are without colours."""
    for module in (autobahn, autobahn_twisted):
        # Of a method its name: its text has that of the protocol, for which daphne needs a request.
        vars(module).update(hltype=attrgetter("__qualname__"), hlval=_plain)


def _plain(value: Any) -> Any:
    return value


class QuietProtocol(ws_protocol.WebSocketProtocol):  # type: ignore[misc]
    """daphne's protocol, whose options nobody prints."""

    CONFIG_ATTRS = ()

    message_data: Any

    def _connectionMade(self) -> None:  # noqa: N802
        """The options: those of the factory, where a class has none of its own."""
        for name in _OPTIONS:
            if not hasattr(self, name):
                setattr(self, name, getattr(self.factory, name))
        super()._connectionMade()

    def onMessageEnd(self) -> None:  # noqa: N802
        """The end of a message: autobahn makes some objects for listeners, of which it has none."""
        if not self.failedByMe:
            self._onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = None
