import functools
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import InMemoryChannelLayer
from django.contrib.auth.models import User
from django.db import connections
from django.test import override_settings

from panther_channels._handshake import confirm
from panther_channels.authentications import BaseAuthentication
from panther_channels.exceptions import AuthenticationAPIError, BaseError
from panther_channels.middlewares import WebsocketMiddleware
from panther_channels.permissions import BasePermission
from panther_channels.websocket import GenericWebsocket
from tests.names import name_of
from tests.unit.peer import Peer, subclass

REFUSED = {"type": "websocket.close", "code": 1008, "reason": ""}


def note(connection: GenericWebsocket, entry: Any) -> None:
    connection.scope["journal"].append(entry)


class Open(GenericWebsocket):
    async def connect(self):
        note(self, ("connect", self.user))
        await self.accept()


async def alice(connection):
    note(connection, "asked")
    return "alice"


def sync_alice(connection):
    return "alice"


async def raising(connection):
    raise ValueError("no such user")


async def refusing(connection):
    raise AuthenticationAPIError("bad token")


async def closing(connection):
    await connection.close()


class Alice(BaseAuthentication):
    async def __call__(self, request):
        return await alice(request)


class Bob(Alice):
    async def __call__(self, request):
        note(request, "asked")
        return "bob"


class Methods:
    async def method(self, connection):
        return await alice(connection)

    @classmethod
    async def of_class(cls, connection):
        return await alice(connection)

    @staticmethod
    async def static(connection):
        return await alice(connection)


async def partly(user, connection):
    return await alice(connection)


AUTHS = [
    alice,
    Alice,
    Alice(),
    staticmethod(alice),
    classmethod(lambda cls, connection: alice(connection)),
    property(lambda self: alice),
    Methods().method,
    Methods.of_class,
    Methods.static,
    functools.partial(partly, "x"),
    lambda connection: alice(connection),
]


@pytest.mark.parametrize("auth", AUTHS, ids=name_of)
async def test_auth(auth: Any):
    consumer = subclass("Authenticated", Open, auth=auth)
    async with Peer(consumer.as_asgi()) as peer:
        await peer.accepted()
        assert peer.journal == ["asked", ("connect", "alice")]
        peer.leave()
        await peer.ended()


async def test_auth_as_a_method_of_the_class():
    class WithMethod(Open):
        async def auth(self, connection):
            return ("method", self is connection)

    async with Peer(WithMethod.as_asgi()) as peer:
        await peer.accepted()
        assert peer.journal == [("connect", ("method", True))]


@pytest.mark.parametrize(("auth", "user"), [(None, "alice"), (Bob, "bob")])
async def test_the_class_wins_over_the_setting(auth: Any, user: str):
    consumer = subclass("Authenticated", Open, auth=auth)
    with override_settings(WS_AUTHENTICATION="tests.unit.test_handshake.Alice"):
        async with Peer(consumer.as_asgi()) as peer:
            await peer.accepted()
            assert peer.journal == ["asked", ("connect", user)]


async def test_without_authentication_the_user_is_none():
    async with Peer(Open.as_asgi()) as peer:
        await peer.accepted()
        assert peer.journal == [("connect", None)]


async def no_one(connection):
    return None


