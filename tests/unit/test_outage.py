"""What is said and raised when a channel layer fails."""

import asyncio
import errno
import sys
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any

import pytest
from redis import ConnectionError as RedisConnectionError

from panther_channels import _outage
from panther_channels._outage import is_trouble, limited
from panther_channels.exceptions import ChannelLayerError
from panther_channels.layers.local.directory import UnusableDirectoryError
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
    ("answer", "text"),
    [
        (lambda: raising(RedisConnectionError("refused.")), "The channel layer failed: refused."),
        (lambda: asyncio.sleep(60), "The channel layer failed: no answer within 0.01 s."),
    ],
    ids=["down", "silent"],
)
async def test_trouble(answer: Any, text: str):
    with pytest.raises(ChannelLayerError) as caught:
        await limited(answer(), 0.01)
    assert str(caught.value) == text
    assert isinstance(caught.value.__cause__, RedisConnectionError | TimeoutError)


async def test_an_answer_and_a_mistake_pass():
    async def answer() -> str:
        return "yes"

    assert await limited(answer(), 1) == "yes"
    with pytest.raises(KeyError):
        await limited(raising(KeyError("x")), 1)


async def test_who_is_cancelled_is_cancelled():
    call: Awaitable[Any] = limited(asyncio.sleep(60), 60)
    task = asyncio.ensure_future(call)
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
