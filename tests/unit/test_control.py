import asyncio
from pathlib import Path
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from panther_channels._hub.addresses import new_connection_id
from panther_channels._hub.control import control
from panther_channels.connections import send_message_to_group
from panther_channels.layers import LocalChannelLayer
from panther_channels.layers.backplane import group_of_connection
from panther_channels.test import WebsocketClient
from panther_channels.websocket import GenericWebsocket
from tests.layers import default_layer

_EAGER: Any = vars(asyncio).get("eager_task_factory")  # since Python 3.12


@pytest.mark.skipif(_EAGER is None, reason="this Python has no eager tasks")
async def test_eager_tasks(folder: Path):
    """One that answers may have ended before anybody knows it: the next question has an answer."""
    asyncio.get_running_loop().set_task_factory(_EAGER)
    here, there = [LocalChannelLayer(directory=folder) for _ in range(2)]
    await control(there).ask(group_of_connection(new_connection_id(there)), None, within=3)
    for _ in range(2):
        group = group_of_connection(new_connection_id(there))
        assert await control(here).ask(group, None, within=3) == 0


class Coming(GenericWebsocket):
    """Is sent to by itself between join() and accept()."""

    async def connect(self):
        await self.join("room")
        counts = [
            await send_message_to_group("room", number, confirm_within=within)
            for number, within in enumerate((None, 3, None, 3))
        ]
        await self.accept()
        await self.send(counts)


@pytest.mark.parametrize("kind", [InMemoryChannelLayer, LocalChannelLayer])
async def test_who_has_joined_and_is_not_open_yet(kind: Any, folder: Path):
    """What is sent in between waits for it, confirmed or not; it is counted by nobody."""
    layer = kind() if kind is InMemoryChannelLayer else kind(directory=folder)
    with default_layer(layer):
        async with WebsocketClient(Coming.as_asgi()).connect("/") as ws:
            received = [await ws.receive_json() for _ in range(5)]
    assert sorted(received, key=str) == sorted([[None, 0, None, 0], 0, 1, 2, 3], key=str)
    assert [each for each in received if isinstance(each, int)] == [0, 1, 2, 3]
