"""Classes whose connect() takes parts of the path."""

from tests.contracts.applications.package import GenericWebsocket, Websocket


class _Described(GenericWebsocket):
    async def describe(self, **values: object) -> None:
        await self.accept()
        await self.send({name: [type(value).__name__, value] for name, value in values.items()})


class Integer(_Described):
    async def connect(self, number: int):
        await self.describe(number=number)


class Boolean(_Described):
    async def connect(self, flag: bool):
        await self.describe(flag=flag)


class Untyped(_Described):
    async def connect(self, text):
        await self.describe(text=text)


class String(_Described):
    async def connect(self, text: str):
        await self.describe(text=text)


class Mixed(_Described):
    async def connect(self, user_id: int, room: str, flag: bool, rest):
        await self.describe(user_id=user_id, room=room, flag=flag, rest=rest)


class Keywords(_Described):
    async def connect(self, **kwargs):
        await self.describe(**kwargs)


class MixedKeywords(_Described):
    async def connect(self, number: int, **kwargs):
        await self.describe(number=number, **kwargs)


class Default(_Described):
    async def connect(self, number: int, page: int = 1):
        await self.describe(number=number, page=page)


class Injected(GenericWebsocket):
    async def connect(self, connection: Websocket, number: int):
        await connection.accept()
        await self.send([connection is self, number])


class InjectedGeneric(GenericWebsocket):
    async def connect(self, number: int, connection: GenericWebsocket):
        await self.accept()
        await connection.send([connection.path_variables, number])


class Attribute(GenericWebsocket):
    async def connect(self, number: int, flag: bool, text):
        await self.accept()
        await self.send(self.path_variables)

    async def receive(self, data: str | bytes) -> None:
        await self.send(self.path_variables)


class NoneAtAll(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send(self.path_variables)


URLS = {
    "int/<number>": Integer,
    "bool/<flag>": Boolean,
    "untyped/<text>": Untyped,
    "str/<text>": String,
    "mixed/<user_id>/rooms/<room>/<flag>/<rest>": Mixed,
    "keywords/<first>/<second>": Keywords,
    "mixed-keywords/<number>/<other>": MixedKeywords,
    "default/<number>": {"": Default, "<page>": Default},
    "injected/<number>": Injected,
    "injected-generic/<number>": InjectedGeneric,
    "attribute/<number>/<flag>/<text>": Attribute,
    "none": NoneAtAll,
}
