import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.core.management import CommandError, call_command
from django.test import override_settings

from panther_channels.connections import EVENT_TYPE

ID = "0123456789abcdef" * 2


class Shared:
    """Not the in-memory layer, as the command sees it."""

    def __init__(self, **config: Any) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.sent.append((group, message))


@pytest.fixture
def shared() -> Iterator[Shared]:
    backend = f"{__name__}.Shared"
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend}}):
        layer: Any = get_channel_layer()
        yield layer


def run(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("websocket", *arguments, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    def fill(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return fill


def event(**fields: Any) -> list[Any]:
    return [(f"connection.{ID}", {"type": EVENT_TYPE, **fields})]


def test_send(shared: Any):
    assert ID in run("send", ID, "hello é")
    assert shared.sent == event(text="hello é")


def test_send_says_nothing_when_told_so(shared: Any):
    assert run("send", ID, "hello", verbosity=0) == ""
    assert shared.sent == event(text="hello")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('{"a": [1, 2]}', {"json": '{"a":[1,2]}'}),
        ("null", {"json": "null"}),
        ('"text"', {"text": "text"}),
    ],
)
def test_send_json(shared: Any, text: str, sent: dict[str, str]):
    run("send", ID, text, "--json")
    assert shared.sent == event(**sent)


def test_send_the_bytes_of_a_file(shared: Any, tmp_path: Path):
    file = tmp_path / "data"
    file.write_bytes(b"\x00\xff")
    run("send", ID, "--bytes-from", str(file))
    assert shared.sent == event(base64="AP8=")


def test_send_standard_input(shared: Any, stdin: Any):
    stdin("é\n".encode())
    run("send", ID, "-")
    stdin(b'{"a": 1}\n')
    run("send", ID, "-", "--json")
    stdin(b"\x00\xff")
    run("send", ID, "--bytes-from", "-")
    assert shared.sent == [*event(text="é\n"), *event(json='{"a":1}'), *event(base64="AP8=")]


def test_a_text_that_looks_like_an_option(shared: Any):
    run("send", "--", ID, "--json")
    assert shared.sent == event(text="--json")


def test_close(shared: Any):
    run("close", ID)
    run("close", ID, "--code", "4001", "--reason", "bye é")
    assert shared.sent == [*event(code=1000, close=""), *event(code=4001, close="bye é")]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["send", "abc", "x"], "'abc' is no connection_id"),
        (["send", ID.upper(), "x"], "is no connection_id"),
        (["close", ""], "is no connection_id"),
        (["send", ID], "TEXT"),
        (["send", ID, "x", "--bytes-from", "-"], "TEXT"),
        (["send", ID, "--json"], "TEXT"),
        (["send", ID, "--json", "--bytes-from", "-"], "TEXT"),
        (["send", ID, "{", "--json"], "line 1"),
        (["send", ID, "--bytes-from", "/no/such/file"], "/no/such/file"),
        (["close", ID, "--code", "1005"], "1005"),
        (["close", ID, "--code", "x"], "--code"),
        (["close", ID, "--reason", "x" * 124], "123 bytes"),
        ([], "required"),
        (["list"], "invalid choice"),
        (["send"], "id"),
    ],
)
def test_mistakes(shared: Any, arguments: list[str], text: str):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert text in str(caught.value)
    assert shared.sent == []


def test_input_that_is_no_text(shared: Any, stdin: Any):
    stdin(b"\xff")
    with pytest.raises(CommandError, match="utf-8"):
        run("send", ID, "-")


@pytest.mark.parametrize("arguments", [["send", ID, "x"], ["close", ID]])
def test_the_in_memory_layer_reaches_nobody(arguments: list[str]):
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert 'CHANNEL_LAYERS["default"]' in str(caught.value)
    assert "LocalChannelLayer" in str(caught.value)


@pytest.mark.parametrize("arguments", [["send", ID, "x"], ["close", ID]])
def test_without_a_layer(arguments: list[str]):
    with (
        override_settings(CHANNEL_LAYERS={}, WS_CHANNEL_LAYER="sockets"),
        pytest.raises(CommandError, match=r'CHANNEL_LAYERS\["sockets"\]'),
    ):
        run(*arguments)


def test_a_layer_that_is_down(shared: Any):
    class DownError(Exception):
        """As redis-py's errors, which are no OSError."""

    async def failing(group: str, message: dict[str, Any]) -> None:
        raise DownError("connection refused")

    shared.group_send = failing
    with pytest.raises(CommandError, match="connection refused"):
        run("send", ID, "x")
