import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.core.management import CommandError, call_command
from django.test import override_settings

from panther_channels._hub.delivery import EVENT_TYPE

ID = "0123456789abcdef" * 2


class Shared:
    """Not the in-memory layer, as the command sees it."""

    failure: Exception | None = None

    def __init__(self, **config: Any) -> None:
        self.sent: list[Any] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        assert (group, message.pop("type")) == (f"connection.{ID}", EVENT_TYPE)
        self.sent.append(message)


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


def fill(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        (["send", ID, "hello é"], b"", {"text": "hello é"}),
        (["send", ID, '{"a": [1, 2]}', "--json"], b"", {"json": '{"a":[1,2]}'}),
        (["send", ID, "null", "--json"], b"", {"json": "null"}),
        (["send", ID, '"text"', "--json"], b"", {"text": "text"}),
        (["send", ID, "-"], "é\n".encode(), {"text": "é\n"}),
        (["send", ID, "-", "--json"], b'{"a": 1}\n', {"json": '{"a":1}'}),
        (["send", ID, "--bytes-from", "-"], b"\x00\xff", {"base64": "AP8="}),
        # A text that looks like an option.
        (["send", "--", ID, "--json"], b"", {"text": "--json"}),
        (["close", ID], b"", {"code": 1000, "close": ""}),
        (["close", ID, "--code", "4001", "--reason", "é"], b"", {"code": 4001, "close": "é"}),
    ],
)
def test_what_is_sent(
    shared: Shared,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    stdin: bytes,
    sent: dict[str, Any],
):
    fill(monkeypatch, stdin)
    assert ID in run(*arguments)
    assert shared.sent == [sent]


def test_the_bytes_of_a_file_and_no_word_when_told_so(shared: Shared, tmp_path: Path):
    file = tmp_path / "data"
    file.write_bytes(b"\x00\xff")
    assert run("send", ID, "--bytes-from", str(file), verbosity=0) == ""
    assert shared.sent == [{"base64": "AP8="}]


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
        (["send", ID, "-"], "utf-8"),
        (["close", ID, "--code", "1005"], "1005"),
        (["close", ID, "--code", "x"], "--code"),
        (["close", ID, "--reason", "x" * 124], "123 bytes"),
        ([], "required"),
        (["list"], "invalid choice"),
        (["send"], "id"),
    ],
)
def test_mistakes(shared: Shared, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str):
    fill(monkeypatch, b"\xff")
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert text in str(caught.value)
    assert shared.sent == []


IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.mark.parametrize("arguments", [["send", ID, "x"], ["close", ID]])
@pytest.mark.parametrize(
    ("layers", "alias", "text"),
    [
        (IN_MEMORY, "default", r'(?s)CHANNEL_LAYERS\["default"\].*LocalChannelLayer'),
        ({}, "sockets", r'CHANNEL_LAYERS\["sockets"\]'),
    ],
)
def test_a_layer_by_which_nobody_is_reached(
    arguments: list[str], layers: dict[str, Any], alias: str, text: str
):
    with (
        override_settings(CHANNEL_LAYERS=layers, WS_CHANNEL_LAYER=alias),
        pytest.raises(CommandError, match=text),
    ):
        run(*arguments)


def test_a_layer_that_is_down(shared: Shared):
    shared.failure = type("DownError", (Exception,), {})("connection refused")  # no OSError
    with pytest.raises(CommandError, match="connection refused"):
        run("send", ID, "x")
