"""uvicorn's protocol, without a socket: what it does without us, and with us."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from uvicorn import Config
from uvicorn.protocols.websockets import websockets_sansio_impl as implementation
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.server import ServerProtocol

from panther_channels.servers import uvicorn as mends
from tests.faults.wire import close, frame, request

BAD = "Invalid UTF-8 sequence received from client."
LONG = [request(b"/", b"X: " + b"a" * 9000), request(b"/", *[b"X: a"] * 130)]


BEFORE = {
    name: getattr(implementation.WebSocketsSansIOProtocol, name)
    for name in (
        "data_received",
        "receive",
        "start_keepalive",
        "handle_ping",
        "resume_writing",
        "handle_parser_exception",
    )
}


@pytest.fixture(params=["uvicorn alone", "mended"])
def is_mended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    protocol = implementation.WebSocketsSansIOProtocol
    monkeypatch.setattr(protocol, "connection_made", mends._uvicorn_connection_made)
    for name, before_us in BEFORE.items():
        monkeypatch.setattr(protocol, name, before_us)
    monkeypatch.setitem(vars(implementation), "ServerProtocol", ServerProtocol)
    logger = logging.getLogger("uvicorn.error")
    before = logger.filters
    logger.filters = []
    if request.param == "mended":
        mends.install()
        mends.install()
        assert len(logger.filters) == 1
    yield request.param == "mended"
    logger.filters = before


async def build() -> tuple[Any, mock.Mock]:
    """A protocol whose application accepts, and its transport."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    config = Config(app=application, ws="websockets-sansio", log_config=None)
    config.load()
    protocol: Any = implementation.WebSocketsSansIOProtocol(config, ServerState(), {})
    transport = mock.Mock()
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False
    protocol.connection_made(transport)
    return protocol, transport


async def end(protocol: Any) -> None:
    for task in protocol.tasks:
        task.cancel()
    if protocol.tasks:
        await asyncio.wait(protocol.tasks)


def written(transport: mock.Mock) -> bytes:
    return b"".join(call.args[0] for call in transport.write.call_args_list)


@pytest.mark.parametrize("opening", LONG, ids=["a long line", "many headers"])
async def test_a_request_that_is_too_long(is_mended: bool, opening: bytes):
    protocol, transport = await build()
    protocol.data_received(opening)
    assert written(transport).startswith(b"HTTP/1.1 431 ") is is_mended
    assert transport.close.called is is_mended
    assert "data_received" not in vars(protocol)
    await end(protocol)


async def open_(protocol: Any, transport: mock.Mock) -> None:
    protocol.data_received(request(b"/"))
    async with asyncio.timeout(5):
        while b"101" not in written(transport):  # noqa: ASYNC110 - a mock wakes nobody
            await asyncio.sleep(0)


async def test_a_request_as_others_send_it(is_mended: bool):
    protocol, transport = await build()
    await open_(protocol, transport)
    assert not transport.close.called
    protocol.data_received(close(1000))
    assert written(transport).endswith(b"\x88\x02\x03\xe8")
    await end(protocol)


