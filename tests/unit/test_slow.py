import asyncio
from typing import Any

import pytest
from django.test import override_settings

from panther_channels import _slow, _transport
from panther_channels._slow import SlowClient
from panther_channels._state import Socket, State
from tests.waiting import until


class Server:
    """A server whose client has stopped reading: its send() waits until it is unblocked."""

    def __init__(self) -> None:
        self.asgi_transport = self
        self.writable = asyncio.Event()
        self.sent: list[Any] = []
        self.aborted = 0

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        self.sent.append(message)

    def waiting(self) -> int:
        return 0 if self.aborted else 1

    def taken(self) -> int:
        return 0

    def unblock(self) -> None:
        self.writable.set()

    def abort(self) -> None:
        self.aborted += 1


CLOSE = {"type": "websocket.close", "code": 1013, "reason": "slow consumer"}


def socket_of(send: Any, state: State = State.OPEN) -> Socket:
    socket = Socket()
    socket.scope = {"path": "/chat"}
    socket.asgi_send = socket.receive = send
    socket.state = state
    return socket


@pytest.fixture(autouse=True)
def linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_slow, "_LINGER", 0.02)


async def test_too_much_waits(caplog: pytest.LogCaptureFixture):
    server = Server()
    socket = socket_of(server.send)
    slow = SlowClient(socket)
    slow.overflow()
    slow.overflow()
    await until(lambda: server.aborted)
    assert server.sent == [CLOSE]
    assert (socket.state, socket.close_code, socket.is_gone) == (State.CLOSED, 1013, True)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "slow consumer, more than 1048576 bytes wait" in record.message


async def test_nothing_is_taken(caplog: pytest.LogCaptureFixture):
    server = Server()
    slow = SlowClient(socket_of(server.send))
    with override_settings(WS_SEND_TIMEOUT=0.05):
        slow.watch("the-id")
        await until(lambda: server.aborted)
        slow.release()
    assert _transport.watch()._ends == {}
    assert server.sent == [CLOSE]
    (record,) = caplog.records
    assert "'/chat', connection the-id: slow consumer, nothing was taken for 0.05" in record.message


@pytest.mark.parametrize(("state", "lines"), [(State.CONNECTING, 1), (State.CLOSED, 0)])
async def test_what_is_not_open_is_cut_off(
    state: State, lines: int, caplog: pytest.LogCaptureFixture
):
    server = Server()
    SlowClient(socket_of(server.send, state)).overflow()
    assert server.aborted == 1
    assert server.sent == []
    assert len(caplog.records) == lines


async def test_without_a_transport_it_is_closed_all_the_same():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    slow = SlowClient(socket_of(send))
    slow.watch("id")
    slow.unblock()
    slow.overflow()
    await until(lambda: sent)
    slow.overflow()
    slow.release()
    assert sent == [CLOSE]
