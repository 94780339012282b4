import asyncio
import json
import time
from typing import Any

import pytest

from panther_channels._socket import denial as _denial
from panther_channels._socket.denial import deny

EXTENSIONS: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


class Sent(list[dict[str, Any]]):
    async def __call__(self, message: Any) -> None:
        self.append(message)


async def gone() -> Any:
    return {"type": "websocket.disconnect", "code": 1006}


async def never() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("detail", ["Not Found", "é☃", {"why": ["a"]}, None, object])
@pytest.mark.parametrize("status", [404, 401])
async def test_a_response(detail: Any, status: int):
    sent = Sent()
    await deny(EXTENSIONS, gone, sent, status, detail)
    start, body = sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert dict(start["headers"]) == {
        b"content-type": b"application/json",
        b"content-length": str(len(body["body"])).encode(),
        # RFC 9110 section 15.5.2: it says what would let in.
        **({b"www-authenticate": b"Bearer"} if status == 401 else {}),
    }
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"]) == {"detail": str(detail) if detail is object else detail}


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {"other": {}}}])
async def test_a_close_where_the_server_has_no_responses(scope: dict[str, Any]):
    sent = Sent()
    await deny(scope, never, sent, 401, "x", (4001, "why"))
    assert sent == [{"type": "websocket.close", "code": 4001, "reason": "why"}]


async def test_it_waits_for_the_client_to_go_but_not_for_ever():
    """At its second event, which is that of uvicorn."""
    events = asyncio.Queue[Any]()
    task = asyncio.create_task(deny(EXTENSIONS, events.get, Sent(), 403, "x"))
    events.put_nowait(await gone())
    await asyncio.sleep(0.02)
    assert not task.done()
    started = time.monotonic()
    events.put_nowait(await gone())
    await asyncio.wait_for(task, 1)
    assert time.monotonic() - started < _denial._LINGER / 2
    await asyncio.wait_for(deny(EXTENSIONS, never, Sent(), 403, "x"), 1)


async def test_a_cancellation_is_not_lost():
    task = asyncio.create_task(deny(EXTENSIONS, never, Sent(), 403, "x"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
