"""What is said and raised when a channel layer fails."""

import asyncio
import errno
import sys
from collections import OrderedDict
from typing import Any

import pytest
from django.test import override_settings
from redis import ConnectionError as RedisConnectionError

from panther_channels._process import outage as _outage
from panther_channels._process.outage import is_trouble, limited
from panther_channels.exceptions import ChannelLayerError
from panther_channels.layers.local.directory import UnusableDirectoryError
from panther_channels.websocket import GenericWebsocket
from tests.client import InProcess
from tests.names import name_of


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RedisConnectionError("gone"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (TimeoutError(), True),
        (ValueError("a mistake"), False),
    ],
    ids=name_of,
)
def test_what_needs_no_traceback(error: Exception, expected: bool):
    assert is_trouble(error) is expected


def test_who_has_no_redis(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "redis")
    assert is_trouble(OSError())
    assert not is_trouble(ValueError())


async def raising(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("answer", "seconds", "text"),
    [
        (lambda: raising(RedisConnectionError("refused.")), 0.01, "refused."),
        (lambda: asyncio.sleep(60), 0.01, "no answer within 0.01 s."),
        # By the layer's own limit
        (lambda: raising(TimeoutError()), 9, "no answer within 9 s."),
    ],
    ids=["down", "silent", "limits itself"],
)
async def test_trouble(answer: Any, seconds: float, text: str):
    with pytest.raises(ChannelLayerError) as caught:
        await limited(answer(), seconds)
    assert str(caught.value) == f"The channel layer failed: {text}"
    assert isinstance(caught.value.__cause__, RedisConnectionError | TimeoutError)


async def test_all_else_passes():
    assert await limited(asyncio.sleep(0, "an answer"), 1) == "an answer"
    with pytest.raises(KeyError):
        await limited(raising(KeyError("a mistake")), 1)
    task = asyncio.ensure_future(limited(asyncio.sleep(60), 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_one_line_for_many(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(_outage._ends, "_known", OrderedDict())
    for what in ("reset by peer", "refused", "silent"):
        _outage.log_end("/ws", "closed", ChannelLayerError(what))
    _outage.log_end("/ws", "refused", UnusableDirectoryError("Somebody else's."))
    assert caplog.messages == [
        "WebSocket '/ws' was closed: The channel layer failed: reset by peer.",
        "WebSocket '/ws' was refused: Somebody else's.",
    ]
    assert {record.levelname for record in caplog.records} == {"ERROR"}


class Echo(GenericWebsocket):
    async def connect(self):
        await self.accept()


@override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "no.such.Layer"}})
async def test_a_backend_that_is_not_there():
    async with InProcess(Echo.as_asgi()) as connect:
        assert await connect.status("/") == 503
