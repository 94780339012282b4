import argparse
import asyncio
import io
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from panther_channels import sync
from panther_channels._hub.addresses import required_user_group
from panther_channels._hub.delivery import EVENT_TYPE
from panther_channels._hub.listing import Count, Found
from panther_channels.layers import LocalChannelLayer
from panther_channels.management.commands.websocket import Command
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.layers import default_layer
from tests.unit.peer import Peer

ID = "0123456789abcdef" * 2


class Shared:
    """Not the in-memory layer, as the command sees it."""

    failure: Exception | None = None

    def __init__(self, **config: Any) -> None:
        self.groups: list[str] = []
        self.sent: list[Any] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        assert message.pop("type") == EVENT_TYPE
        self.groups.append(group)
        self.sent.append(message)


@pytest.fixture
def shared() -> Iterator[Shared]:
    backend = f"{__name__}.Shared"
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": backend}}):
        layer: Any = get_channel_layer()
        yield layer


def run(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("websocket", *arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def refused(*arguments: str) -> tuple[int, str]:
    """The exit status, and what is said."""
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    return caught.value.returncode, str(caught.value)


class Typed(io.TextIOWrapper):
    """What somebody types, or what comes through a pipe."""

    def __init__(self, data: bytes, *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="ascii")
        self.isatty = lambda: is_terminal  # type: ignore[method-assign]


def fill(monkeypatch: pytest.MonkeyPatch, data: bytes, *, is_terminal: bool = False) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(data, is_terminal=is_terminal))


# Without waiting


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        (["send", ID, "hello é"], b"", {"text": "hello é"}),
        (["send", ID, '{"a": [1, 2]}', "--json"], b"", {"json": '{"a":[1,2]}'}),
        (["send", ID, "--json", "[1, 2]"], b"", {"json": "[1,2]"}),
        (["send", ID, "--json", "-"], b"[1, 2]", {"json": "[1,2]"}),
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
    assert ID in run(arguments[0], "--no-wait", *arguments[1:])
    assert (shared.groups, shared.sent) == ([f"connection.{ID}"], [sent])


@pytest.mark.parametrize(
    ("target", "group"),
    [
        (["--all"], "panther_channels.everybody"),
        (["--group", "room-7"], "room-7"),
        (["--user", "pk:7"], required_user_group(7)),
    ],
)
def test_many_are_sent_to_and_closed(shared: Shared, target: list[str], group: str):
    for arguments in (["send", *target, "a"], ["send", "a", *target], ["close", *target, "--yes"]):
        run(*arguments, "--no-wait")
    assert shared.groups == [group] * 3
    assert shared.sent == [{"text": "a"}, {"text": "a"}, {"code": 1000, "close": ""}]


def test_the_bytes_of_a_file_and_no_word_when_told_so(shared: Shared, tmp_path: Path):
    file = tmp_path / "data"
    file.write_bytes(b"\x00\xff")
    sending = ("send", ID, "--no-wait", "--bytes-from", str(file))
    assert run(*sending, verbosity=0) == ""
    # Django's options before the subcommand and after it: none undoes the other's.
    assert run("-v", "0", *sending) == ""
    assert run(*sending, "-v0") == ""
    closing = ("close", ID, "--no-wait", "--verbosity", "1", "--no-color", "--traceback")
    assert ID in run("-v", "0", *closing)
    assert shared.sent == [*[{"base64": "AP8="}] * 3, {"code": 1000, "close": ""}]


# With answers


class Member(GenericWebsocket):
    async def auth(self, connection: Websocket) -> Any:
        return SimpleNamespace(pk=7, get_username=lambda: "ada\x1b[2J")

    async def connect(self, room: str = ""):
        await self.join("room")
        await self.accept()


class Site:
    """Connections of user 7 in this process, and the command in a thread."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()

    async def open(self, count: int = 1) -> list[Peer]:
        peers = []
        for _ in range(count):
            peer = Peer(Member.as_asgi(), client=("::1", 5), path="/ws/a\tb")
            peers.append(await self.stack.enter_async_context(peer))
            await peer.accepted()
        return peers

    async def run(self, *arguments: str) -> str:
        return await asyncio.to_thread(run, *arguments)

    async def refused(self, *arguments: str) -> tuple[int, str]:
        return await asyncio.to_thread(refused, *arguments)


@pytest.fixture
async def site(folder: Path) -> AsyncIterator[Site]:
    layer = LocalChannelLayer(folder)
    with default_layer(layer):
        found = Site()
        async with found.stack:
            yield found
        await layer.flush()


async def test_what_is_open_is_told(site: Site):
    assert await site.run("list") == ""
    assert await site.run("count") == "0\n"
    for peer in await site.open(3):
        peer.push("hello")
    lines = (await site.run("list", "--user", "pk:7", "--path", "/ws/*")).splitlines()
    assert len(lines) == 3
    found = await asyncio.to_thread(sync.list_connections)
    connection_id, *told = lines[0].split("\t")
    assert connection_id in {each.id for each in found}
    assert told[:4] == ["7", r"ada\x1b[2J", r"/ws/a\tb", "::1:5"]
    assert re.fullmatch(r"2\d{3}-.*\+00:00", told[4])
    assert await site.run("count", "--group", "room") == "3\n"
    assert await site.run("count", "--group", "other") == "0\n"
    for line in (await site.run("list", "--json")).splitlines():
        row = json.loads(line)
        assert (row["user_id"], row["client"], row["groups"]) == (
            7,
            {"ip": "::1", "port": 5},
            ["room"],
        )
    shown = await site.run("show", connection_id)
    assert "path\t/ws/a\\tb\n" in shown
    assert "groups\troom\n" in shown
    assert json.loads(await site.run("show", "--json", connection_id))["id"] == connection_id


async def test_who_is_there_confirms(site: Site):
    peers = await site.open(2)
    (one, *_) = await asyncio.to_thread(sync.list_connections)
    assert await site.run("send", one.id, "a") == f"Reached connection {one.id}.\n"
    for target in (["--all"], ["--group", "room"], ["--user", "pk:7"]):
        assert "Reached 2 connections of " in await site.run("send", *target, "b")
    assert sorted(peer.unread for peer in peers) == [3, 4]
    assert "Closed 2 connections of group room." in await site.run(
        "close", "--group", "room", "--yes", "--code", "4001"
    )
    for peer in peers:
        while (event := await peer.next())["type"] != "websocket.close":
            pass
        assert event["code"] == 4001
        peer.leave(4001)
        await peer.ended()
    for words in (["send", one.id, "a"], ["close", one.id], ["show", one.id]):
        assert await site.refused(*words) == (1, f"No open connection has the id '{one.id}'.")
    for words in (["send", "x", "--all"], ["close", "--user", "pk:7"], ["drain"]):
        assert (await site.refused(*words))[0] == 1


async def test_more_than_one_is_closed_only_by_who_is_sure(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    (peer, *_) = await site.open(3)
    for words in (["close", "--all"], ["drain"]):
        fill(monkeypatch, b"")
        code, text = await site.refused(*words)
        assert (code, "Close 3 connections of this project?" in text) == (2, True)
        assert "--yes" in text
        for answer in (b"\n", b"n\n", b""):
            fill(monkeypatch, answer, is_terminal=True)
            assert await site.refused(*words) == (1, "Nothing was closed.")
    assert peer.unread == 0
    fill(monkeypatch, b"y\n", is_terminal=True)
    assert "Closed 3" in await site.run("close", "--all")


async def test_one_is_closed_without_a_question(site: Site, monkeypatch: pytest.MonkeyPatch):
    fill(monkeypatch, b"")
    await site.open()
    assert await site.run("close", "--user", "pk:7") == "Closed 1 connection of user pk:7.\n"


async def test_connections_are_drained_in_batches(site: Site, monkeypatch: pytest.MonkeyPatch):
    peers = await site.open(5)
    (one, *_) = await asyncio.to_thread(sync.list_connections)
    words = ("--batch", "2", "--every", "0.05", "--yes", "--process")
    for process in ("1", f"elsewhere:{one.process}", "x"):
        assert (await site.refused("drain", *words, process))[0] == 1
    hosts = [SimpleNamespace(id=each, host=each, process=7) for each in "ab"]
    with monkeypatch.context() as patch:
        patch.setattr(sync, "list_connections", lambda **_: Found(hosts))
        code, text = await site.refused("drain", *words, "7")
        assert (code, text) == (2, "There is a process 7 on 2 hosts: write a:7 or b:7.")
    told = await site.run("drain", *words, f"{one.host}:{one.process}")
    assert told.splitlines() == ["0/5", "2/5", "4/5", "5/5", "Closed 5 connections."]
    for peer in peers:
        assert (await peer.next())["code"] == 1012
        peer.leave(1012)
        await peer.ended()
    await site.open(1)
    assert await site.run("drain", "-v0") == ""


# Whom a user's name means


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "key"), [("ada", 1), ("2", 2), ("pk:1", 1), ("pk:77", 77), ("x@y.z", 3), ("3", 3)]
)
def test_a_user_by_name_or_key(shared: Shared, text: str, key: int):
    for number, name in enumerate(("ada", "bob", "x@y.z", "4"), start=1):
        User.objects.create(pk=number, username=name)
    run("send", "--no-wait", "--user", text, "a")
    assert shared.groups == [required_user_group(key)]


@pytest.mark.django_db
def test_a_user_who_is_not_known_or_not_told_apart(shared: Shared):
    User.objects.create(pk=1, username="2")
    User.objects.create(pk=2, username="bob")
    for text in ("nobody", "99", "9" * 99):
        code, told = refused("send", "--user", text, "a")
        assert (code, f"pk:{text}" in told) == (2, True)
    code, told = refused("count", "--user", "2")
    assert (code, "pk:1 for the one, or pk:2 for the other" in told) == (2, True)


def test_a_user_without_a_database(shared: Shared, monkeypatch: pytest.MonkeyPatch):
    with override_settings(AUTH_USER_MODEL="nothing.User"):
        assert refused("count", "--user", "ada")[0] == 3
        run("send", "--no-wait", "--user", "pk:ada", "a")
        assert shared.groups == [required_user_group("ada")]


# Who doesn't answer


@pytest.mark.parametrize(
    ("words", "function"),
    [
        (["list"], "list_connections"),
        (["count"], "count_connections"),
        (["drain"], "list_connections"),
    ],
)
def test_processes_without_an_answer_are_named(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, words: list[str], function: str
):
    count = Count(0)
    count.missing = ("0a0b0c0d", "?")
    found = count if function == "count_connections" else Found[Any]([], count.missing)
    monkeypatch.setattr(sync, function, lambda **_: found)
    code, text = refused(*words)
    assert (code, text) == (
        3,
        "2 processes gave no answer, and their connections are missing: the ids of those begin "
        "with 0a0b0c0d.",
    )


def test_the_end_by_ctrl_c(shared: Shared, monkeypatch: pytest.MonkeyPatch):
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sync, "count_connections", interrupt)
    with pytest.raises(SystemExit) as caught:
        run("close", "--all")
    assert caught.value.code == 130


# The words


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """The parsers of the subcommands, by their names."""
    parser = Command().create_parser("manage.py", "websocket")
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


def test_without_a_subcommand_it_says_what_there_is():
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("websocket", stdout=out)
    assert caught.value.returncode == 2
    assert out.getvalue() == Command().create_parser("manage.py", "websocket").format_help()
    assert all(f"\n    {name} " in out.getvalue() for name in subparsers())


@pytest.mark.parametrize("name", subparsers())
async def test_each_help_explains_every_option_and_its_examples_are_right(
    name: str, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    monkeypatch.setattr(Command, "_watch", lambda *_: None)  # which needs a terminal
    subparser = subparsers()[name]
    assert [each.dest for each in subparser._actions if not each.help] == []
    _, told = subparser.format_help().split("\nexamples:\n")
    examples = re.findall(rf"manage.py websocket ({name}\b[^|\n]*)", told)
    assert len(examples) > 1
    for example in examples:
        fill(monkeypatch, b"")
        words = shlex.split(example.replace("--user ada", "--user pk:ada"))
        try:
            await site.run(*words)
        except CommandError as error:
            assert error.returncode == 1, example  # noqa: PT017 - some find nobody, which is right


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["send", "abc", "x"], "'abc' is no connection_id"),
        (["send", ID.upper(), "x"], "is no connection_id"),
        (["close", ""], "is no connection_id"),
        (["show", "abc"], "is no connection_id"),
        (["send", ID], "TEXT"),
        (["send", ID, "x", "--bytes-from", "-"], "TEXT"),
        (["send", ID, "--json"], "TEXT"),
        (["send", ID, "--json", "--bytes-from", "-"], "TEXT"),
        (["send", ID, "{", "--json"], "line 1"),
        (["send", ID, "--bytes-from", "/no/such/file"], "/no/such/file"),
        (["send", ID, "-"], "utf-8"),
        (["send", "--all"], "TEXT"),
        (["send", ID, "x", "--all"], "Name either"),
        (["send"], "Name either"),
        (["close"], "Name either"),
        (["close", ID, "--code", "1005"], "1005"),
        (["close", "--all", "--code", "1005"], "1005"),
        (["drain", "--code", "1005"], "1005"),
        (["close", ID, "--reason", "x" * 124], "123 bytes"),
        (["list", "--watch"], "terminal"),
        ([], "subcommand"),
    ],
)
def test_mistakes(shared: Shared, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str):
    fill(monkeypatch, b"\xff")
    code, told = refused(*arguments)
    assert (code, text in told) == (2, True), told
    assert shared.sent == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["close", ID, "--code", "x"], "--code"),
        (["show"], "ID"),
        (["frob"], "invalid choice"),
        (["list", "x"], "unrecognized"),
        (["send", ID, "a", "b"], "unrecognized"),
        (["send", "--all", "--group", "x", "a"], "not allowed"),
        (["list", "--json", "--watch"], "not allowed"),
        *((["count", "--within", each], "seconds above zero") for each in ("0", "x", "nan", "inf")),
        *((["drain", "--batch", each], "number above zero") for each in ("0", "x", "1.5")),
    ],
)
def test_mistakes_that_are_told_with_the_usage(arguments: list[str], text: str):
    assert text in refused(*arguments)[1]


IN_MEMORY = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
ALL = [["list"], ["show", ID], ["count"], ["send", ID, "x"], ["close", ID], ["drain"]]


@pytest.mark.parametrize("arguments", ALL)
@pytest.mark.parametrize(
    ("layers", "alias", "text"),
    [
        (IN_MEMORY, "default", r'CHANNEL_LAYERS\["default"\].*LocalChannelLayer'),
        ({}, "sockets", r'CHANNEL_LAYERS\["sockets"\]'),
        ({"default": {"BACKEND": "no.such.Layer"}}, "default", "no.such.Layer"),
    ],
)
def test_a_layer_by_which_nobody_is_reached(
    arguments: list[str], layers: dict[str, Any], alias: str, text: str
):
    with override_settings(CHANNEL_LAYERS=layers, WS_CHANNEL_LAYER=alias):
        code, told = refused(*arguments)
    assert code == 3
    assert re.search(text, told)


def test_a_layer_that_is_down(shared: Shared):
    shared.failure = type("DownError", (Exception,), {})("connection refused")  # no OSError
    assert refused("send", ID, "x", "--no-wait") == (3, "connection refused")
