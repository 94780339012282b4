import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.auth import AuthMiddlewareStack
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.db import transaction
from django.db.models.signals import post_save
from django.test import TestCase, TransactionTestCase, override_settings

from panther_channels import authentications as auths
from panther_channels import connections, sync
from panther_channels.asgi import get_asgi_application
from panther_channels.connections import send_message_to_websocket
from panther_channels.exceptions import ConnectionNotFoundError
from panther_channels.test import (
    ConnectionClosed,
    HandshakeRejected,
    TestConnection,
    WebsocketClient,
)
from panther_channels.websocket import GenericWebsocket
from tests.waiting import until

ENDED: list[int] = []


class Echo(GenericWebsocket):
    async def connect(self, **kwargs):
        offered = self.scope["subprotocols"]
        await self.accept(subprotocol=offered[-1] if offered else None, headers={"x-a": "1"})

    async def receive(self, data: str | bytes):
        if data == "describe":
            facts = (self.path, self.query_params, self.headers.host, self.headers.user_agent)
            await self.send([*facts, str(self.client), self.scheme])
        elif data == "id":
            await self.send(self.connection_id)
        elif data == "close":
            await self.close(4001, "bye")
        elif data != "silence":
            await self.send(data)

    async def disconnect(self, code: int):
        ENDED.append(code)


class Refusing(GenericWebsocket):
    async def connect(self):
        await self.close(4001)


class Slow(GenericWebsocket):
    async def connect(self):
        await asyncio.Event().wait()


async def mute(scope: Any, receive: Any, send: Any) -> None:
    """Ends without a word."""


@pytest.fixture
def client() -> WebsocketClient:
    ENDED.clear()
    urls = {"ws/<name>": Echo, "refusing": Refusing}
    return WebsocketClient(get_asgi_application(urls))


