"""``manage.py websocket``: see and reach the open connections of this project's servers."""

import asyncio
import json
import math
import os
import random
import shutil
import sys
import time
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
from channels.exceptions import InvalidChannelLayerError
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError

from panther_channels import conf, connections, status, sync
from panther_channels._hub.addresses import is_connection_id
from panther_channels._hub.delivery import channel_layer
from panther_channels._socket.closing import check_close
from panther_channels.connections import ConnectionInfo, Found
from panther_channels.exceptions import (
    ChannelLayerError,
    ConnectionNotFoundError,
    DeliveryTimeoutError,
)
from panther_channels.layers.backplane import backplane
from panther_channels.management.terminal import Progress, age, counted, printable, table

_NOBODY, _USAGE, _NO_ANSWER = 1, 2, 3  # exit statuses; 0 is for who was reached
_INTERRUPTED, _BROKEN_PIPE = 130, 141  # as of a shell: 128 and the signal
_WITHIN = 3.0

EXAMPLES = """
examples:
  %(prog)s list
  %(prog)s send --user ada "Hello"
  %(prog)s close 7e82d57c9ec0478787b01916910a9f45 --code 4000 --reason "bye"

exit status: 0 done, 1 nobody is there, 2 a mistake in the command, 3 no answer
from a process or the channel layer.

%(prog)s SUBCOMMAND --help explains one of them. An ID is the connection_id of a
connection. The command needs the settings of the server, and a channel layer
that reaches it: LocalChannelLayer or RedisChannelLayer of panther_channels.layers.
"""
LIST_EXAMPLES = """
examples:
  %(prog)s
  %(prog)s --user ada --path "/ws/rooms/*"
  %(prog)s --group room-7 --watch
  %(prog)s --json | jq -r .user_name

Without a terminal each connection is a line, with tabs between: id, primary key
and name of the user, path, client, connected at, last message at, messages
received and sent, process, host.
"""
SHOW_EXAMPLES = """
examples:
  %(prog)s 7e82d57c9ec0478787b01916910a9f45
  %(prog)s 7e82d57c9ec0478787b01916910a9f45 --json
"""
COUNT_EXAMPLES = """
examples:
  %(prog)s
  %(prog)s --user ada
  %(prog)s --group room-7 --path "/ws/rooms/*"
"""
SEND_EXAMPLES = """
examples:
  %(prog)s 7e82d57c9ec0478787b01916910a9f45 "Hello"
  %(prog)s --user ada '{"answer": 42}' --json
  %(prog)s --group room-7 --bytes-from photo.jpg
  date | %(prog)s --all - --no-wait

exit status: 0 somebody has it, 1 nobody is there, 2 a mistake in the command,
3 no answer from a process or the channel layer.
"""
CLOSE_EXAMPLES = """
examples:
  %(prog)s 7e82d57c9ec0478787b01916910a9f45
  %(prog)s --user ada --code 4000 --reason "bye"
  %(prog)s --all --yes --no-wait

exit status: 0 somebody was closed, 1 nobody is there, or the answer was no, 2 a
mistake in the command, 3 no answer from a process or the channel layer.
"""
DRAIN_EXAMPLES = """
examples:
  %(prog)s --yes
  %(prog)s --process 4711 --batch 50 --every 0.5 --yes
  %(prog)s --process web1:4711 --reason "see you in a moment" --yes

Who connects meanwhile stays: let nobody in to the process before. ^C stops it,
and says how many were closed.
"""


