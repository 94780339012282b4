"""Hooks whose annotations are strings at run time."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from panther_channels.websocket import GenericWebsocket

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes


def decorated(connect):
    """Of a module that doesn't know the names in the annotations of what it decorates."""

    @functools.wraps(connect)
    async def wrapper(*args, **kwargs):
        await connect(*args, **kwargs)

    return wrapper


class Unresolvable(GenericWebsocket):
    async def connect(self, number: int, amount: OnlyForTypes) -> None:
        await self.accept()
