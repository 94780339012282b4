"""What happened on the server's side, for a client that could not see it.

A refused handshake shows its client nothing but a status. So the classes write down what they
went through under the scenario's name (the header ``X-Run``), and another connection reads it.
"""

import json
from collections import defaultdict
from contextlib import suppress

from tests.contracts.applications.package import GenericWebsocket, Websocket
from tests.waiting import until

_entries: dict[str, list[object]] = defaultdict(list)

# Long enough for an entry that is on its way; a scenario that expects fewer waits it out.
PATIENCE = 1.0


def run_of(connection: Websocket) -> str:
    """The name of the scenario that this connection belongs to."""
    return str(connection.headers["x-run"])


def note(connection: Websocket, entry: object) -> None:
    _entries[run_of(connection)].append(entry)


def facts(connection: Websocket) -> list[object]:
    """The state of a connection as the class itself sees it."""
    return [
        connection.state,
        connection.is_connected,
        connection.is_rejected,
        bool(connection.connection_id),
    ]


class Journal(GenericWebsocket):
    """Sends the entries of the caller's scenario as soon as there are as many as it asks for."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        run = run_of(self)
        with suppress(TimeoutError):
            await until(lambda: len(_entries[run]) >= int(data), PATIENCE)
        await self.send(json.dumps(_entries.pop(run, [])))
