"""Annotations of connect() that Panther leaves alone or stumbles over."""

import datetime
import enum
import uuid
from decimal import Decimal
from typing import Literal, Optional

from tests.contracts.applications.package import GenericWebsocket


class Season(enum.Enum):
    SPRING = "spring"
    WINTER = "winter"


class _Described(GenericWebsocket):
    async def describe(self, value: object) -> None:
        await self.accept()
        await self.send([type(value).__name__, str(value)])


class Float(_Described):
    async def connect(self, value: float):
        await self.describe(value)


class Uuid(_Described):
    async def connect(self, value: uuid.UUID):
        await self.describe(value)


class DecimalNumber(_Described):
    async def connect(self, value: Decimal):
        await self.describe(value)


class Date(_Described):
    async def connect(self, value: datetime.date):
        await self.describe(value)


class Datetime(_Described):
    async def connect(self, value: datetime.datetime):
        await self.describe(value)


class Enumerated(_Described):
    async def connect(self, value: Season):
        await self.describe(value)


class Chosen(_Described):
    async def connect(self, value: Literal["left", "right"]):
        await self.describe(value)


class OptionalInteger(_Described):
    async def connect(self, value: Optional[int] = None):  # noqa: UP045 (the old spelling is the point)
        await self.describe(value)


class UnionInteger(_Described):
    async def connect(self, value: int | None):
        await self.describe(value)


class Returning(_Described):
    async def connect(self, value: int) -> None:
        await self.describe(value)


URLS = {
    "float/<value>": Float,
    "uuid/<value>": Uuid,
    "decimal/<value>": DecimalNumber,
    "date/<value>": Date,
    "datetime/<value>": Datetime,
    "enum/<value>": Enumerated,
    "literal/<value>": Chosen,
    "optional/<value>": OptionalInteger,
    "union/<value>": UnionInteger,
    "returning/<value>": Returning,
}
