"""``manage.py websocket``: reach the open connections of this project's servers."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from panther_channels import conf, status
from panther_channels._hub.addresses import is_connection_id
from panther_channels._hub.delivery import find_channel_layer
from panther_channels.layers.backplane import backplane
from panther_channels.sync import close_websocket_connection, send_message_to_websocket


class Command(BaseCommand):
    """Send to an open WebSocket connection, or close it."""

    requires_system_checks = ()  # their warnings would come with every message
    help = "Send a message to an open WebSocket connection, or close it, by its connection_id."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Two subcommands: ``send`` and ``close``."""
        actions = parser.add_subparsers(dest="action", required=True)
        send = actions.add_parser("send", help="send a message")
        send.add_argument("id", help="the connection_id")
        send.add_argument("text", nargs="?", help="the message; - reads standard input")
        send.add_argument("--json", action="store_true", help="the text is JSON: send it compact")
        send.add_argument(
            "--bytes-from", metavar="FILE", help="send this file as bytes; - reads standard input"
        )
        close = actions.add_parser("close", help="close the connection")
        close.add_argument("id", help="the connection_id")
        close.add_argument("--code", type=int, default=status.WS_1000_NORMAL_CLOSURE)
        close.add_argument("--reason", default="", help="at most 123 bytes of UTF-8")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the subcommand."""
        connection_id = options["id"]
        if not is_connection_id(connection_id):
            raise CommandError(
                f"{connection_id!r} is no connection_id: that is 32 lower-case hexadecimal digits."
            )
        try:
            _check_layer()
            if options["action"] == "send":
                send_message_to_websocket(connection_id, _message(options))
            else:
                close_websocket_connection(connection_id, options["code"], options["reason"])
        except CommandError:
            raise
        except Exception as error:
            # Bad arguments, or whatever the library of a channel layer raises in its trouble.
            raise CommandError(str(error) or type(error).__name__) from error
        if options["verbosity"] > 0:
            self.stdout.write(
                f"Handed to the channel layer for {connection_id}; it reaches the connection if "
                "that is open."
            )


def _check_layer() -> None:
    alias = conf.channel_layer()
    if backplane(find_channel_layer()).is_in_memory:
        raise CommandError(
            f'CHANNEL_LAYERS["{alias}"] is the in-memory layer, which reaches nothing outside its '
            "own process, and the connections are in the server's. Set its BACKEND to "
            '"panther_channels.layers.LocalChannelLayer", for the server and for this command.'
        )


def _message(options: dict[str, Any]) -> Any:
    text, source = options["text"], options["bytes_from"]
    if (text is None) == (source is None) or (options["json"] and source is not None):
        raise CommandError("Give either TEXT, with or without --json, or --bytes-from FILE.")
    if source is not None:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    if text == "-":
        text = sys.stdin.buffer.read().decode()
    if not options["json"]:
        return text
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise CommandError(f"TEXT is not JSON: {error}") from error
