"""Hooks whose annotations are strings at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from panther_channels.websocket import GenericWebsocket

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes


class Unresolvable(GenericWebsocket):
    async def connect(self, number: int, amount: OnlyForTypes) -> None:
        await self.accept()
