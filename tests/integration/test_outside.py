"""Other processes reach connections over a real Redis: the command, a script, another server."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import StartServer
from tests.servers import ROOT, Server, ServerName, free_port, manage

SECONDS = 10.0
NOBODY = "0123456789abcdef" * 2

SCRIPT = """
import asyncio, sys
import django
django.setup()
from panther_channels.websocket import close_websocket_connection, send_message_to_websocket

async def main(connection_id):
    {body}

asyncio.run(main(sys.argv[1]))
"""


async def run(server: Server, *arguments: str, stdin: bytes = b"") -> None:
    """`manage.py websocket ...`, which must succeed without a word to standard error."""
    completed = await asyncio.to_thread(
        manage, "websocket", *arguments, env=settings_of(server), stdin=stdin
    )
    assert (completed.returncode, completed.stderr) == (0, "")


async def run_script(server: Server, body: str, connection_id: str) -> None:
    indented = body.replace("\n", "\n    ")
    completed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", SCRIPT.format(body=indented), connection_id],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings_of(server)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (completed.returncode, completed.stderr.decode()) == (0, "")


def settings_of(server: Server) -> dict[str, str]:
    return {name: server.env[name] for name in ("DJANGO_SETTINGS_MODULE", "REDIS_URL")}


async def received(client: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(client.recv(), SECONDS)


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    await asyncio.wait_for(client.wait_closed(), SECONDS)
    return client.close_code, client.close_reason


@pytest.fixture(params=["daphne-pubsub", "uvicorn-pubsub", "daphne-core"])
def server(request: pytest.FixtureRequest, shared_server: StartServer) -> Server:
    name, layer = request.param.split("-")
    if layer == "pubsub":
        return shared_server(name, redis=True)
    env = {"DJANGO_SETTINGS_MODULE": "tests.integration.core_settings"}
    return shared_server(name, redis=True, env=env)


async def test_the_command(server: Server, tmp_path: Path):
    file = tmp_path / "data"
    file.write_bytes(b"\x00\xff")
    async with connect(f"{server.ws_url}/ws/id") as client:
        connection_id = str(await received(client))
        await run(server, "send", connection_id, "hello é")
        assert await received(client) == "hello é"
        await run(server, "send", connection_id, '{"a": [1, null]}', "--json")
        assert await received(client) == '{"a":[1,null]}'
        await run(server, "send", connection_id, "--bytes-from", str(file))
        assert await received(client) == b"\x00\xff"
        await run(server, "send", connection_id, "-", stdin="zwölf\n".encode())
        assert await received(client) == "zwölf\n"
        await run(server, "close", connection_id, "--code", "1008", "--reason", "genug é")
        assert await closed(client) == (1008, "genug é")
        # The id is known to nobody now.
        await run(server, "send", connection_id, "late")


EVERY_KIND = """
import datetime, decimal, uuid
values = ["text", "", b"bytes", b"", None, 5, [1, "é"], {"a": {"b": 1.5}}, True,
          decimal.Decimal("1.10"), uuid.UUID(int=1), datetime.date(2024, 5, 6)]
for value in values:
    await send_message_to_websocket(connection_id=connection_id, data=value)
await close_websocket_connection(connection_id=connection_id, code=4001, reason="bye")
"""


async def test_a_script(server: Server):
    async with connect(f"{server.ws_url}/ws/id") as client:
        await run_script(server, EVERY_KIND, str(await received(client)))
        messages = [await received(client) for _ in range(12)]
        assert messages == [
            *("text", "", b"bytes", b"", "null", "5", '[1,"é"]', '{"a":{"b":1.5}}', "true"),
            *("1.10", "00000000-0000-0000-0000-000000000001", "2024-05-06"),
        ]
        assert await closed(client) == (4001, "bye")


BURST = """
for number in range(1000):
    await send_message_to_websocket(connection_id, str(number))
"""


async def test_a_burst_arrives_in_order_and_once(server: Server):
    async with connect(f"{server.ws_url}/ws/id") as client:
        connection_id = str(await received(client))
        sending = asyncio.create_task(run_script(server, BURST, connection_id))
        messages = [await received(client) for _ in range(1000)]
        await sending
        assert messages == [str(number) for number in range(1000)]
        await client.send("nothing more")
        assert await received(client) == "nothing more"


IDS_OF_NOBODY = """
for other in ("", "x", "é", "a b", "x" * 500, "0" * 32, connection_id.upper(), connection_id + "0"):
    await send_message_to_websocket(other, "lost")
    await close_websocket_connection(other, 4001)
"""


async def test_ids_of_nobody(server: Server):
    async with (
        connect(f"{server.ws_url}/ws/id") as ended,
        connect(f"{server.ws_url}/ws/id") as client,
    ):
        old = str(await received(ended))
        connection_id = str(await received(client))
        await ended.close()
        body = IDS_OF_NOBODY + f'await send_message_to_websocket("{old}", "lost")\n'
        await run_script(server, body, connection_id)
        await client.send("nothing came")
        assert await received(client) == "nothing came"


@pytest.mark.parametrize("settings", [None, "tests.integration.core_settings"])
@pytest.mark.parametrize(("here", "there"), [("daphne", "uvicorn"), ("uvicorn", "daphne")])
async def test_servers_reach_each_other(
    shared_server: StartServer, settings: str | None, here: ServerName, there: ServerName
):
    options = {"env": {"DJANGO_SETTINGS_MODULE": settings}} if settings else {}
    one = shared_server(here, redis=True, **options)
    two = shared_server(there, redis=True, **options)
    async with (
        connect(f"{one.ws_url}/ws/relay") as sender,
        connect(f"{two.ws_url}/ws/id") as client,
    ):
        await received(sender)
        connection_id = await received(client)
        await sender.send(json.dumps({"to": connection_id, "data": {"from": here}}))
        assert await received(client) == f'{{"from":"{here}"}}'


def _fails(arguments: tuple[str, ...], env: dict[str, str], text: str) -> None:
    completed = manage("websocket", *arguments, env=env)
    assert completed.returncode == 1
    assert completed.stdout == ""
    assert text in completed.stderr
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize("arguments", [("send", NOBODY, "x"), ("close", NOBODY)])
def test_the_command_over_the_in_memory_layer_says_what_to_change(arguments: tuple[str, ...]):
    _fails(arguments, {"REDIS_URL": ""}, 'CHANNEL_LAYERS["default"]')


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("send", "no-id", "x"), "no connection_id"),
        (("close", NOBODY, "--code", "1005"), "1005"),
        (("send", NOBODY, "x"), "connecting to 127.0.0.1"),
    ],
    ids=["id", "code", "redis-is-down"],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], text: str):
    _fails(arguments, {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}, text)
