"""Authentications, permissions and middlewares: every kind of callable, and their order."""

from functools import partial
from typing import Any

from tests.client import Client, Closed, Headers
from tests.contracts.applications import middlewares
from tests.contracts.applications.journal import facts, note
from tests.contracts.applications.package import (
    AuthenticationAPIError,
    BasePermission,
    GenericWebsocket,
    MeantError,
    Websocket,
)
from tests.contracts.scenarios.registry import URLS, Scenario, add, scenario

REFUSES = "an exception before accept refuses the handshake, whatever its class"
BOUND = "documented by Panther, where a function in a class body becomes a bound method"
NOBODY = "who isn't logged in is told so: a 401, as for a bad credential"
FALSY = "any falsy answer of a permission refuses: fail closed"


class NamedUser:
    def __init__(self, name: str = "class") -> None:
        self.name = name

    async def __call__(self, connection: Websocket) -> str:
        note(connection, f"auth {self.name}")
        return self.name

    async def method(self, connection: Websocket) -> str:
        return f"method of {self.name}"

    @classmethod
    async def of_class(cls, connection: Websocket) -> str:
        return cls.__name__

    @staticmethod
    async def static(connection: Websocket) -> str:
        return "static"


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


class Failing:
    async def __call__(self, connection: Websocket) -> None:
        raise MeantError("meant: in auth or a permission")


class Refusing:
    async def __call__(self, connection: Websocket) -> bool:
        raise AuthenticationAPIError("meant: refused")


class Closing:
    def __init__(self, answer: object = "somebody") -> None:
        self.answer = answer

    async def __call__(self, connection: Websocket) -> object:
        await connection.close(4001, "not you")
        return self.answer


class NotAsync:
    def __call__(self, connection: Websocket) -> str:
        return "somebody"

    def __repr__(self) -> str:
        return "meant: not async"


async def authenticate(connection: Websocket) -> str:
    return "function"


async def named(name: str, connection: Websocket) -> str:
    return name


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


class Looking:
    async def __call__(self, request: Websocket) -> bool:
        note(request, facts(request))
        return True


class User(GenericWebsocket):
    async def connect(self, *args, **kwargs):
        note(self, " ".join(["connect", *map(str, args), *map(str, kwargs.values())]))
        await self.accept()
        await self.send([self.user])

    async def receive(self, data: str | bytes) -> None:
        await self.send([self.user])


class Numbered(User):
    async def connect(self, number: int):
        await super().connect(number)


async def in_the_body(self: Any, connection: Websocket) -> object:
    return ["method", self is connection]


class DecidingLate(User):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auth = authenticate
        self.permissions = [deny]


async def _first(connect: Client, path: str, headers: Headers) -> object:
    """The user, whom the class knows as long as it is open; or the status."""
    user = await connect(path, headers=headers)
    if user.status != 101:
        return user.status
    first = await user.receive()
    return first if isinstance(first, Closed) else [first, await user.ask("again") == first]


def asked(
    name: str,
    *headers: dict[str, str],
    base: type[GenericWebsocket] = User,
    url: str = "",
    paths: tuple[str, ...] = ("",),
    noted: int | None = None,
    **options: Any,
) -> None:
    """A scenario: what those see who come with these headers, and what was noted of them.

    Other options are the class's ``auth`` and ``permissions``, or those of Scenario.
    """
    names = {"auth", "permissions"} & options.keys()
    attributes: dict[str, Any] = {name: options.pop(name) for name in names}

    async def play(connect: Client) -> object:
        seen = [await _first(connect, path, of) for of in headers or [{}] for path in paths]
        return seen if noted is None else [*seen, await connect.journal(noted)]

    handler = type(name, (base,), attributes)
    add(Scenario(name, play, f"/{name}/", **options), {url: handler} if url else handler)


DORA = {"X-Default-User": "dora"}
RIGHT, WRONG = {"Authorization": "Bearer right"}, {"Authorization": "Bearer wrong"}
OPEN = ["[null]", True]

