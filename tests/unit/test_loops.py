"""What there is one of for each event loop."""

import asyncio

import pytest

from panther_channels._process.loops import OnePerLoop


class Thing:
    pass


def test_each_loop_has_its_own():
    of_loop = OnePerLoop(Thing)

    async def twice() -> tuple[Thing, Thing]:
        return of_loop(), of_loop()

    first, again = asyncio.run(twice())
    assert first is again
    other, _ = asyncio.run(twice())
    assert other is not first


def test_no_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        OnePerLoop(Thing)()
