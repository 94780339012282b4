"""What the contexts of connections open of caches; tests/faults/test_database.py has a Redis."""

import asyncio
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from panther_channels._process.caches import close_all_but, opened
from panther_channels.websocket import GenericWebsocket
from tests.unit.peer import Peer

closed: list[Any] = []


class Cache(LocMemCache):
    def close(self, **kwargs: Any) -> None:
        closed.append(self)
        if self.key_prefix == "failing":
            raise OSError("not today")


@pytest.fixture(autouse=True)
def _caches() -> Iterator[None]:
    backend = f"{__name__}.Cache"
    found = {"default": {"BACKEND": backend}, "failing": {"BACKEND": backend}, "unused": {}}
    found["failing"]["KEY_PREFIX"] = "failing"
    closed.clear()
    local = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={**found, "unused": {"BACKEND": backend}, "local": local}):
        yield


class Caching(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes):
        await caches[str(data)].aset("key", 1)
        await self.send(data)


async def _use(alias: str) -> None:
    async with Peer(Caching.as_asgi()) as peer:
        await peer.accepted()
        peer.push(alias)
        assert (await peer.next())["text"] == alias
        assert closed == []
        await peer.left()


async def test_closed_is_what_the_connection_has_opened():
    known = caches["default"]
    await _use("default")
    assert closed == []
    assert opened() == (("default", known),)
    await asyncio.create_task(_use("default"), context=Context())
    assert len(closed) == 1
    assert known not in closed


async def test_a_cache_that_cannot_be_closed(caplog: pytest.LogCaptureFixture):
    await _use("failing")
    assert len(closed) == 1
    assert "The cache 'failing' could not be closed" in caplog.text
    assert opened() == ()


async def test_one_without_connections_is_not_looked_at():
    await caches["local"].aset("key", 1)
    assert opened() == ()
    close_all_but(())
