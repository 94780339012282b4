"""What accept(), send() and close() do in every state: one outcome, whatever the server."""

import asyncio
import itertools
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.servers import Server

tags = itertools.count(1)
PROTOCOLS = [Subprotocol("chat")]

#: steps in connect(); what each gave, with the state after it; what the client saw
IN_CONNECT = [
    ("", "", "403"),
    ("send:a", "send:a=WebsocketError Connected", "403"),
    ("send:a accept", "send:a=WebsocketError Connected accept=ok Accepted", "open"),
    ("accept", "accept=ok Accepted", "open"),
    ("accept accept", "accept=ok Accepted accept=WebsocketError Accepted", "open"),
    ("accept:chat", "accept:chat=ok Accepted", "open chat"),
    ("accept:other", "accept:other=ValueError Connected", "403"),
    ("accept:other accept", "accept:other=ValueError Connected accept=ok Accepted", "open"),
    ("header:x-bad", "header:x-bad=ValueError Connected", "403"),
    ("header:x-bad accept", "header:x-bad=ValueError Connected accept=ok Accepted", "open"),
    ("accept send:a", "accept=ok Accepted send:a=ok Accepted", "open a"),
    ("accept send:", "accept=ok Accepted send:=ok Accepted", "open "),
    ("close", "close=ok Rejected", "403"),
    ("close:4001", "close:4001=ok Rejected", "403"),
    ("close close", "close=ok Rejected close=ok Rejected", "403"),
    ("close accept", "close=ok Rejected accept=WebsocketError Rejected", "403"),
    ("close send:a", "close=ok Rejected send:a=WebsocketError Rejected", "403"),
    ("close:1005 accept", "close:1005=ValueError Connected accept=ok Accepted", "open"),
    ("accept close", "accept=ok Accepted close=ok Closed", "open 1000 why"),
    (
        "accept send:a close:4001",
        "accept=ok Accepted send:a=ok Accepted close:4001=ok Closed",
        "open a 4001 why",
    ),
    (
        "accept close:4001 close:4002",
        "accept=ok Accepted close:4001=ok Closed close:4002=ok Closed",
        "open 4001 why",
    ),
    (
        "accept close:4001 send:a",
        "accept=ok Accepted close:4001=ok Closed send:a=WebsocketError Closed",
        "open 4001 why",
    ),
    (
        "accept close:4001 accept",
        "accept=ok Accepted close:4001=ok Closed accept=WebsocketError Closed",
        "open 4001 why",
    ),
]

#: the same for a frame on the open connection
IN_RECEIVE = [
    ("accept", "accept=WebsocketError Accepted", "open"),
    ("send:a send:b", "send:a=ok Accepted send:b=ok Accepted", "open a b"),
    ("close", "close=ok Closed", "open 1000 why"),
    ("close:1001", "close:1001=ok Closed", "open 1001 why"),
    ("close:1008", "close:1008=ok Closed", "open 1008 why"),
    ("close:1014", "close:1014=ok Closed", "open 1014 why"),
    ("close:3000", "close:3000=ok Closed", "open 3000 why"),
    ("close:4999", "close:4999=ok Closed", "open 4999 why"),
    ("close:4001 close:4002", "close:4001=ok Closed close:4002=ok Closed", "open 4001 why"),
    ("close:4001 send:a", "close:4001=ok Closed send:a=WebsocketError Closed", "open 4001 why"),
    ("close:4001 accept", "close:4001=ok Closed accept=WebsocketError Closed", "open 4001 why"),
    *(
        (f"close:{code} send:a", f"close:{code}=ValueError Accepted send:a=ok Accepted", "open a")
        for code in (0, 999, 1004, 1005, 1006, 1015, 2000, 5000)
    ),
    ("reason:124 send:a", "reason:124=ValueError Accepted send:a=ok Accepted", "open a"),
    ("reason:123", "reason:123=ok Closed", f"open 4000 {'x' * 123}"),
]

IN_DISCONNECT = [
    ("send:a", "send:a=WebsocketError Closed"),
    ("accept", "accept=WebsocketError Closed"),
    ("close", "close=ok Closed"),
    ("close:1005", "close:1005=ValueError Closed"),
]


class Attempt:
    """One connection to the steps, and what the client sees of it."""

    def __init__(self, server: Server, **steps: str) -> None:
        self.server = server
        self.mark = server.mark()
        self.tag = f"tag-{next(tags)}"
        self.url = f"{server.ws_url}/ws/steps?{urlencode({'tag': self.tag, **steps})}"

    async def seen(self, frame: str = "") -> str:
        """The status of a refusal, or all that came until nothing more can come."""
        try:
            async with connect(self.url, subprotocols=PROTOCOLS) as client:
                assert client.response is not None
                assert "x-evil" not in client.response.headers
                words = ["open", *([client.subprotocol] if client.subprotocol else [])]
                if frame:
                    await client.send(frame)
                await self.logged("receive" if frame else "connect")
                return " ".join([*words, *await _frames(client)])
        except InvalidStatus as error:
            return str(error.response.status_code)

    async def logged(self, hook: str) -> str:
        """What the steps of a hook gave."""
        pattern = rf"{self.tag} {hook}: (.*)$"
        match = await asyncio.to_thread(self.server.wait_log, pattern, since=self.mark)
        return match[1].strip()

    def assert_quiet(self) -> None:
        """Nothing of all this is an error of the server."""
        log = self.server.log[self.mark :]
        assert "ERROR" not in log
        assert "Traceback" not in log


async def _frames(client: ClientConnection) -> list[str]:
    """The messages, and the close frame if there is one."""
    words: list[str] = []
    pong: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    with suppress(ConnectionClosed):
        # Its answer comes after all that was sent before it.
        pong = asyncio.ensure_future(await client.ping())
    while True:
        receiving = asyncio.ensure_future(client.recv())
        await asyncio.wait({receiving, pong}, return_when="FIRST_COMPLETED", timeout=5)
        if pong.done() and pong.exception() is None and not receiving.done():
            receiving.cancel()
            return words
        try:
            words.append(str(await receiving))
        except ConnectionClosed:
            return [*words, str(client.close_code), client.close_reason or ""]


@pytest.mark.parametrize(
    ("steps", "outcome", "seen"), IN_CONNECT, ids=[row[0] for row in IN_CONNECT]
)
async def test_in_connect(server: Server, steps: str, outcome: str, seen: str):
    attempt = Attempt(server, connect=steps)
    assert await attempt.seen() == seen
    assert await attempt.logged("connect") == outcome
    attempt.assert_quiet()


@pytest.mark.parametrize(
    ("steps", "outcome", "seen"), IN_RECEIVE, ids=[row[0] for row in IN_RECEIVE]
)
async def test_in_receive(server: Server, steps: str, outcome: str, seen: str):
    attempt = Attempt(server, connect="accept")
    assert await attempt.seen(steps) == seen
    assert await attempt.logged("receive") == outcome
    attempt.assert_quiet()


@pytest.mark.parametrize(("steps", "outcome"), IN_DISCONNECT, ids=[row[0] for row in IN_DISCONNECT])
async def test_in_disconnect(server: Server, steps: str, outcome: str):
    attempt = Attempt(server, connect="accept", disconnect=steps)
    assert await attempt.seen() == "open"
    assert await attempt.logged("disconnect") == outcome
    attempt.assert_quiet()