class _HelpFormatter(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Leaves examples as they are written, and Django's own options at the end."""


class _Subparser(CommandParser):
    """Takes TEXT also where an option stands before it: argparse of Python 3.11 doesn't."""

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """As of argparse."""
        found, rest = super().parse_known_args(*args, **kwargs)
        has_text = len(rest) == 1 and (rest[0] == "-" or not rest[0].startswith("-"))
        if has_text and getattr(found, "text", "") is None:
            found.text, rest = rest[0], []
        return found, rest


class _Target(NamedTuple):
    """Whom a message or a close is for.

    Attributes:
        name: what to call it.
        send: of ``panther_channels.sync``, which lacks the message only.
        close: the same, which lacks the code.
        wanted: by what its connections are counted; ``None`` of a single one.
    """

    name: str
    send: Callable[..., int | None]
    close: Callable[..., int | None]
    wanted: dict[str, Any] | None


class Command(BaseCommand):
    """See the open WebSocket connections, send to them, close them."""

    requires_system_checks = ()  # their warnings would come with every message
    help = "See and reach the open WebSocket connections of this project's servers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """A subcommand for each thing that can be done."""
        parser.formatter_class, parser.epilog = _HelpFormatter, EXAMPLES
        actions = parser.add_subparsers(
            dest="action",
            metavar="SUBCOMMAND",
            title="subcommands",
            prog=parser.prog,
            parser_class=_Subparser,
        )

        listing = _add_subcommand(actions, "list", "list the connections", LIST_EXAMPLES)
        _add_filters(listing)
        form = listing.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="a line of JSON for each connection")
        form.add_argument(
            "--watch",
            nargs="?",
            type=_seconds,
            const=2.0,
            metavar="SECONDS",
            help="draw the table again every 2 seconds, or as many as are given, until ^C",
        )

        show = _add_subcommand(
            actions, "show", "show all that is known of a connection", SHOW_EXAMPLES
        )
        show.add_argument("id", metavar="ID", help="the connection_id, 32 hexadecimal digits")
        show.add_argument("--json", action="store_true", help="as a line of JSON")

        _add_filters(_add_subcommand(actions, "count", "count the connections", COUNT_EXAMPLES))

        send = _add_subcommand(actions, "send", "send a message to connections", SEND_EXAMPLES)
        send.usage = (
            "%(prog)s (ID | --user U | --group G | --all)\n"
            "       (TEXT [--json] | --bytes-from FILE) [--no-wait] [--within SECONDS]"
        )
        _add_target(send)
        send.add_argument(
            "text",
            nargs="?",
            metavar="TEXT",
            help="the message, sent as a text frame; - reads standard input",
        )
        send.add_argument(
            "--json", action="store_true", help="TEXT is JSON: check it, and send it compact"
        )
        send.add_argument(
            "--bytes-from",
            metavar="FILE",
            help="send the content of this file as a binary frame; - reads standard input",
        )

        close = _add_subcommand(actions, "close", "close connections", CLOSE_EXAMPLES)
        close.usage = (
            "%(prog)s (ID | --user U | --group G | --all)\n"
            "       [--code CODE] [--reason REASON] [--yes] [--no-wait] [--within SECONDS]"
        )
        _add_target(close)
        _add_closing(close, status.WS_1000_NORMAL_CLOSURE)

        drain = _add_subcommand(
            actions, "drain", "close connections, some at a time", DRAIN_EXAMPLES
        )
        drain.add_argument(
            "--process",
            metavar="PROCESS",
            help="only those of the process with this id, or HOST:ID; without it, all",
        )
        drain.add_argument(
            "--batch",
            type=_number,
            default=100,
            metavar="N",
            help="how many to close at a time, 100 by default",
        )
        drain.add_argument(
            "--every",
            type=_seconds,
            default=1.0,
            metavar="SECONDS",
            help="from one batch to the next, 1 second by default",
        )
        _add_closing(drain, status.WS_1012_SERVICE_RESTART)

        for each in actions.choices.values():
            each.add_argument(
                "--within",
                type=_seconds,
                default=_WITHIN,
                metavar="SECONDS",
                help=f"how long to wait for processes to answer, {_WITHIN:g} seconds by default",
            )
            _add_django_options(each)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand."""
        actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list,
            "show": self._show,
            "count": self._count,
            "send": self._send,
            "close": self._close,
            "drain": self._drain,
        }
        if options["action"] is None:
            self.stdout.write(self.create_parser("manage.py", "websocket").format_help())
            raise CommandError("Name a subcommand.", returncode=_USAGE)
        try:
            actions[options["action"]](options)
            self.stdout.flush()  # here, where a reader that has gone can be told apart
        except CommandError:
            raise
        except KeyboardInterrupt:
            self.stderr.write("")  # after the ^C that the terminal shows
            raise SystemExit(_INTERRUPTED) from None
        except BrokenPipeError:
            # What Python would write at its end goes nowhere, as of any tool before `head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(_BROKEN_PIPE) from None
        except ConnectionNotFoundError as error:
            raise CommandError(str(error), returncode=_NOBODY) from error
        except (TypeError, ValueError) as error:
            raise CommandError(str(error), returncode=_USAGE) from error
        except Exception as error:
            # No answer in time, or whatever the library of a channel layer raises in its trouble.
            text = str(error) or type(error).__name__
            raise CommandError(text, returncode=_NO_ANSWER) from error

    # What is there

    def _list(self, options: dict[str, Any]) -> None:
        _check_layer()
        wanted = {**_wanted(options), "within": options["within"]}
        if options["watch"]:
            self._watch(wanted, options["watch"])
            return
        found = _in_order(sync.list_connections(**wanted))
        if options["json"]:
            lines: Iterable[str] = map(_json_line, found)
        elif self.stdout.isatty():
            lines = _overview(found, shutil.get_terminal_size().columns, wanted)
        else:
            lines = map(_line, found)
        for line in lines:
            self._say(line)
        self._require_all(found.missing)

    def _watch(self, wanted: dict[str, Any], seconds: float) -> None:
        if not self.stdout.isatty():
            raise CommandError(
                "--watch draws on a terminal, and the output is none.", returncode=_USAGE
            )
        self.stdout.write("\x1b[2J", ending="")
        try:
            while True:
                columns, rows = shutil.get_terminal_size()
                try:
                    found = _in_order(sync.list_connections(**wanted))
                    lines = _overview(found, columns, wanted)
                    lines += [_unanswered(found.missing)] if found.missing else []
                except (ChannelLayerError, TimeoutError) as error:
                    lines = [f"{error} It is asked again."]
                above = f"{datetime.now().astimezone():%H:%M:%S}, every {seconds:g} s; ^C ends it"
                if len(lines) > rows - 4:  # the last ones tell more than those in the middle
                    left = max(1, rows - 6)
                    lines[left:-2] = [f"… and {counted(len(lines) - left - 2, 'line')} more"]
                # Line by line over what was there, so that nothing flickers.
                drawn = "".join(f"{line}\x1b[K\n" for line in (above, "", *lines))
                self._say(f"\x1b[H{drawn}\x1b[J", ending="")
                self.stdout.flush()
                time.sleep(seconds)
        except KeyboardInterrupt:
            self.stdout.write("")

    def _show(self, options: dict[str, Any]) -> None:
        _check_id(options["id"])
        _check_layer()
        info = sync.get_connection(options["id"], within=options["within"])
        if options["json"]:
            self._say(_json_line(info))
            return
        facts = [(each.name, _fact(getattr(info, each.name))) for each in fields(info)]
        if self.stdout.isatty():
            named = [(name.replace("_", " "), fact or "-") for name, fact in facts]
            lines = table(named, sys.maxsize)
        else:
            lines = ["\t".join(map(printable, fact)) for fact in facts]
        for line in lines:
            self._say(line)

    def _count(self, options: dict[str, Any]) -> None:
        _check_layer()
        count = sync.count_connections(**_wanted(options), within=options["within"])
        self._say(str(int(count)))
        self._require_all(count.missing)

    # What is done to them

    def _send(self, options: dict[str, Any]) -> None:
        if options["text"] is None and _names_many(options):
            options["id"], options["text"] = None, options["id"]
        target = _target(options)
        message = _message(options)
        _check_layer()
        self._deliver(options, target, partial(target.send, message), "Reached")

    def _close(self, options: dict[str, Any]) -> None:
        target = _target(options)
        check_close(options["code"], options["reason"])
        _check_layer()
        if target.wanted is not None and not options["yes"]:
            count = sync.count_connections(**target.wanted, within=options["within"])
            self._tell_missing(count.missing)
            if count + len(count.missing) > 1:
                self._ask(f"Close {counted(count, 'connection')} of {target.name}?")
        call = partial(target.close, options["code"], options["reason"])
        self._deliver(options, target, call, "Closed")

    def _deliver(
        self, options: dict[str, Any], target: _Target, call: Callable[..., int | None], done: str
    ) -> None:
        if options["no_wait"]:
            call()
            text = f"Handed to the channel layer for {target.name}; it reaches who is open."
        else:
            count = call(confirm_within=options["within"])
            if count == 0:
                raise CommandError(f"No connection of {target.name} is open.", returncode=_NOBODY)
            of = "" if count is None else f"{counted(count, 'connection')} of "
            text = f"{done} {of}{target.name}."
        if options["verbosity"] > 0:
            self._say(text)

    def _drain(self, options: dict[str, Any]) -> None:
        check_close(options["code"], options["reason"])
        _check_layer()
        everybody = sync.list_connections(within=options["within"])
        found = [*everybody]
        where = "this project"
        if options["process"] is not None:
            found = _of_process(found, options["process"])
            where = f"process {options['process']}"
        if not found:
            self._require_all(everybody.missing)
            raise CommandError(f"No connection of {where} is open.", returncode=_NOBODY)
        self._tell_missing(everybody.missing)
        if len(found) > 1 and not options["yes"]:
            self._ask(f"Close {counted(len(found), 'connection')} of {where}?")
        random.shuffle(found)  # else one process would have a whole batch
        progress = Progress(self.stdout if options["verbosity"] > 0 else None, len(found))
        draining = _Draining([each.id for each in found], progress)
        try:
            asyncio.run(draining.run(options))
        finally:
            progress.end()
            if options["verbosity"] > 0:
                self._say(draining.told())
        if options["process"] is None:
            draining.missing.update(everybody.missing)
        self._require_all(sorted(draining.missing))

    # What is said

    def _say(self, text: str, ending: str = "\n") -> None:
        """Write to standard output, whatever its encoding."""
        encoding = self.stdout.encoding or "utf-8"
        self.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding), ending=ending)

    def _ask(self, question: str) -> None:
        """Go on only if the answer is yes."""
        if not sys.stdin.isatty():
            raise CommandError(
                f"{question} Nobody can be asked here: add --yes.", returncode=_USAGE
            )
        self.stderr.write(f"{question} [y/N] ", str, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was closed.", returncode=_NOBODY)

    def _tell_missing(self, missing: Iterable[str]) -> None:
        if missing:
            self.stderr.write(_unanswered(missing))

    def _require_all(self, missing: Iterable[str]) -> None:
        if missing:
            raise CommandError(_unanswered(missing), returncode=_NO_ANSWER)


class _Draining:
    """Connections that are closed, some at a time.

    Args:
        ids: theirs, in the order in which they are closed.
        progress: who is told how many are.

    Attributes:
        missing: the processes that gave no answer, whose connections aren't tried again.
    """

    def __init__(self, ids: list[str], progress: Progress) -> None:
        self._progress = progress
        self.missing: set[str] = set()
        self._ids = ids
        self._closed = self._gone = 0

    async def run(self, options: dict[str, Any]) -> None:
        """Close them all.

        Raises:
            ChannelLayerError: the layer is in trouble.
        """
        clock, waiting = asyncio.get_running_loop().time, self._ids
        next_at = clock()
        self._progress.show(0)
        while waiting:
            await asyncio.sleep(next_at - clock())
            next_at = clock() + options["every"]
            batch, waiting = waiting[: options["batch"]], waiting[options["batch"] :]
            await asyncio.gather(*(self._close(each, options) for each in batch))
            waiting = [each for each in waiting if each[:8] not in self.missing]
            self._progress.show(len(self._ids) - len(waiting))

    async def _close(self, connection_id: str, options: dict[str, Any]) -> None:
        code, reason, within = options["code"], options["reason"], options["within"]
        try:
            await connections.close_websocket_connection(
                connection_id, code, reason, confirm_within=within
            )
            self._closed += 1
        except ConnectionNotFoundError:
            self._gone += 1
        except DeliveryTimeoutError as error:
            self.missing.update(error.missing)

    def told(self) -> str:
        """What was done."""
        text = f"Closed {counted(self._closed, 'connection')}"
        if self._gone:
            text += f"; {self._gone:,} had gone before"
        if left := len(self._ids) - self._closed - self._gone:
            text += f"; {left:,} {'is' if left == 1 else 'are'} left"
        return f"{text}."


# The words of the command line


def _add_subcommand(actions: Any, name: str, does: str, examples: str) -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(
        name,
        help=does,
        description=f"{does.capitalize()}.",
        epilog=examples,
        formatter_class=_HelpFormatter,
    )
    return parser


def _add_filters(parser: ArgumentParser) -> None:
    _add_user(parser, "only those of this user")
    parser.add_argument("--group", metavar="G", help="only those in this group")
    parser.add_argument(
        "--path", metavar="P", help='only those at this path, in which "*" stands for anything'
    )


def _add_target(parser: ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="the connection_id, 32 hexadecimal digits"
    )
    target = parser.add_mutually_exclusive_group()
    _add_user(target, "all connections of this user")
    target.add_argument("--group", metavar="G", help="all connections in this group")
    target.add_argument("--all", action="store_true", help="all connections")
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="hand it to the channel layer, and don't wait for who gets it",
    )