@pytest.mark.parametrize("auth", [raising, refusing, closing, sync_alice])
async def test_auth_that_refuses(auth: Any, caplog: pytest.LogCaptureFixture):
    consumer = subclass("Authenticated", Open, auth=auth, permissions=alice)
    async with Peer(consumer.as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        assert await peer.ended() == []
        assert peer.journal == []


async def test_a_refusal_is_one_line_and_a_mistake_has_a_traceback(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level("INFO", "panther_channels")
    for auth in (refusing, raising, sync_alice):
        async with Peer(subclass("Authenticated", Open, auth=auth).as_asgi()) as peer:
            await peer.ended()
    refusal, raised, sync = caplog.records
    assert (refusal.levelname, refusal.exc_info) == ("INFO", None)
    assert "'/peer'" in refusal.getMessage()
    assert "bad token" in refusal.getMessage()
    assert (raised.levelname, raised.exc_info is None) == ("ERROR", False)
    assert (sync.levelname, sync.exc_info is None) == ("ERROR", False)
    assert "sync_alice" in str(sync.exc_info)
    assert "async" in str(sync.exc_info)


class Yes(BasePermission):
    async def __call__(self, request):
        note(request, "yes")
        return True


async def yes(connection):
    note(connection, "yes")
    return 1


def answering(answer):
    async def permission(connection):
        note(connection, "no")
        return answer

    return permission


@pytest.mark.parametrize(
    "permissions",
    [yes, Yes, Yes(), [yes], (Yes,), [yes, Yes(), Yes], {yes}, staticmethod(yes), [], None, ()],
    ids=name_of,
)
async def test_permissions_that_agree(permissions: Any):
    async with Peer(subclass("Asking", Open, permissions=permissions).as_asgi()) as peer:
        await peer.accepted()
        size = len(permissions) if isinstance(permissions, list | tuple | set) else 1
        assert peer.journal.count("yes") == (0 if permissions is None else size)


async def test_permissions_as_a_method_of_the_class():
    class WithMethod(Open):
        async def check(self, connection):
            note(self, self is connection)
            return True

        permissions = [check]  # noqa: RUF012

    async with Peer(WithMethod.as_asgi()) as peer:
        await peer.accepted()
        assert peer.journal[0] is True


@pytest.mark.parametrize("answer", [False, None, 0, "", []], ids=name_of)
async def test_every_falsy_answer_refuses_and_nobody_else_is_asked(answer: Any):
    permissions = [yes, answering(answer), Yes]
    async with Peer(subclass("Asking", Open, permissions=permissions).as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        assert await peer.ended() == []
        assert peer.journal == ["yes", "no"]


@pytest.mark.parametrize("permission", [raising, closing, sync_alice, lambda connection: True])
async def test_a_permission_that_raises_closes_or_is_not_async(permission: Any):
    consumer = subclass("Asking", Open, permissions=[permission, yes])
    async with Peer(consumer.as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        assert await peer.ended() == []
        assert peer.journal == []


async def test_after_a_permission_that_closes_nobody_is_asked():
    async def closing_kindly(connection):
        await connection.close()
        return True

    async with Peer(subclass("Asking", Open, permissions=[closing_kindly, yes]).as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        assert await peer.ended() == []
        assert peer.journal == []


async def test_permissions_know_the_user():
    async def is_alice(connection):
        return connection.user == "alice"

    consumer = subclass("Asking", Open, permissions=is_alice, auth=alice)
    async with Peer(consumer.as_asgi()) as peer:
        await peer.accepted()


class DecidingLate(Open):
    """Each connection has permissions and an authentication of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auth = alice
        self.permissions = [answering(False)]


async def test_attributes_of_the_connection_itself_count():
    async with Peer(DecidingLate.as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        await peer.ended()
    assert peer.journal == ["asked", "no"]


# Middlewares


class Outer(WebsocketMiddleware):
    name = "outer"

    async def __call__(self, connection):
        note(connection, f"{self.name} before {connection.state}")
        try:
            return await super().__call__(connection)
        finally:
            note(connection, f"{self.name} after {connection.state}")


class Inner(Outer):
    name = "inner"


class Closing(WebsocketMiddleware):
    async def __call__(self, connection):
        await connection.close(4001, "not you")
        return await self.dispatch(connection=connection)


class Raising(WebsocketMiddleware):
    async def __call__(self, connection):
        raise ZeroDivisionError


class Refusing(WebsocketMiddleware):
    async def __call__(self, connection):
        raise BaseError("not today", 4002)


class Swallowing(WebsocketMiddleware):
    async def __call__(self, connection):
        return connection


class Accepting(WebsocketMiddleware):
    async def __call__(self, connection):
        await connection.accept()
        return await self.dispatch(connection=connection)


class RaisingAfter(WebsocketMiddleware):
    async def __call__(self, connection):
        await self.dispatch(connection=connection)
        raise ZeroDivisionError


class Wrong(WebsocketMiddleware):
    def __init__(self):
        pass


async def test_order_and_the_state_afterwards():
    with override_settings(WS_MIDDLEWARES=["tests.unit.test_handshake.Outer", Inner]):
        async with Peer(Open.as_asgi()) as peer:
            await peer.accepted()
            peer.leave()
            await peer.ended()
    assert peer.journal == [
        "outer before Connected",
        "inner before Connected",
        ("connect", None),
        "inner after Closed",
        "outer after Closed",
    ]


async def test_the_state_after_a_refusal():
    with override_settings(WS_MIDDLEWARES=[Outer]):
        async with Peer(GenericWebsocket.as_asgi()) as peer:
            assert await peer.ended() == [REFUSED]
    assert peer.journal == ["outer before Connected", "outer after Rejected"]


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        (Closing, {"type": "websocket.close", "code": 4001, "reason": "not you"}),
        (Refusing, {"type": "websocket.close", "code": 4002, "reason": "not today"}),
        (Raising, {"type": "websocket.close", "code": 1011, "reason": ""}),
        (Wrong, {"type": "websocket.close", "code": 1011, "reason": ""}),
        (Swallowing, REFUSED),
    ],
)
async def test_a_middleware_that_does_not_let_pass(middleware: Any, expected: dict[str, Any]):
    with override_settings(WS_MIDDLEWARES=[Outer, middleware]):
        async with Peer(subclass("Asked", Open, auth=alice).as_asgi()) as peer:
            assert await peer.ended() == [expected]
    assert "asked" not in peer.journal
    assert ("connect", "alice") not in peer.journal


async def test_a_middleware_that_accepts_does_not_skip_the_permissions():
    consumer = subclass("Asking", Open, permissions=answering(False))
    with override_settings(WS_MIDDLEWARES=[Accepting]):
        async with Peer(consumer.as_asgi()) as peer:
            await peer.accepted()
            assert (await peer.next())["type"] == "websocket.close"
            await peer.ended()
    assert peer.journal == ["no"]


async def test_an_exception_after_the_end_is_logged_once(caplog: pytest.LogCaptureFixture):
    with override_settings(WS_MIDDLEWARES=[RaisingAfter]):
        async with Peer(Open.as_asgi()) as peer:
            await peer.accepted()
            peer.leave()
            assert await peer.ended() == []
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_one_middleware_serves_all_connections():
    with override_settings(WS_MIDDLEWARES=[Outer]):
        async with Peer(Open.as_asgi()) as one, Peer(Open.as_asgi()) as two:
            await one.accepted()
            await two.accepted()
            one.leave()
            await one.ended()
            two.leave()
            await two.ended()
    assert one.journal == two.journal


async def test_a_refused_connection_leaves_nothing_on_the_layer(layer: InMemoryChannelLayer):
    async with Peer(subclass("Asking", Open, permissions=answering(0)).as_asgi()) as peer:
        await peer.ended()
    assert (layer.groups, layer.channels) == ({}, {})


@pytest.mark.django_db(transaction=True)
async def test_a_second_look_at_a_user():
    inactive = await User.objects.acreate(username="inactive", is_active=False)
    active = await User.objects.acreate(username="active")
    # An authentication of the project's own may let in whom it wants.
    for user in (None, inactive, active, User(pk=77), object()):
        await confirm(user)
    await User.objects.filter(pk=active.pk).aupdate(is_active=False)
    with pytest.raises(AuthenticationAPIError):
        await confirm(active)
    await User.objects.filter(pk=active.pk).adelete()
    with pytest.raises(AuthenticationAPIError):
        await confirm(active)
    await sync_to_async(connections.close_all)()  # else other tests meet one that is open
