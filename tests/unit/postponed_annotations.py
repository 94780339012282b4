"""Hooks whose annotations are strings at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional
from uuid import UUID

from panther_channels.websocket import GenericWebsocket, Websocket

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes


class Postponed(GenericWebsocket):
    async def connect(
        self,
        number: int,
        key: UUID,
        maybe: Optional[bool],  # noqa: UP045
        connection: Websocket,
        plain="",
    ) -> None:
        await self.accept()


class Unresolvable(GenericWebsocket):
    async def connect(self, number: int, amount: OnlyForTypes) -> None:
        await self.accept()
