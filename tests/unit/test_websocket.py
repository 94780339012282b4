from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer

from panther_channels import connections, websocket
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.unit.peer import Peer


def built(**scope: Any) -> GenericWebsocket:
    consumer = GenericWebsocket()
    consumer.scope = {"type": "websocket", "path": "/ws", "headers": [], **scope}
    return consumer


def test_it_is_a_channels_consumer():
    assert issubclass(GenericWebsocket, Websocket)
    assert issubclass(Websocket, AsyncWebsocketConsumer)
    assert GenericWebsocket.as_asgi().consumer_class is GenericWebsocket


def test_the_outside_functions_are_found_here():
    assert websocket.send_message_to_websocket is connections.send_message_to_websocket
    assert websocket.close_websocket_connection is connections.close_websocket_connection


def test_before_anything_happened():
    consumer = built()
    assert (consumer.state, consumer.connection_id) == ("Connected", "")
    assert (consumer.is_connected, consumer.is_rejected) == (False, False)
    assert (consumer.user, consumer.auth, consumer.permissions) == (None, None, None)


def test_facts_of_the_request():
    consumer = built(
        path="/ws/é",
        headers=[(b"user-agent", b"tests")],
        query_string=b"a=1&b=",
        client=["127.0.0.1", 50000],
        server=("testserver", 80),
        scheme="wss",
        http_version="2",
    )
    assert consumer.path == "/ws/é"
    assert consumer.headers.user_agent == "tests"
    assert consumer.query_params == {"a": "1"}
    assert str(consumer.client) == "127.0.0.1:50000"
    assert consumer.server is not None
    assert (consumer.server.ip, consumer.server.port) == ("testserver", 80)
    assert (consumer.scheme, consumer.http_version) == ("wss", "2")
    assert consumer.headers is consumer.headers


def test_what_a_server_does_not_tell():
    consumer = built()
    assert (consumer.client, consumer.server) == (None, None)
    assert (consumer.scheme, consumer.http_version, consumer.query_params) == ("ws", "1.1", {})
    # A Unix socket has no port.
    assert str(built(server=["/run/x.sock", None]).server) == "/run/x.sock:None"


class Accepting(GenericWebsocket):
    async def connect(self, **kwargs):
        await self.accept(**self.scope["accept"])
        assert (self.is_connected, self.is_rejected, self.state) == (True, False, "Accepted")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (None, []),
        ({}, []),
        ({"X-A": "1", "x-b": "é"}, [(b"x-a", b"1"), (b"x-b", b"\xe9")]),
        ([(b"X-A", b"1"), (b"x-a", b"2")], [(b"x-a", b"1"), (b"x-a", b"2")]),
        (iter([(b"x", b"1")]), [(b"x", b"1")]),
    ],
)
async def test_accept_headers(headers: Any, expected: list[tuple[bytes, bytes]]):
    async with Peer(Accepting.as_asgi(), accept={"headers": headers}) as peer:
        assert (await peer.next())["headers"] == expected


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\rb", "a\x00b"])
@pytest.mark.parametrize("kind", [dict, lambda pairs: [(n.encode(), v.encode()) for n, v in pairs]])
async def test_a_header_with_a_line_break_fails_in_the_caller(value: str, kind: Any):
    """Not every server looks: what gets through is a header, or a body, of an attacker."""
    headers = kind([("x-name", value)])
    async with Peer(Accepting.as_asgi(), accept={"headers": headers}) as peer:
        assert (await peer.next())["type"] == "websocket.close"


async def test_accept_takes_an_offered_subprotocol():
    scope: dict[str, Any] = {"subprotocols": ["a", "b"], "accept": {"subprotocol": "b"}}
    async with Peer(Accepting.as_asgi(), **scope) as peer:
        assert (await peer.next())["subprotocol"] == "b"


async def test_accept_refuses_another_one(caplog: pytest.LogCaptureFixture):
    async with Peer(Accepting.as_asgi(), accept={"subprotocol": "b"}) as peer:
        assert (await peer.next())["type"] == "websocket.close"
        await peer.ended()
    assert "subprotocol 'b'" in str(caplog.records[0].exc_info)


class Sending(GenericWebsocket):
    async def connect(self):
        await self.accept()
        for value in self.scope["values"]:
            await self.send(value)
        await self.send()
        await self.send(data="named")


async def test_send():
    values = ["", "a", b"", b"\xff", [1, "é"], 5, True, {}]
    async with Peer(Sending.as_asgi(), values=values) as peer:
        await peer.accepted()
        sent = [await peer.next() for _ in range(10)]
    assert [message["type"] for message in sent] == ["websocket.send"] * 10
    assert [message.get("text", message.get("bytes")) for message in sent] == [
        *("", "a", b"", b"\xff", '[1,"é"]', "5", "true", "{}", "null", "named"),
    ]
    # One of the two, as some servers look which key is there.
    assert all(("text" in message) != ("bytes" in message) for message in sent)


async def test_send_of_what_is_not_json_raises_in_the_caller(caplog: pytest.LogCaptureFixture):
    async with Peer(Sending.as_asgi(), values=[object()]) as peer:
        await peer.accepted()
        assert (await peer.next())["code"] == 1011
    assert caplog.records[0].exc_info
    assert issubclass(caplog.records[0].exc_info[0] or int, TypeError)


async def test_the_default_hooks():
    async with Peer(GenericWebsocket.as_asgi()) as peer:
        assert (await peer.next())["type"] == "websocket.close"
    consumer = built()
    await consumer.receive("x")
    await consumer.disconnect(1000)
    assert consumer.state == "Connected"
