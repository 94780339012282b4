"""Authentications and permissions of every kind of callable."""

from tests.contracts.applications.journal import facts, note
from tests.contracts.applications.package import (
    AuthenticationAPIError,
    BasePermission,
    GenericWebsocket,
    MeantError,
    Websocket,
)


class DefaultAuthentication:
    """The WS_AUTHENTICATION of the project: a header names the user."""

    async def __call__(self, connection: Websocket) -> str | None:
        return connection.headers["x-default-user"]


class NamedUser:
    def __init__(self, name: str = "class") -> None:
        self.name = name

    async def __call__(self, connection: Websocket) -> str:
        note(connection, f"auth {self.name}")
        return self.name

    async def method(self, connection: Websocket) -> str:
        return f"method of {self.name}"


class Nobody:
    async def __call__(self, connection: Websocket) -> None:
        note(connection, "auth nobody")


class ByHeader:
    async def __call__(self, connection: Websocket) -> dict[str, str] | None:
        token = connection.headers.authorization
        if token is None:
            return None
        if token != "Bearer right":
            raise AuthenticationAPIError("Invalid token")
        return {"name": "ann"}


class FailingAuthentication:
    async def __call__(self, connection: Websocket) -> None:
        raise MeantError("meant: in auth")


class ClosingAuthentication:
    async def __call__(self, connection: Websocket) -> str:
        await connection.close(4001, "not you")
        return "somebody"


async def authenticate(connection: Websocket) -> str:
    return "function"


async def allow(connection: Websocket) -> bool:
    note(connection, "allow")
    return True


async def deny(connection: Websocket) -> bool:
    note(connection, "deny")
    return False


class Allow(BasePermission):
    async def __call__(self, connection: Websocket) -> bool:
        note(connection, "Allow")
        return True


class Answer:
    """A permission that answers with what it was made with."""

    def __init__(self, answer: object = False) -> None:
        self.answer = answer

    async def __call__(self, request: Websocket) -> object:
        note(request, f"answer {self.answer!r}")
        return self.answer

    async def method(self, request: Websocket) -> object:
        return self.answer


class HasUser(BasePermission):
    async def __call__(self, request: Websocket) -> bool:
        return bool(request.user)


class OwnsRoom(BasePermission):
    async def __call__(self, request: Websocket) -> bool:
        return (
            request.path_variables == {"room": "7"}
            and request.headers["x-room"] == "7"
            and request.query_params == {"open": "1"}
            and request.path.endswith("/7/")
            and request.user == "class"
        )


class FailingPermission:
    async def __call__(self, request: Websocket) -> bool:
        raise MeantError("meant: in a permission")


class RaisingPermission:
    async def __call__(self, request: Websocket) -> bool:
        raise AuthenticationAPIError("meant: refused")


class LookingPermission:
    async def __call__(self, request: Websocket) -> bool:
        note(request, facts(request))
        return True


class _User(GenericWebsocket):
    async def connect(self, *args, **kwargs):
        note(self, "connect")
        await self.accept()
        await self.send([self.user])

    async def receive(self, data: str | bytes) -> None:
        await self.send([self.user])


def _made(name: str, **attributes: object) -> type[GenericWebsocket]:
    return type(name, (_User,), attributes)


class Ordered(_User):
    auth = NamedUser
    permissions = [allow, Allow]  # noqa: RUF012 (as everybody writes it)

    async def connect(self, number: int):
        note(self, f"connect {number}")
        await self.accept()
        await self.send("open")


URLS = {
    "default": _User,
    "auth": {
        "class": _made("AuthClass", auth=NamedUser),
        "instance": _made("AuthInstance", auth=NamedUser("instance")),
        "method": _made("AuthMethod", auth=NamedUser("an object").method),
        "none": _made("AuthNone", auth=Nobody),
        "none-then-permission": _made("AuthPermission", auth=Nobody, permissions=HasUser),
        "header": _made("AuthHeader", auth=ByHeader),
        "header-and-user": _made("AuthHeaderUser", auth=ByHeader, permissions=[HasUser]),
        "failing": _made("AuthFailing", auth=FailingAuthentication, permissions=allow),
        "closing": _made("AuthClosing", auth=ClosingAuthentication, permissions=[allow]),
        "function": _made("AuthFunction", auth=authenticate),
        "static": _made("AuthStatic", auth=staticmethod(authenticate)),
    },
    "permission": {
        "single-class": _made("SingleClass", permissions=Allow),
        "single-instance": _made("SingleInstance", permissions=Answer(True)),
        "list": _made("AllKinds", permissions=[allow, Allow, Answer(True), Answer(True).method]),
        "empty": _made("Empty", permissions=[]),
        "nothing": _made("Nothing", permissions=None),
        "deny-function": _made("DenyFunction", permissions=[deny]),
        "deny-class": _made("DenyClass", permissions=[Answer]),
        "deny-single": _made("DenySingle", permissions=Answer),
        "deny-last": _made("DenyLast", permissions=[allow, Allow, deny]),
        "deny-first": _made("DenyFirst", permissions=[deny, allow]),
        "truthy": _made("Truthy", permissions=[Answer(1), Answer("yes")]),
        "answers-none": _made("AnswersNone", permissions=[Answer(None)]),
        "answers-zero": _made("AnswersZero", permissions=Answer(0)),
        "answers-empty": _made("AnswersEmpty", permissions=[Answer(""), Answer([])]),
        "failing": _made("PermissionFailing", permissions=[FailingPermission]),
        "raising": _made("PermissionRaising", permissions=[RaisingPermission]),
        "function": _made("PermissionFunction", permissions=allow),
        "looking": _made("Looking", permissions=[LookingPermission]),
        "rooms/<room>": _made("Room", auth=NamedUser, permissions=[OwnsRoom]),
    },
    "order/<number>": Ordered,
    "denied-order/<number>": type("DeniedOrder", (Ordered,), {"permissions": [allow, deny]}),
    "failed-order/<number>": type("FailedOrder", (Ordered,), {"auth": ByHeader}),
}