def _add_user(parser: Any, help_text: str) -> None:
    parser.add_argument(
        "--user",
        metavar="U",
        help=f"{help_text}: a username or a primary key, whichever exists; pk:U is always a key",
    )


def _add_closing(parser: ArgumentParser, code: int) -> None:
    parser.add_argument(
        "--code",
        type=int,
        default=code,
        help=f"the close code, {code} by default; 4000 to 4999 are the project's own",
    )
    parser.add_argument("--reason", default="", help="the close reason, at most 123 bytes of UTF-8")
    parser.add_argument(
        "--yes", action="store_true", help="don't ask before more than one is closed"
    )


def _add_django_options(parser: ArgumentParser) -> None:
    """Django takes its own options only before a subcommand, where nobody writes them."""

    def add(*names: str, **options: Any) -> None:
        # A default would undo what stands before the subcommand.
        parser.add_argument(*names, default=SUPPRESS, **options)

    levels = range(4)
    add("-v", "--verbosity", type=int, choices=levels, help="0: say nothing about a success")
    add("--settings", help='the module of the settings, such as "project.settings"')
    add("--pythonpath", help="a directory to add to the Python path")
    add("--traceback", action="store_true", help="show the traceback of an error")
    add("--no-color", action="store_true", help="write without colors")
    add("--force-color", action="store_true", help="write with colors, whatever the output is")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise ArgumentTypeError(f"{text!r} is no number of seconds above zero")


