"""A token in the query is in no line that a server logs, whatever becomes of the connection.

test_access.py has it for servers that log as much as they can.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import Client
from tests.conftest import StartServer
from tests.servers import ROOT, RunServer, Server

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJl"
QUERIES = (f"authorization={TOKEN}&x=1", f"%61uthorization={TOKEN}&x=1")
REFUSED = {"/ws/reject": 403, "/ws/nowhere": 404, "/ws/raise/before-accept": 403}
OVER_HTTP = {"/": 200, "/nowhere": 404, "/ws/echo": 426}


@pytest.fixture(params=["uvicorn", "daphne", "runserver"])
def server(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path
) -> Iterator[Server]:
    if request.param == "runserver":
        environment = {"DJANGO_SETTINGS_MODULE": "tests.project.settings"}
        log_path = tmp_path / "runserver.log"
        with RunServer(ROOT / "manage.py", log_path=log_path, env=environment) as server:
            yield server
    else:
        yield start_server(request.param)


async def test_no_token_in_the_log(server: Server):
    async with Client(server) as connect:
        for query in QUERIES:
            assert await (await connect(f"/ws/echo?{query}")).ask("hello") == "hello"
            for path, status in REFUSED.items():
                assert await connect.status(f"{path}?{query}") == status
            for path, status in OVER_HTTP.items():
                assert (await connect.http(f"{path}?{query}"))[0] == status
    server.terminate()
    assert TOKEN not in server.log
    for query in QUERIES:
        masked = query.replace(TOKEN, "***")
        for path in OVER_HTTP:
            assert f"GET {path}?{masked}" in server.log
        if server.name == "uvicorn":
            for path in ("/ws/echo", *REFUSED):
                assert f'"WebSocket {path}?{masked}" ' in server.log