# Authentications
asked("the_projects_authentication", DORA, {})
asked("the_own_authentication_wins", DORA, auth=NamedUser)
asked("authentication_by_a_class", auth=NamedUser, noted=2)
asked("authentication_by_an_instance", auth=NamedUser("instance"))
asked("authentication_by_a_method", auth=NamedUser("an object").method)
asked("authentication_by_a_static_function", auth=staticmethod(authenticate))
asked(
    "authentication_by_a_function", auth=authenticate, because=BOUND, ours=[['["function"]', True]]
)
asked("authentication_that_finds_nobody", DORA, auth=Nobody)
asked("authentication_that_finds_nobody_and_a_permission", auth=Nobody, permissions=HasUser,
      because=NOBODY, ours=[401])  # fmt: skip
asked(
    "authentication_by_a_header",
    *(RIGHT, WRONG, {}),
    auth=ByHeader,
    because="a bad credential is a 401",
    ours=[['[{"name":"ann"}]', True], 401, OPEN],
)
asked(
    "authentication_by_a_header_and_a_permission",
    *(RIGHT, WRONG, {}),
    auth=ByHeader,
    permissions=[HasUser],
    because=NOBODY,
    ours=[['[{"name":"ann"}]', True], 401, 401],
)
asked("authentication_that_fails", auth=Failing, permissions=allow, noted=0)
asked("authentication_that_closes", auth=Closing, permissions=[allow], noted=0)
asked("an_authentication_that_closes_is_the_last", auth=[Closing(None), NamedUser], noted=1,
      ours=[403, []])  # fmt: skip
for kind, auth, user in (
    ("a_class_method", NamedUser.of_class, '"NamedUser"'),
    ("a_static_method", NamedUser.static, '"static"'),
    (
        "a_class_method_of_its_own",
        classmethod(lambda _, connection: authenticate(connection)),
        '"function"',
    ),
    ("a_property", property(lambda _: authenticate), '"function"'),
    ("a_partial_function", partial(named, "partial"), '"partial"'),
    ("a_lambda", lambda connection: authenticate(connection), '"function"'),
    ("a_method_of_its_own", in_the_body, '["method",true]'),
    (
        "several_of_which_the_first_that_finds_somebody_counts",
        [Nobody, authenticate, NamedUser],
        '"function"',
    ),
):
    asked(f"authentication_by_{kind}", auth=auth, ours=[[f"[{user}]", True]])
asked("authentication_that_is_not_async", auth=NotAsync(), ours=[403])
asked("attributes_of_the_connection_itself", base=DecidingLate, noted=1, ours=[403, ["deny"]])

# Permissions
asked("a_single_permission", permissions=Allow)
asked("a_single_permission_object", permissions=Answer(True))
asked(
    "permissions_of_all_kinds",
    permissions=[allow, Allow, Answer(True), Answer(True).method],
    noted=4,
)
asked("no_permissions", permissions=[])
asked("permissions_none", permissions=None)
asked("a_permission_that_denies", DORA, permissions=[deny], noted=1)
asked("a_permission_class_that_denies", DORA, permissions=[Answer], noted=1)
asked("a_single_permission_that_denies", DORA, permissions=Answer, noted=1)
asked("the_last_permission_denies", DORA, permissions=[allow, Allow, deny], noted=3)
asked(
    "permissions_stop_at_the_first_refusal",
    DORA,
    permissions=[deny, allow],
    noted=2,
    because="permissions stop at the first refusal",
    ours=[403, ["deny"]],
)
asked("truthy_answers_of_permissions", permissions=[Answer(1), Answer("yes")])
FALSY_ANSWERS: dict[str, object] = {"none": None, "zero": 0, "no_text": "", "an_empty_list": []}
for name, answer in FALSY_ANSWERS.items():
    permissions = [Answer(answer), allow]
    ours = [403, [f"answer {answer!r}"]]
    asked(
        f"a_permission_that_answers_{name}",
        DORA,
        permissions=permissions,
        noted=2,
        because=FALSY,
        ours=ours,
    )
asked("a_permission_that_fails", permissions=[Failing])
asked(
    "a_permission_that_raises_a_package_error",
    permissions=[Refusing],
    because=REFUSES,
    ours=[403],
    refused=401,
)
asked("permission_by_a_function", permissions=allow, because=BOUND, ours=[OPEN])
asked("permissions_in_a_tuple", permissions=(allow, Allow), noted=3,
      ours=[OPEN, ["allow", "Allow", "connect"]])  # fmt: skip
