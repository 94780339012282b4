"""The channel layer of the unit tests, which must be empty after each of them, and a database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.test import override_settings

from panther_channels._hub import hub as _hub
from panther_channels._process import database as _database
from panther_channels.layers.local.directory import Directory
from panther_channels.layers.local.losses import Losses
from panther_channels.layers.local.peers import Peers
from tests.unit.listener import Listener, named


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    """The in-memory layer; a connection that leaves a group or a channel behind fails its test."""
    found = get_channel_layer()
    assert isinstance(found, InMemoryChannelLayer)
    try:
        yield found
        assert (found.groups, found.channels) == ({}, {})
    finally:
        found.channels, found.groups = {}, {}
        channel_layers.backends.clear()


@pytest.fixture(autouse=True)
def _no_database_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier test opened is closed by its own fixtures, not by our connections."""
    monkeypatch.setattr(_database.use, "is_open", False)
    monkeypatch.setattr(_database.use, "next_look", 0.0)


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hooks have a tenth of a second, and are looked at all the time."""
    monkeypatch.setattr(_hub, "TICK", 0.02)
    with override_settings(WS_CONNECT_TIMEOUT=0.1, WS_DISCONNECT_GRACE=0.1):
        yield


@pytest.fixture
def directory(folder: Path) -> Directory:
    return Directory(folder)


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
async def peers(directory: Directory, losses: Losses) -> AsyncIterator[Peers]:
    peers = Peers(directory, losses)
    peers.own_name = named("own")
    yield peers
    peers.close(asyncio.get_running_loop())


@pytest.fixture
def listen(directory: Directory) -> Iterator[Callable[[str], Listener]]:
    listeners: list[Listener] = []

    def start(name: str) -> Listener:
        listeners.append(Listener(directory, name))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()
