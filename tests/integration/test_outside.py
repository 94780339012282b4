"""Other processes reach connections over a real Redis: the command, a script, another server."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.client import Client
from tests.conftest import StartServer
from tests.integration.scripts import run
from tests.servers import Server, ServerName, free_port, manage

NOBODY = "0123456789abcdef" * 2


@pytest.fixture
def server(redis_backed_server: Server) -> Server:
    return redis_backed_server


async def test_the_command(connect: Client, server: Server, tmp_path: Path):
    async def command(*arguments: str, stdin: bytes = b"") -> None:
        words = ("websocket", arguments[0], connection_id, *arguments[1:])
        completed = await asyncio.to_thread(manage, *words, env=server.env, stdin=stdin)
        assert (completed.returncode, completed.stderr) == (0, "")

    file = tmp_path / "data"
    file.write_bytes(b"\x00\xff")
    client = await connect("/ws/id")
    connection_id = str(await client.receive())
    await command("send", '{"a": [1, "é"]}', "--json")
    await command("send", "--bytes-from", str(file))
    await command("send", "-", stdin="zwölf\n".encode())
    assert await client.messages(3) == ['{"a":[1,"é"]}', b"\x00\xff", "zwölf\n"]
    await command("close", "--code", "1008", "--reason", "genug é")
    assert await client.receive() == (1008, "genug é")
    # The id is known to nobody now.
    await command("send", "late")


EVERY_KIND = """
import datetime, decimal, uuid
from panther_channels import websocket
async def main(connection_id):
    for value in ["text", "", b"bytes", b"", None, 5, [1, "é"], {"a": {"b": 1.5}}, True,
                  decimal.Decimal("1.10"), uuid.UUID(int=1), datetime.date(2024, 5, 6)]:
        await websocket.send_message_to_websocket(connection_id=connection_id, data=value)
    await websocket.close_websocket_connection(connection_id, 4001, reason="bye")
asyncio.run(main(*ids))
"""


async def test_a_script(connect: Client, server: Server):
    client = await connect("/ws/id")
    await run(server.env, EVERY_KIND, str(await client.receive()), options=["-W", "error"])
    assert await client.until_closed() == [
        *("text", "", b"bytes", b"", "null", "5", '[1,"é"]', '{"a":{"b":1.5}}', "true"),
        *("1.10", "00000000-0000-0000-0000-000000000001", "2024-05-06", (4001, "bye")),
    ]


@pytest.mark.parametrize(("here", "there"), [("daphne", "uvicorn"), ("uvicorn", "daphne")])
async def test_servers_reach_each_other(
    shared_server: StartServer, here: ServerName, there: ServerName
):
    one, two = shared_server(here, redis=True), shared_server(there, redis=True)
    async with Client(one) as connect, Client(two) as elsewhere:
        sender, client = await connect("/ws/relay"), await elsewhere("/ws/id")
        await sender.receive()
        order = {"to": await client.receive(), "data": {"from": here}}
        await sender.send(json.dumps(order))
        assert await client.receive() == f'{{"from":"{here}"}}'


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("close", NOBODY, "--code", "1005"), "1005"), (("send", NOBODY, "x"), "connecting to 127.")],
    ids=["code", "redis-is-down"],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], text: str):
    env = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    completed = manage("websocket", *arguments, env=env)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert text in completed.stderr
    assert "Traceback" not in completed.stderr
