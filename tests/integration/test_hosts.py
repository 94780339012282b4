"""Four hosts and one Redis: connections are reached across them, also after a cut."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import missing, unavailable
from tests.integration.deployment import Logged, Site, read
from tests.integration.network import Network, NetworkError

SECONDS = 20.0
PORT = 8000
HOSTS = {1: "daphne", 2: "uvicorn", 3: "daphne", 4: "uvicorn"}
COMMANDS = {
    "daphne": ("-m", "daphne", "-b", "127.0.0.1", "-p", str(PORT)),
    "uvicorn": ("-m", "uvicorn", "--port", str(PORT)),
}
READY = {"daphne": "Listening on TCP address", "uvicorn": "Uvicorn running on"}


class OnHost(Logged):
    """A program on one of the hosts."""

    def __init__(self, network: Network, host: int, command: tuple[str, ...], **options: Any):
        self.ready = options.pop("ready")
        super().__init__(network.command(host, *command), **options)