def _number(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise ArgumentTypeError(f"{text!r} is no number above zero")


def _check_id(connection_id: str) -> None:
    if not is_connection_id(connection_id):
        text = f"{connection_id!r} is no connection_id: that is 32 lower-case hexadecimal digits."
        raise CommandError(text, returncode=_USAGE)


def _names_many(options: dict[str, Any]) -> bool:
    return options["all"] or options["user"] is not None or options["group"] is not None


def _target(options: dict[str, Any]) -> _Target:
    connection_id, group = options["id"], options["group"]
    if (connection_id is not None) == _names_many(options):
        raise CommandError(
            "Name either one connection by its ID, or many by --user U, --group G or --all.",
            returncode=_USAGE,
        )
    if connection_id is not None:
        _check_id(connection_id)
        return _Target(
            f"connection {connection_id}",
            partial(sync.send_message_to_websocket, connection_id),
            partial(sync.close_websocket_connection, connection_id),
            None,
        )
    if options["user"] is not None:
        user = _user(options["user"])
        return _Target(
            f"user {options['user']}",
            partial(sync.send_message_to_user, user),
            partial(sync.close_user_websockets, user),
            {"user": user},
        )
    if group is not None:
        return _Target(
            f"group {group}",
            partial(sync.send_message_to_group, group),
            partial(sync.close_group_websockets, group),
            {"group": group},
        )
    return _Target("this project", sync.send_message_to_all, sync.close_all_websockets, {})


def _wanted(options: dict[str, Any]) -> dict[str, Any]:
    user = None if options["user"] is None else _user(options["user"])
    return {"user": user, "group": options["group"], "path": options["path"]}


def _user(text: str) -> Any:
    """The user whom a text means, or a primary key."""
    if text.startswith("pk:"):  # of anybody: users of a token, or deleted ones, are in no table
        return SimpleNamespace(pk=text.removeprefix("pk:"))
    try:
        model = get_user_model()
        users = model._default_manager  # noqa: SLF001 - Django documents it
        by_name = users.filter(**{model.USERNAME_FIELD: text}).first()
        by_key = None
        with suppress(ValidationError, OverflowError):
            by_key = users.filter(pk=model._meta.pk.to_python(text)).first()
    except (ImproperlyConfigured, DatabaseError) as error:
        raise CommandError(
            f"The user {text!r} can't be looked up: {str(error).rstrip('.')}. Write pk:{text} if "
            "that is the primary key.",
            returncode=_NO_ANSWER,
        ) from error
    if by_name is None and by_key is None:
        raise CommandError(
            f"No user has the username or the primary key {text!r}. Write pk:{text} for a primary "
            "key that is in no table.",
            returncode=_USAGE,
        )
    if by_name is not None and by_key is not None and by_name != by_key:
        raise CommandError(
            f"{text!r} is the username of one user and the primary key of another: write "
            f"pk:{by_name.pk} for the one, or pk:{by_key.pk} for the other.",
            returncode=_USAGE,
        )
    return by_name or by_key


def _check_layer() -> None:
    try:
        layer = channel_layer()
    except InvalidChannelLayerError as error:
        raise ImproperlyConfigured(f"{error}.") from error
    if backplane(layer).is_in_memory:
        raise ImproperlyConfigured(
            f'CHANNEL_LAYERS["{conf.channel_layer()}"] is the in-memory layer, which reaches '
            "nothing outside its own process, and the connections are in the server's. Set its "
            'BACKEND to "panther_channels.layers.LocalChannelLayer", for the server and for this '
            "command."
        )


def _message(options: dict[str, Any]) -> Any:
    text, source = options["text"], options["bytes_from"]
    if (text is None) == (source is None) or (options["json"] and source is not None):
        raise CommandError(
            "Give either TEXT, with or without --json, or --bytes-from FILE.", returncode=_USAGE
        )
    try:
        if source is not None:
            return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        if text == "-":
            text = sys.stdin.buffer.read().decode()
        return orjson.loads(text) if options["json"] else text
    except orjson.JSONDecodeError as error:
        raise CommandError(f"TEXT is not JSON: {error}", returncode=_USAGE) from error
    except OSError as error:
        raise CommandError(str(error), returncode=_USAGE) from error


def _of_process(found: list[ConnectionInfo], process: str) -> list[ConnectionInfo]:
    host, _, number = process.rpartition(":")
    chosen = [each for each in found if str(each.process) == number and host in ("", each.host)]
    if len(hosts := sorted({each.host for each in chosen})) > 1:
        named = " or ".join(f"{each}:{number}" for each in hosts)
        raise CommandError(
            f"There is a process {number} on {len(hosts)} hosts: write {named}.",
            returncode=_USAGE,
        )
    return chosen


# What is shown


def _unanswered(missing: Iterable[str]) -> str:
    named = [*missing]
    its = "its" if len(named) == 1 else "their"
    text = f"{counted(len(named), 'process')} gave no answer, and {its} connections are missing"
    if known := [each for each in named if each != "?"]:
        text += f": the ids of those begin with {' or '.join(known)}"
    return f"{text}."


def _in_order(found: Found[ConnectionInfo]) -> Found[ConnectionInfo]:
    found.sort(key=lambda each: (each.connected_at, each.id))
    return found


def _overview(found: list[ConnectionInfo], columns: int, wanted: dict[str, Any]) -> list[str]:
    """What people see of connections."""
    if not found:
        is_all = all(wanted[each] is None for each in ("user", "group", "path"))
        return ["No connection is open." if is_all else "No such connection is open."]
    now, hosts = datetime.now(UTC), {each.host for each in found}
    heading = ["ID", "USER", "PATH", "SINCE", "LAST", "PROCESS"]
    rows = [
        [
            each.id,
            _user_shown(each),
            each.path,
            age(now - each.connected_at),
            "-" if each.last_message_at is None else age(now - each.last_message_at),
            str(each.process) if len(hosts) == 1 else f"{each.host}:{each.process}",
        ]
        for each in found
    ]
    users = {each.user_id for each in found} - {None}
    processes = {(each.host, each.process) for each in found}
    totals = (
        counted(len(found), "connection"),
        counted(len(users), "user"),
        counted(len(processes), "process"),
    )
    return [*table([heading, *rows], columns, elastic=(2, 1)), "", ", ".join(totals)]


def _user_shown(info: ConnectionInfo) -> str:
    if info.user_name is None:
        return "-" if info.user_id is None else str(info.user_id)
    return f"{info.user_name} ({info.user_id})"


def _line(info: ConnectionInfo) -> str:
    """What programs see of a connection."""
    told = (
        *(info.id, info.user_id, info.user_name, info.path, info.client),
        *(info.connected_at, info.last_message_at, info.messages_received, info.messages_sent),
        *(info.process, info.host),
    )
    return "\t".join(printable(_fact(each)) for each in told)


def _fact(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if type(value) is tuple:  # no address
        return ", ".join(value)
    return str(value)


def _json_line(info: ConnectionInfo) -> str:
    client = None if info.client is None else info.client._asdict()
    return json.dumps({**asdict(info), "client": client}, cls=DjangoJSONEncoder)
