"""Synchronous senders in processes of their own: threads, forks, and their ends."""

import asyncio
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.client import Client, Connection
from tests.conftest import StartServer
from tests.servers import Server, ServerName, python

SETUP = """
import asyncio, os, sys, threading
import django
django.setup()
from panther_channels.sync import close_websocket_connection, send_message_to_websocket
ids = sys.argv[1:]
"""
GEVENT = "import gevent.monkey; gevent.monkey.patch_all()"
# Of what a script leaves behind, Python warns in its development mode, which makes asyncio slow.
DEVELOPMENT = ("-X", "dev", "-W", "error")
# And asyncio says there what took longer than 0.1 s, as everything may on a busy machine.
SLOW = re.compile(r"WARNING asyncio Executing .* took [\d.]+ seconds\n")


async def run(
    env: Mapping[str, str],
    code: str,
    *arguments: str,
    options: Sequence[str] = DEVELOPMENT,
    first: str = "",
) -> str:
    """Runs a script that may leave nothing behind: not a warning, not a thread, not a socket."""
    done = await asyncio.to_thread(
        python, *options, "-c", first + SETUP + code, *arguments, env=env
    )
    assert (SLOW.sub("", done.stderr), done.returncode) == ("", 0)
    return done.stdout


@pytest.fixture(params=[("daphne", "pubsub"), ("uvicorn", "local")])
def server(request: pytest.FixtureRequest, folder: Path, start_server: StartServer) -> Server:
    """tests/project on each server, and each layer, in turn; scripts get its environment."""
    name, layer = request.param
    if layer == "pubsub":
        return start_server(name, redis=True)
    return start_server(name, env={"LOCAL_LAYER": str(folder)})


@pytest.fixture
async def clients(connect: Client) -> dict[str, Connection]:
    """Four connections by their ids."""
    found = [await connect("/ws/id") for _ in range(4)]
    return {str(await client.receive()): client for client in found}


async def texts(client: Connection, count: int) -> list[str]:
    """So many messages, and nothing after them."""
    found = [str(message) for message in await client.messages(count)]
    assert await client.ask("nothing more") == "nothing more"
    return found


# Python 3.12 says of every fork beside a thread that it may dead-lock.
FORKING = ("-W", "ignore:.*use of fork")


def tell(server: Server, connection_id: str) -> None:
    """Asks the view, which sends "one" and "two"."""
    url = f"{server.url}/tell/{connection_id}/?text=one&text=two"
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == b"told"


async def test_a_view(server: Server, clients: dict[str, Connection]):
    for connection_id, client in clients.items():
        await asyncio.to_thread(tell, server, connection_id)
        assert await texts(client, 2) == ["one", "two"]


async def test_a_view_over_the_in_memory_layer(server_name: ServerName, shared_server: StartServer):
    server = shared_server(server_name)
    async with Client(server) as connect:
        client = await connect("/ws/id")
        await asyncio.to_thread(tell, server, str(await client.receive()))
        assert await texts(client, 2) == ["one", "two"]


FORK = """
def send(who):
    for number in range(200):
        send_message_to_websocket(ids[0], f"{who} {number}")

send("before")
children = []
for child in range(2):
    if (pid := os.fork()) == 0:
        send(f"child-{child}")
        sys.exit(0)
    children.append(pid)
send("parent")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
send("after")
"""


async def test_a_fork(server: Server, clients: dict[str, Connection]):
    connection_id, client = next(iter(clients.items()))
    options = (*DEVELOPMENT, *FORKING)
    sending = asyncio.create_task(run(server.env, FORK, connection_id, options=options))
    messages = await texts(client, 1000)
    await sending
    numbered = [f"{number}" for number in range(200)]
    for who in ("before", "parent", "child-0", "child-1", "after"):
        found = [text.split()[1] for text in messages if text.startswith(f"{who} ")]
        assert found == numbered
    assert [text.split()[0] for text in messages[:200]] == ["before"] * 200
    assert [text.split()[0] for text in messages[-200:]] == ["after"] * 200


GREENLETS = """
import gevent
from django.contrib.contenttypes.models import ContentType
from django.db import connection

def send(who):
    for number in range(50):
        send_message_to_websocket(ids[0], f"{who} {number}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    connection.close()

def send_all(who):
    gevent.joinall([gevent.spawn(send, f"{who}-{each}") for each in range(10)], raise_error=True)

send_all("before")
gevent.get_hub().threadpool.apply(send, ("real",))
if (pid := os.fork()) == 0:
    send_all("child")
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
send_all("after")
"""


async def test_greenlets_of_gevent(server: Server, clients: dict[str, Connection]):
    connection_id, client = next(iter(clients.items()))
    sending = asyncio.create_task(
        run(server.env, GREENLETS, connection_id, options=(*DEVELOPMENT, *FORKING), first=GEVENT)
    )
    whole = [f"{number}" for number in range(50)]
    messages: dict[str, list[str]] = {}
    try:
        async with asyncio.timeout(40):
            for _ in range(31 * 50):
                who, number = str(await client.receive(30)).split()
                messages.setdefault(who, []).append(number)
    finally:
        await sending
    assert list(messages.values()) == [whole] * 31


IN_A_LOOP = """
async def main():
    send_message_to_websocket(ids[0], "asyncio")
    send_message_to_websocket(ids[0], "commit", on_commit=True)
asyncio.run(main())
"""
IN_PLAYWRIGHT = """
from playwright.sync_api import sync_playwright
with sync_playwright():
    send_message_to_websocket(ids[0], "asyncio")
send_message_to_websocket(ids[0], "commit")
"""


@pytest.mark.parametrize(("code", "options"), [(IN_A_LOOP, DEVELOPMENT), (IN_PLAYWRIGHT, ())])
async def test_where_django_lets_an_event_loop_be_blocked(
    server: Server, clients: dict[str, Connection], code: str, options: Sequence[str]
):
    connection_id, client = next(iter(clients.items()))
    env = {**server.env, "DJANGO_ALLOW_ASYNC_UNSAFE": "true"}
    await run(env, code, connection_id, options=options)
    assert await texts(client, 2) == ["asyncio", "commit"]


@pytest.fixture
def silent() -> Iterator[dict[str, str]]:
    """A Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        # Ours is the shorter limit: redis-py's own would be five seconds.
        url = f"redis://127.0.0.1:{port}/0?socket_timeout=60"
        yield {"DJANGO_SETTINGS_MODULE": "tests.project.settings", "REDIS_URL": url}


NO_ANSWER = """
from panther_channels._process import background as _background
_background.LIMIT = 0.5
try:
    send_message_to_websocket("0" * 32, "lost")
except TimeoutError as error:
    print(error)
"""


PROCESSES = pytest.mark.parametrize("first", ["", GEVENT])


@PROCESSES
async def test_a_redis_that_does_not_answer(silent: dict[str, str], first: str):
    assert await run(silent, NO_ANSWER, first=first) == (
        "Sending by RedisChannelLayer: no answer within 0.5 s.\n"
    )


AT_THE_END = """
import atexit

def late():
    threading.Event().wait(0.2)
    send_message_to_websocket(ids[0], "from a thread that outlives the main one")

atexit.register(send_message_to_websocket, ids[0], "from atexit")
threading.Thread(target=late).start()
"""


@PROCESSES
async def test_the_last_words_of_a_process(
    server: Server, clients: dict[str, Connection], first: str
):
    connection_id, client = next(iter(clients.items()))
    await run(server.env, AT_THE_END, connection_id, first=first)
    assert await texts(client, 2) == ["from a thread that outlives the main one", "from atexit"]