async def test_bad_text_is_one_line(is_mended: bool, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    protocol, transport = await build()
    await open_(protocol, transport)
    protocol.data_received(frame(1, b"\xff"))
    assert written(transport).endswith(b"\x88\x02\x03\xef")
    (record,) = [record for record in caplog.records if record.getMessage() == BAD]
    assert (record.exc_info is None) is is_mended
    assert (record.levelname == "INFO") is is_mended
    await end(protocol)


async def test_bad_text_and_a_close_in_one(is_mended: bool):
    protocol, transport = await build()
    await open_(protocol, transport)
    data = frame(1, b"\xff") + close(1000)
    if is_mended:
        protocol.data_received(data)
        assert transport.close.called
    else:
        with pytest.raises(InvalidState):
            protocol.data_received(data)
    await end(protocol)


def events(protocol: Any) -> list[tuple[str, Any]]:
    found = []
    while not protocol.queue.empty():
        event = protocol.queue.get_nowait()
        found.append((event["type"].removeprefix("websocket."), event.get("text") or event["code"]))
    return found


async def test_a_message_that_is_too_large(is_mended: bool):
    """It is refused at its start; what follows is read, or the client would see no close frame."""
    protocol, transport = await build()
    await open_(protocol, transport)
    reason = b"a message has 1048576 bytes at most"
    refusal = b"\x88" + bytes([2 + len(reason)]) + b"\x03\xf1" + reason
    protocol.data_received(frame(1, b"first") + frame(1, b"x" * 1000, size=2_000_000))
    assert written(transport).endswith(refusal) is is_mended
    assert events(protocol) == [("receive", "first"), ("disconnect", 1009)][: 1 + is_mended]
    protocol.data_received(b"x" * 1_999_000)
    assert not transport.close.called
    assert len(events(protocol)) == 1 - is_mended
    protocol.data_received(close(1009))
    assert transport.close.called
    await end(protocol)


async def test_a_limit_below_ours(is_mended: bool):
    size = "limit" if is_mended else "max_message_size"
    parser = vars(implementation)["ServerProtocol"]
    assert getattr(parser(max_size=1000), size) == 1000
    assert getattr(parser(max_size=None), size) == (1024 * 1024 if is_mended else None)
    assert getattr(parser(max_size=2 * 1024 * 1024), size) == 1024 * 1024 * (2 - is_mended)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/ws#f", "/ws"),
        ("http://a/ws;x?q#f", "/ws;x?q"),
        ("*", "*"),
        # These stay what they are, which no URL matches.
        ("http://a", "http://a"),
        ("http:///ws", "http:///ws"),
    ],
)
def test_the_path_of_a_target(target: str, path: str):
    """tests/faults/test_odd_input.py compares it with that of HTTP."""
    assert mends._path_and_query(pytest.importorskip("httptools"), target) == path


async def test_a_burst_is_parsed_as_it_is_handled(is_mended: bool):
    protocol, transport = await build()
    await open_(protocol, transport)
    protocol.data_received(frame(1, b"x" * 1000) * 200)
    assert (protocol.queue.qsize() < 50) is is_mended
    assert transport.pause_reading.called
    for _ in range(200):
        assert not transport.resume_reading.called
        await protocol.receive()
    assert transport.resume_reading.called
    await end(protocol)


async def test_a_close_in_the_middle_of_a_burst(is_mended: bool):
    """Of the application's: the client's answer may have come, and isn't parsed yet."""
    protocol, transport = await build()
    await open_(protocol, transport)
    protocol.data_received(frame(1, b"x" * 1000) * 200)
    if is_mended:
        protocol.data_received(frame(1, b"x" * 1000) * 200 + close(1000))
    await protocol.send({"type": "websocket.close", "code": 1000})
    if not is_mended:
        protocol.data_received(close(1000))
    await asyncio.sleep(0)
    assert transport.close.called
    assert transport.resume_reading.called
    await end(protocol)


async def test_pongs_that_nobody_reads(is_mended: bool):
    protocol, transport = await build()
    await open_(protocol, transport)
    protocol.pause_writing()
    protocol.data_received(frame(1, b"a message"))
    await protocol.receive()
    transport.reset_mock()
    protocol.data_received(frame(9, b"ping"))
    assert written(transport) == b"\x8a\x04ping"
    assert transport.pause_reading.called is is_mended
    protocol.data_received(frame(1, b"what was on its way"))
    await protocol.receive()
    assert transport.resume_reading.called is not is_mended
    protocol.resume_writing()
    assert transport.resume_reading.called
    await end(protocol)


async def test_the_application_is_told_what_came_before_a_fault(is_mended: bool):
    protocol, transport = await build()
    await open_(protocol, transport)
    protocol.data_received(frame(1, b"first") + frame(1, b"bad", head=0xC0) + frame(9))
    assert events(protocol) == [("receive", "first"), ("disconnect", 1002)][1 - is_mended :]
    assert transport.write_eof.called is is_mended
    assert transport.close.called is not is_mended
    protocol.data_received(frame(9) + frame(1, b"x") * 1000)
    if is_mended:
        assert not protocol.conn.reader.buffer
        assert events(protocol) == []
    protocol.data_received(close(1002))
    assert transport.close.called
    await end(protocol)