asked("permissions_in_a_set", permissions={allow}, noted=2, ours=[OPEN, ["allow", "connect"]])
asked("permission_by_a_static_function", DORA, permissions=staticmethod(deny), ours=[403])
asked("permission_by_a_method_of_its_own", permissions=[in_the_body], ours=[OPEN])
asked("a_permission_that_closes", permissions=[Closing, allow], noted=1, ours=[403, []])
asked("a_permission_that_is_not_async", permissions=[NotAsync(), allow], noted=0, ours=[403, []])
asked(
    "permissions_see_the_request",
    *({"X-Room": "7"}, {"X-Room": "8"}),
    auth=NamedUser,
    permissions=[OwnsRoom],
    url="<room>",
    paths=("7/?open=1", "8/?open=1"),
)
asked("permissions_see_the_state", permissions=[Looking], noted=2)

# The order
ORDERED: dict[str, Any] = {"base": Numbered, "url": "<number>", "auth": NamedUser}
asked("the_order_of_a_handshake", **ORDERED, permissions=[allow, Allow], paths=("5/",), noted=4)
asked(
    "path_variables_are_cast_after_permissions",
    **ORDERED,
    permissions=[allow, Allow],
    paths=("x/",),
    noted=3,
    refused=400,
)
asked(
    "permissions_come_before_path_variables",
    **ORDERED,
    permissions=[allow, deny],
    paths=("x/",),
    noted=3,
)
asked("authentication_comes_before_permissions", WRONG, auth=ByHeader, permissions=[allow], noted=0,
      refused=401)  # fmt: skip

# Middlewares
URLS["middlewares"] = {"watched": middlewares.Watched, "denied": middlewares.Denied}
WATCHED, DENIED = "/middlewares/watched/", "/middlewares/denied/"


def passed(name: str, task: str, noted: int, path: str = WATCHED, **options: Any) -> None:
    """A scenario: the first that those see whom a middleware does a task for."""

    async def play(connect: Client) -> object:
        headers = {"X-Middleware": task, "X-Contract": "yes"}
        seen = await connect(path, headers=headers)
        first = await seen.receive() if seen.status == 101 else seen.status
        if task == "after":
            await seen.close()
        return [first, await connect.journal(noted)]

    add(Scenario(name, play, **options))


passed("a_middleware_that_closes", "close", 2)
passed("a_middleware_that_fails", "fail", 0)
passed("a_middleware_that_raises_a_package_error", "raise", 0, because=REFUSES, ours=[403, []],
       refused=401)  # fmt: skip
passed("a_middleware_that_does_not_dispatch", "swallow", 0, ours=[403, []])
passed("a_middleware_that_accepts_skips_no_permission", "accept", 1, DENIED,
       ours=[(1008, "Authentication Required"), ["deny"]])  # fmt: skip
passed("a_middleware_that_fails_afterwards", "after", 1, ours=["open", ["connect"]])
passed("a_middleware_sees_the_request", "look", 2, f"{WATCHED}?a=1")


@scenario
async def the_order_of_middlewares(connect: Client) -> object:
    watched = await connect(WATCHED, headers={"X-Middleware": "order"})
    seen = [await watched.receive(), await watched.ask("one"), await watched.close()]
    return [seen, await connect.journal(6)]


@scenario
async def a_middleware_sets_attributes(connect: Client) -> object:
    watched = await connect(WATCHED, headers={"X-Middleware": "attribute"})
    return [await watched.receive(), await watched.ask("tenant")]


@scenario
async def a_middleware_sees_the_state_after_a_client_close(connect: Client) -> object:
    watched = await connect(WATCHED, headers={"X-Middleware": "state"})
    return [await watched.receive(), await watched.close(), await connect.journal(2)]


@scenario
async def a_middleware_sees_the_state_after_an_own_close(connect: Client) -> object:
    watched = await connect(WATCHED, headers={"X-Middleware": "state"})
    return [await watched.receive(), await watched.ask("close"), await connect.journal(2)]