async def closed(ws: TestConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        await ws.receive()
    assert f"{caught.value.code} {caught.value.reason!r}" in str(caught.value)
    assert (ws.close_code, ws.close_reason) == (caught.value.code, caught.value.reason)
    return caught.value.code, caught.value.reason


async def test_messages(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        for value, answer in (("a", "a"), (b"b", b"b"), ("", ""), (b"", b""), ([1, 2], "[1,2]")):
            await ws.send(value)
            assert await ws.receive() == answer
        await ws.send("id")
        await send_message_to_websocket(str(await ws.receive()), {"from": "outside"})
        assert await ws.receive() == '{"from":"outside"}'
    assert ENDED == [1000]


async def test_the_request_and_its_answer(client: WebsocketClient):
    options: Any = {"headers": {"User-Agent": "é"}, "query_params": {"a": "1 &", "b": "é"}}
    async with client.connect("/ws/%C3%A9", subprotocols=["chat", "news"], **options) as ws:
        await ws.send("describe")
        assert await ws.receive() == (
            '["/ws/é",{"a":"1 &","b":"é"},"testserver","é","127.0.0.1:50000","ws"]'
        )
        assert (ws.subprotocol, ws.headers) == ("news", [(b"x-a", b"1")])
    async with client.connect("/ws/a") as ws:
        assert ws.subprotocol is None


async def test_the_application_closes(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        assert (ws.close_code, ws.close_reason) == (None, "")
        await ws.send("close")
        for _ in range(2):
            assert await closed(ws) == (4001, "bye")
            assert ENDED == [4001]
        await ws.close()
    assert (ws.close_code, ENDED) == (4001, [4001])


async def test_the_client_closes(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        await ws.close(4002, "bye")
        assert (ws.close_code, ws.close_reason) == (4002, "bye")
        # The application has ended.
        assert ENDED == [4002]
        await ws.close()
    assert ENDED == [4002]


async def test_a_close_that_nobody_read_is_still_known(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        await ws.send("close")
        await until(lambda: not ws._communicator.output_queue.empty())
    assert (ws.close_code, ENDED) == (4001, [4001])


@pytest.mark.parametrize(("target", "status"), [("/refusing", 403), ("/nowhere", 404)])
async def test_a_refused_handshake(client: WebsocketClient, target: str, status: int):
    with pytest.raises(HandshakeRejected, match=str(status)) as caught:
        async with client.connect(target):
            pytest.fail("it is open")
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("application", "error"), [(Slow.as_asgi(), TimeoutError), (mute, RuntimeError)]
)
async def test_no_answer(application: Any, error: type[Exception]):
    client = WebsocketClient(application, timeout=0.05)
    with pytest.raises(error):
        async with client.connect("/"):
            pytest.fail("it is open")


async def test_nothing_in_time_leaves_the_connection_open():
    async with WebsocketClient(Echo.as_asgi(), timeout=0.05).connect("/anything") as ws:
        await ws.send("silence")
        with pytest.raises(TimeoutError):
            await ws.receive()
        await ws.send("hello")
        assert await ws.receive() == "hello"


async def test_json(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        for text, value in (('{"a": [1, null]}', {"a": [1, None]}), ('"é"', "é"), ("5", 5)):
            for sent in (text, text.encode()):
                await ws.send(sent)
                assert await ws.receive_json() == value
        for no_json in ("no JSON", b"\xff"):
            await ws.send(no_json)
            with pytest.raises(ValueError, match="no JSON"):
                await ws.receive_json()
        await ws.send("close")
        with pytest.raises(ConnectionClosed):
            await ws.receive_json()


async def test_nothing(client: WebsocketClient):
    async with client.connect("/ws/a") as ws:
        assert await ws.receive_nothing()
        await ws.send("something")
        with pytest.raises(AssertionError, match="'something'"):
            await ws.receive_nothing(5)
        await ws.send("silence")
        assert await ws.receive_nothing(within=0.01)
        await ws.send("close")
        for _ in range(2):
            with pytest.raises(ConnectionClosed):
                await ws.receive_nothing(5)


async def test_an_exception_of_the_test_gets_out_and_ends_the_connection(client: WebsocketClient):
    with pytest.raises(ZeroDivisionError):
        async with client.connect("/ws/a") as ws:
            raise ZeroDivisionError
    assert ws._communicator.future.cancelling()
    await until(lambda: ENDED)


# Users


class Member(GenericWebsocket):
    auth: Any = auths.SessionAuthentication

    async def connect(self, **kwargs):
        await self.accept()
        await self.join("a group")
        name = self.user.get_username() if self.user else None
        await self.send({"id": self.connection_id, "user": name})


class Serving(ASGIStaticFilesHandler):
    def get_base_url(self):
        return "/static/"


class Header(auths.JWTAuthentication):
    """Of a project's own."""


async def nobody(connection: Any) -> None:
    """Finds no user."""


@pytest.mark.parametrize(
    "auth",
    [
        auths.SessionAuthentication,
        auths.SessionAuthentication(),
        auths.JWTAuthentication,
        auths.QueryParamJWTAuthentication,
        auths.CookieJWTAuthentication,
        auths.SubprotocolJWTAuthentication,
        Header,
        [nobody, Header, auths.SessionAuthentication],
    ],
)
@pytest.mark.parametrize("wrapped", [lambda application: application, Serving])
async def test_a_user_who_connects(auth: Any, wrapped: Any, transactional_db: None):
    user = await User.objects.acreate(username="ann")
    declaring = type("Declaring", (Member,), {"auth": auth})
    urls = {"ws/<name>": declaring, "ws": {"settings": Member}}
    client = WebsocketClient(wrapped(get_asgi_application(urls)))
    options: Any = {"headers": {"Cookie": "a=1"}, "query_params": {"a": "1"}, "subprotocols": ["a"]}
    none: Any = {}
    for more in (none, options):
        async with client.connect("/ws/any", user=user, **more) as ws:
            assert (await ws.receive_json())["user"] == "ann"
    async with client.connect("/ws/any", **options) as ws:
        assert (await ws.receive_json())["user"] is None


async def test_a_user_of_the_setting_and_of_channels(transactional_db: None):
    user = await User.objects.acreate(username="ann")
    undeclared: Any = type("Undeclared", (Member,), {"auth": None})
    with override_settings(WS_AUTHENTICATION=auths.CookieJWTAuthentication):
        async with WebsocketClient(undeclared.as_asgi()).connect("/", user=user) as ws:
            assert (await ws.receive_json())["user"] == "ann"
    for auth, names in ((None, "no auth"), ([nobody, nobody], "function, function")):
        silent: Any = type("Silent", (Member,), {"auth": auth})
        with pytest.raises(ValueError, match=f"Silent has {names}, for which"):
            async with WebsocketClient(silent.as_asgi()).connect("/", user=user):
                pytest.fail("it is open")

    class OfChannels(undeclared):
        async def connect(self):
            self.user = self.scope["user"]
            await super().connect()

    application = AuthMiddlewareStack(OfChannels.as_asgi())
    async with WebsocketClient(application).connect("/", user=user) as ws:
        assert (await ws.receive_json())["user"] == "ann"


# Reaching them in a test


def local_layer(folder: Path) -> dict[str, Any]:
    backend = "panther_channels.layers.LocalChannelLayer"
    return {"default": {"BACKEND": backend, "CONFIG": {"directory": folder}}}


class Reaching:
    """Each function, awaited and called by sync code, with two tabs of Ann and one of Bob."""

    async def reach(self) -> None:
        ann, bob = [await User.objects.acreate(username=name) for name in ("ann", "bob")]
        client = WebsocketClient(get_asgi_application({"ws/member": Member}))
        async with (
            client.connect("/ws/member", user=ann) as first,
            client.connect("/ws/member", user=ann) as second,
            client.connect("/ws/member", user=bob) as other,
        ):
            tabs = [first, second, other]
            ids = [(await tab.receive_json())["id"] for tab in tabs]
            for of, awaited in ((connections, True), (sync, False)):
                reached = self.caller(of, awaited)
                await self.send(reached, ids, tabs, ann)
                await self.ask(reached, ids, ann, bob)
            await self.saved(ann, tabs)
            await self.close(self.caller(connections, True), self.caller(sync, False), ids, tabs)

    @staticmethod
    def caller(module: Any, awaited: bool) -> Callable[..., Any]:
        def call(name: str, *args: Any, **kwargs: Any) -> Any:
            function = getattr(module, name)
            return (function if awaited else sync_to_async(function))(*args, **kwargs)

        return call

    @staticmethod
    async def send(reached: Any, ids: list[str], tabs: list[TestConnection], ann: User) -> None:
        first = [tabs[0]]
        for name, to, exclude, who in (
            ("send_message_to_websocket", (ids[0],), {}, first),
            ("send_message_to_user", (ann,), {}, tabs[:2]),
            ("send_message_to_user", (ann.pk,), {"exclude": ids[1]}, first),
            ("send_message_to_group", ("a group",), {}, tabs),
            ("send_message_to_all", (), {"exclude": ids[1:]}, first),
        ):
            for within in (None, 5):
                data = [name, within]
                took = await reached(name, *to, data, confirm_within=within, **exclude)
                if name != "send_message_to_websocket":
                    assert took == (len(who) if within else None)
                for tab in who:
                    assert await tab.receive_json() == data
        assert await reached("send_messages", [(ids[0], 1), (ids[2], 2)], confirm_within=5) == 2
        assert [await tab.receive_json() for tab in (tabs[0], tabs[2])] == [1, 2]
        for tab in tabs:
            assert await tab.receive_nothing(0.02)

    @staticmethod
    async def ask(reached: Any, ids: list[str], ann: User, bob: User) -> None:
        assert {each.id for each in await reached("list_connections")} == {*ids}
        assert await reached("count_connections", user=ann, group="a group") == 2
        assert (await reached("get_connection", ids[2])).user_name == "bob"
        assert await reached("websocket_exists", ids[0])
        online = await reached("online_users", "a group")
        assert {each.user_id: each.connections for each in online} == {ann.pk: 2, bob.pk: 1}
        assert not await reached("websocket_exists", "0" * 32)
        with pytest.raises(ConnectionNotFoundError):
            await reached("send_message_to_websocket", "0" * 32, "x", confirm_within=1)

    async def saved(self, ann: User, tabs: list[TestConnection]) -> None:
        """What a signal handler sends on commit comes to all tabs."""

        def tell(instance: User, **_kwargs: Any) -> None:
            sync.send_message_to_user(instance, instance.first_name, on_commit=True)

        def save() -> None:
            with transaction.atomic():
                ann.first_name = "Ann"
                ann.save()

        post_save.connect(tell, sender=User)
        try:
            await sync_to_async(self.committing)(save)
        finally:
            post_save.disconnect(tell, sender=User)
        assert [await tab.receive() for tab in tabs[:2]] == ["Ann", "Ann"]
        assert await tabs[2].receive_nothing(0.02)

    def committing(self, function: Callable[[], None]) -> None:
        """Call a function, with what it wants to happen after the commit."""
        function()

    @staticmethod
    async def close(awaited: Any, called: Any, ids: list[str], tabs: list[TestConnection]) -> None:
        await called("close_websocket_connection", ids[0], 4001, "by id", confirm_within=5)
        assert await closed(tabs[0]) == (4001, "by id")
        assert await awaited("close_user_websockets", await User.objects.afirst()) is None
        assert (await closed(tabs[1]))[0] == 1008
        assert await called("close_group_websockets", "a group", confirm_within=5) == 1
        assert (await closed(tabs[2]))[0] == 1000
        assert await awaited("close_all_websockets", confirm_within=5) == 0


class TestWithPytest(Reaching):
    async def test_all_are_reached(self, transactional_db: None):
        await self.reach()

    async def test_all_are_reached_over_the_local_layer(self, transactional_db: None, folder: Path):
        with override_settings(CHANNEL_LAYERS=local_layer(folder)):
            await self.reach()


class TestWithDjango(Reaching, TestCase):
    def committing(self, function: Callable[[], None]) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            function()

    async def test_all_are_reached(self):
        await self.reach()

    async def test_what_a_test_saves_is_rolled_back(self):
        assert not await User.objects.aexists()

    def test_by_sync_code_alone(self):
        ann = User.objects.create(username="ann")

        async def told() -> Any:
            async with WebsocketClient(Member.as_asgi()).connect("/", user=ann) as ws:
                await ws.receive()
                await sync_to_async(sync.send_message_to_user)(ann, "hello")
                return await ws.receive()

        assert async_to_sync(told)() == "hello"


class TestWithDjangoAndCommits(Reaching, TransactionTestCase):
    async def test_all_are_reached(self):
        await self.reach()
