"""A site below a path: what a server's HTTP takes, its WebSockets take, however it is told."""

import http.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.conftest import StartServer
from tests.servers import ROOT, RunServer, Server, with_settings
from tests.wire import UPGRADE

SECONDS = 10.0
PAGE, WEBSOCKET = "/tell/nobody/", "/ws/echo"
FORCED: dict[str, Any] = with_settings(FORCE_SCRIPT_NAME="/app")
BELOW = ("--root-path", "/app")
# Forms of a target, with "{}" for the path.
TAKEN = [
    *(
        "/app{}",
        "/app{}?a=//b",
        "/%61pp{}",
        "{}",
        "http://127.0.0.1/app{}",
        "http://localhost:1{}?a=/b",
    ),
    *("HTTPS://[::1]:8000/app{}", "ws://a/%61pp{}"),
]
UNKNOWN = [
    *("/app/app{}", "/application{}", "/APP{}", "//app{}", "/other{}", "/app/other{}", "app{}"),
    *(
        "http://localhost/application{}",
        "http:///app{}",
        "http:/app{}",
        "/http://a/app{}",
        "/app/../x{}",
    ),
]


class Way(NamedTuple):
    """How a server is told the path, and which targets it takes."""

    server: Any
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = MappingProxyType({})
    taken: Sequence[str] = TAKEN


# uvicorn adds the path to what it is asked for: a proxy has to take it off.
ADDED = ["{}", "http://127.0.0.1{}", "http://localhost:1{}?a=/b"]
WAYS = [
    *(Way(name, env=FORCED) for name in ("daphne", "uvicorn", "runserver")),
    *(Way("daphne", BELOW, env) for env in ({}, FORCED)),
    *(Way("uvicorn", BELOW, env, ADDED) for env in ({}, FORCED)),
    Way("uvicorn", ("--http", "h11"), FORCED, [each for each in TAKEN if "://" not in each]),
]


def name_of(way: Way) -> str:
    return " ".join([way.server, *way.args, *way.env])


@pytest.fixture(params=WAYS, ids=name_of)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@pytest.fixture
def server(way: Way, shared_server: StartServer, tmp_path: Path) -> Iterator[Server]:
    if way.server == "runserver":
        env = {**way.env, "DJANGO_SETTINGS_MODULE": "tests.project.settings"}
        with RunServer(ROOT / "manage.py", log_path=tmp_path / "log", env=env) as server:
            yield server
    else:
        yield shared_server(way.server, env=way.env, args=way.args)


def status(server: Server, target: str, **headers: str) -> int:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=SECONDS)
    connection.request("GET", target, headers=headers)
    with closing(connection), connection.getresponse() as response:
        return response.status


def test_a_site_below_a_path(way: Way, server: Server):
    targets = [*dict.fromkeys([*TAKEN, *UNKNOWN, *way.taken])]
    pages = {target for target in targets if status(server, target.format(PAGE)) == 200}
    assert pages == set(way.taken)
    found = {each: status(server, each.format(WEBSOCKET), **UPGRADE) for each in targets}
    assert {each for each in targets if found[each] == 101} >= pages
    assert {each: found[each] for each in UNKNOWN if found[each] not in (400, 404)} == {}
    assert status(server, f"/app{WEBSOCKET[1:]}", **UPGRADE) == 404
    # Without an upgrade, the URL is known to be a WebSocket's.
    demanded = {each for each in targets if status(server, each.format(WEBSOCKET)) == 426}
    assert demanded == pages
    assert "Traceback" not in server.log
