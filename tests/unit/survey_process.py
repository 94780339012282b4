"""Processes that ask each other, played in one event loop on one in-memory layer."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from panther_channels.layers.backplane import Backplane, Nodes, backplane


class Process(Backplane):
    """The channel layer as one process sees it.

    Attributes:
        there: all processes that the layer knows of; this one once it listens.
        knows: how it knows them: by their "names", as a "number", or not at all ("nothing").
        sent: the events that it has sent.
        loses: whether the last of them doesn't get out.
    """

    def __init__(self, layer: Any, there: "list[Process]", knows: str = "names") -> None:
        self.name = secrets.token_hex(4)
        self.there, self.knows = there, knows
        self.loses: Callable[[dict[str, Any]], bool] = lambda _event: False
        self.sent: list[dict[str, Any]] = []
        self._default = backplane(layer)

    def count(self, kind: str) -> int:
        """How many events of a kind it has sent."""
        return sum(kind in event for event in self.sent)

    def node(self) -> str:
        return self.name

    async def nodes(self, group: str) -> Nodes:
        there = {item.name for item in self.there}
        if group.startswith("connection."):
            there = {name for name in there if name in group}
        if self.knows == "names":
            return Nodes(names=frozenset(there))
        return Nodes(number=len(there)) if self.knows == "number" else Nodes()

    async def new_channel(self) -> str:
        self.there.append(self)
        return await self._default.new_channel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._default, name)

    async def release(self, channel: str) -> None:
        await self._default.release(channel)

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if not self.loses(message):
            await self._default.send(channel, message)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if not self.loses(message):
            await self._default.group_send(group, message)


def first(kind: str, count: int = 1) -> Callable[[dict[str, Any]], bool]:
    """Loses that many events of a kind."""
    left = [kind] * count

    def loses(event: dict[str, Any]) -> bool:
        return kind in event and bool(left) and bool(left.pop())

    return loses


async def at_once(call: Any) -> Any:
    """What comes without that the time has to pass which a question may take."""
    return await asyncio.wait_for(call, 5)
