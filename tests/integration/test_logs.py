"""A token in the query is in no line that a server logs, whatever becomes of the connection."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conftest import StartServer
from tests.servers import ROOT, RunServer, Server

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJl"
QUERY = f"authorization={TOKEN}&x=1"
ENCODED = f"%61uthorization={TOKEN}&x=1"
STATUSES = {"/ws/reject": 403, "/ws/nowhere": 404, "/ws/raise/before-accept": 403}
VERBOSE = {"uvicorn": ("--log-level", "trace"), "daphne": ("-v", "3")}


@pytest.fixture(params=["uvicorn", "uvicorn-verbose", "daphne", "daphne-verbose", "runserver"])
def server(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path
) -> Iterator[Server]:
    name, _, verbose = request.param.partition("-")
    if name == "runserver":
        environment = {"DJANGO_SETTINGS_MODULE": "tests.project.settings"}
        log_path = tmp_path / "runserver.log"
        with RunServer(ROOT / "manage.py", log_path=log_path, env=environment) as server:
            yield server
    else:
        yield start_server(name, args=VERBOSE[name] if verbose else ())


async def log_of(server: Server, query: str) -> str:
    """What the server logs of connections and requests with that query, until its end."""
    async with connect(f"{server.ws_url}/ws/echo?{query}") as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    for path, status in STATUSES.items():
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{server.ws_url}{path}?{query}")
        assert refused.value.response.status_code == status
    for path, status in {"/": 200, "/nowhere": 404, "/ws/echo": 426}.items():
        assert await asyncio.to_thread(status_of, f"{server.url}{path}?{query}") == status
    await asyncio.to_thread(server.terminate)
    return server.log


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize("query", [QUERY, ENCODED], ids=["plain", "encoded"])
async def test_no_token_in_the_log(server: Server, query: str):
    log = await log_of(server, query)
    assert TOKEN not in log
    masked = query.replace(TOKEN, "***")
    for path in ("/", "/nowhere", "/ws/echo"):
        assert f"GET {path}?{masked}" in log
    if server.name == "uvicorn":
        for path in ("/ws/echo", *STATUSES):
            assert f'"WebSocket {path}?{masked}" ' in log
    if "DEBUG" in log and server.name == "uvicorn":
        # In this project no message can be a token.
        assert "< TEXT 'hello' [5 bytes]" in log
