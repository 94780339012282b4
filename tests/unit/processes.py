"""Processes that ask each other, played in one event loop on one in-memory layer."""

import secrets
from collections.abc import Callable
from typing import Any

from panther_channels._hub.survey import survey
from panther_channels.layers.backplane import Backplane, Inbox, Nodes, backplane


class Process(Backplane):
    """The channel layer as one process sees it.

    Attributes:
        there: the processes that the layer knows of; this one once it listens.
        knows: how it knows them: by their "names", as a "number", or not at all ("nothing").
        sent: the events that it has sent.
        loses: whether the last of them doesn't get out.
    """

    def __init__(self, layer: Any, there: set[str], knows: str = "names") -> None:
        self.name, self.there, self.knows = secrets.token_hex(4), there, knows
        self.sent: list[dict[str, Any]] = []
        self.loses: Callable[[dict[str, Any]], bool] = lambda _event: False
        self._default = backplane(layer)
        self.survey = survey(self)

    def node(self) -> str:
        return self.name

    async def nodes(self, group: str) -> Nodes:
        there = self.there
        if group.startswith("connection."):
            there = {name for name in there if name in group}
        if self.knows == "names":
            return Nodes(names=frozenset(there))
        return Nodes(number=len(there)) if self.knows == "number" else Nodes()

    async def open_channel(self) -> Inbox:
        self.there.add(self.name)
        return await self._default.open_channel()

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        if not self._loses(message):
            await self._default.send(channel, message)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if not self._loses(message):
            await self._default.group_send(group, message)

    def _loses(self, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return self.loses(message)

    def count(self, kind: str) -> int:
        """How many events of a kind it has sent."""
        return sum(kind in event for event in self.sent)

    def lose_next(self, kind: str) -> None:
        """Lose the next event of a kind."""
        sent = self.count(kind)
        self.loses = lambda event: kind in event and self.count(kind) == sent + 1


def failing(_event: dict[str, Any]) -> bool:
    """What a layer does that is away."""
    raise ConnectionError("away")
