import enum
from datetime import date
from typing import Literal
from uuid import UUID

from panther_channels.websocket import GenericWebsocket, Websocket


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Seat(GenericWebsocket):
    async def connect(self, row: int, day: date, side: Literal["left", "right"] = "left"):
        await self.accept()
        await self.send({"row": row, "day": day, "side": side})


class Paint(GenericWebsocket):
    async def connect(self, colour: Colour, order: UUID, glossy: bool):
        await self.accept()
        await self.send(f"{colour.name} {order.version} {glossy}")


class Anything(GenericWebsocket):
    async def connect(self, me: Websocket, **variables: str):
        await me.accept()
        await me.send(variables)


websocket_urls = {
    "seats/<row>/<day>": Seat,
    "seats/<row>/<day>/<side>": Seat,
    "paint/<colour>/<order>/<glossy>": Paint,
    "any/<int:number>/<slug:word>": Anything,
}
