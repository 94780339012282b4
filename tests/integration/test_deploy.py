"""docs/howto/deploy.md, run: nginx in front of daphne, uvicorn and gunicorn, over each layer."""

import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.conftest import StartRedis, missing
from tests.integration.deployment import Nginx, Sentinel, Site, Unit, read
from tests.pages import block
from tests.servers import RedisServer, free_port
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("unmeasured")

SECONDS = 20.0
HOST = "example.com"
ORIGIN = f"https://{HOST}"
# Clients that are opened at once, until more than one process has some.
BATCH = 16

READY = {"daphne": "Listening on TCP address", "uvicorn": "Application startup complete"}


VARIANTS = {
    ("uvicorn", "alone"): {},
    ("uvicorn", "picows"): {
        "uvicorn --host": "uvicorn --ws panther_channels.servers.picows:PicowsProtocol --host"
    },
    ("gunicorn", "alone"): {" --preload": ""},
    ("gunicorn", "--preload"): {},
    ("gunicorn", "picows"): {
        "uvicorn_worker.UvicornWorker": "panther_channels.servers.gunicorn.PicowsWorker"
    },
}


class Deployed(NamedTuple):
    """A site behind nginx, and the units that get SIGTERM."""

    site: Site
    front: "Front"
    units: list[Unit]


Serve = Callable[..., Deployed]


@pytest.fixture
def running() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(folder: Path, certificate: Path, running: contextlib.ExitStack) -> Serve:
    """Starts four processes of a server, as its unit says: `serve(settings, "daphne")`.

    More options change the configuration of nginx.
    """
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin") is None:
        missing("nginx-light")

    def start(settings: str, name: str, changes: Mapping[str, str] = {}) -> Deployed:
        site = Site(folder, settings)
        units = list(units_of(site, folder, name, running))
        with ThreadPoolExecutor() as pool:
            list(pool.map(running.enter_context, units))
        (folder / "static").mkdir()
        (folder / "static" / "site.css").write_text("body {}")
        nginx = running.enter_context(Nginx(site, folder, certificate=certificate, changes=changes))
        trust = ssl.create_default_context(cafile=certificate / "fullchain.pem")
        return Deployed(site, Front(nginx, trust), units)

    return start


def units_of(site: Site, folder: Path, name: str, running: contextlib.ExitStack) -> Iterator[Unit]:
    if name == "daphne":
        assert "ListenStream=127.0.0.1:8000\n" in read("system/daphne.socket", {})
        listener = running.enter_context(socket.create_server(("127.0.0.1", site.port)))
        for number in range(4):
            path = folder / f"daphne-{number}.log"
            yield Unit(
                *(site, "daphne@.service"), log_path=path, ready=READY[name], listener=listener
            )
    else:
        server, variant = name.split(" ")
        yield Unit(
            *(site, f"{server}.service"),
            log_path=folder / "unit.log",
            ready=READY["uvicorn"],
            count=4,
            replacements=VARIANTS[server, variant],
        )


class Front:
    """What a browser does at nginx."""

    def __init__(self, nginx: Nginx, context: ssl.SSLContext) -> None:
        self.nginx = nginx
        self.context = context

    def connect(
        self,
        path: str,
        *,
        host: str = HOST,
        origin: str = ORIGIN,
        headers: dict[str, str] | None = None,
    ) -> connect:
        return connect(
            f"wss://{host}{path}",
            host=self.nginx.host,
            port=self.nginx.front,
            ssl=self.context,
            server_hostname=HOST,
            origin=Origin(origin),
            additional_headers=headers,
        )

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPSConnection(HOST, timeout=SECONDS)
        plain = socket.create_connection((self.nginx.host, self.nginx.front), SECONDS)
        with self.context.wrap_socket(plain, server_hostname=HOST) as connection.sock:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()


async def told(client: ClientConnection) -> dict[str, Any]:
    """The first message of a Door."""
    greeting: dict[str, Any] = json.loads(await received(client))
    return greeting


async def received(client: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(client.recv(), SECONDS)


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    await asyncio.wait_for(client.wait_closed(), SECONDS)
    return client.close_code, client.close_reason


async def check_talk(site: Site, connection_id: str, client: ClientConnection) -> None:
    await client.send("hello")
    assert await received(client) == "hello"
    await check_outside(site, client, connection_id)


async def check_outside(site: Site, client: ClientConnection, connection_id: str) -> None:
    """Another process sends to the client, and closes it, by the commands of the page."""
    await asyncio.to_thread(site.outside, connection_id)
    assert await received(client) == "hello from afar"
    assert await closed(client) == (4000, "see you")


async def check_refusals(front: Front) -> None:
    for path, status in [("/ws/shut", 403), ("/ws/private", 401), ("/ws/nowhere", 404)]:
        with pytest.raises(InvalidStatus) as caught:
            await front.connect(path)
        assert (path, caught.value.response.status_code) == (path, status)
    for origin in ("https://evil.example", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            await front.connect("/ws/door", origin=origin)
    with pytest.raises(InvalidStatus, match="403"):
        await front.connect("/ws/door", host="evil.example", origin="https://evil.example")
    assert (await asyncio.to_thread(front.get, "/ws/door"))[0] == 426


async def check_what_the_proxy_says(front: Front) -> None:
    forged = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
        "Daphne-Root-Path": "/ws",
    }
    async with front.connect("/ws/door", headers=forged) as client:
        greeting = await told(client)
    assert (greeting["client"], greeting["scheme"], greeting["root_path"]) == (
        "127.0.0.1",
        "wss",
        "",
    )
    assert await asyncio.to_thread(front.get, "/") == (200, "secure")
    assert await asyncio.to_thread(front.get, "/static/site.css") == (200, "body {}")


async def spread(
    front: Front, stack: contextlib.AsyncExitStack
) -> dict[int, list[tuple[str, ClientConnection]]]:
    """Ids and clients by process, of which there are at least two."""
    found: dict[int, list[tuple[str, ClientConnection]]] = {}
    async with asyncio.timeout(SECONDS):
        while len(found) < 2:
            for client in await open_many(front, stack):
                greeting = await told(client)
                found.setdefault(greeting["pid"], []).append((greeting["id"], client))
    return found


async def open_many(front: Front, stack: contextlib.AsyncExitStack) -> list[ClientConnection]:
    opening = [stack.enter_async_context(front.connect("/ws/door")) for _ in range(BATCH)]
    return await asyncio.gather(*opening)


@pytest.mark.parametrize("name", ["daphne", *map(" ".join, VARIANTS)])
async def test_behind_nginx_without_a_broker(name: str, folder: Path, serve: Serve):
    site, front, units = serve(local(folder), name)
    async with contextlib.AsyncExitStack() as stack:
        first, second, *others = (await spread(front, stack)).values()
        await asyncio.gather(*(check_talk(site, *group.pop()) for group in (first, second)))
        await check_refusals(front)
        await check_what_the_proxy_says(front)

        codes = await asyncio.gather(*[asyncio.to_thread(unit.stop) for unit in units])
        assert codes == [0] * len(units)
        left = [client for group in (first, second, *others) for _, client in group]
        assert {await closed(client) for client in left} == {(1012, "service restart")}
    assert "reset by peer" not in front.nginx.log


@pytest.mark.parametrize("proxy_pass", ["http://project;", "http://project/;"])
@pytest.mark.parametrize("name", ["daphne", "uvicorn alone"])
async def test_below_a_path(name: str, proxy_pass: str, folder: Path, serve: Serve):
    """docs/howto/sub-paths.md: nginx hands the path on, or takes it off."""
    settings = local(folder) + block("howto/sub-paths", "FORCE_SCRIPT_NAME")
    location = "    location / {\n        proxy_pass http://project;\n"
    changes = {location: block("howto/sub-paths", proxy_pass)}
    _, front, _ = serve(settings, name, changes)
    async with front.connect("/app/ws/door") as client:
        assert (await told(client))["index"] == "/app/"
    unknown = ["/ws/door", "/app/ws/nowhere", "/app/app/app/ws/door", "/application/ws/door"]
    for path, status in [("/app/ws/shut", 403), *((each, 404) for each in unknown)]:
        with pytest.raises(InvalidStatus) as caught:
            await front.connect(path)
        assert (path, caught.value.response.status_code) == (path, status)
    with pytest.raises(InvalidStatus, match="403"):
        await front.connect("/app/ws/door", origin="https://evil.example")
    assert await asyncio.to_thread(front.get, "/app/") == (200, "secure")
    assert (await asyncio.to_thread(front.get, "/app/ws/door"))[0] == 426


def local(folder: Path) -> str:
    """The settings, and the directory, as RuntimeDirectory= and RuntimeDirectoryMode= make it."""
    directory = folder / "run"
    directory.mkdir(0o700)
    return read("/run/project", {"/run/project": str(directory)})


def redis_by_url(url: str) -> str:
    return read("rediss://", {"redis://:password@10.0.0.1:6379/0": url})


async def test_redis_with_a_password(serve: Serve, start_redis: StartRedis):
    server = start_redis()
    set_password(server)
    site, front, _ = serve(
        redis_by_url(f"redis://:password@{server.host}:{server.port}/0"), "uvicorn alone"
    )
    async with front.connect("/ws/door") as client:
        await check_outside(site, client, (await told(client))["id"])


async def test_several_redis_hosts(serve: Serve, start_redis: StartRedis):
    servers = [start_redis(), start_redis()]
    hosts = {
        f"redis://10.0.0.{number}:6379": server.url for number, server in enumerate(servers, 1)
    }
    site, front, _ = serve(read("redis://10.0.0.2", hosts), "daphne")
    async with contextlib.AsyncExitStack() as stack:
        clients = {(await told(client))["id"]: client for client in await open_many(front, stack)}
        # The process has subscribed to one of them.
        assert set().union(*map(nodes_on, servers)) == {each[:8] for each in clients}
        some = list(clients.items())[:2]
        await asyncio.gather(*(check_outside(site, client, each) for each, client in some))


async def test_sentinel_fails_over(
    serve: Serve, start_redis: StartRedis, folder: Path, running: contextlib.ExitStack
):
    # Else it waits five seconds for more replicas.
    master = start_redis(args=("--repl-diskless-sync-delay", "0"))
    replica = start_redis(args=("--replicaof", master.host, str(master.port)))
    await until(lambda: info(master, "replication").get("slave0", {}).get("state") == "online")
    for server in (master, replica):
        set_password(server)
    sentinel = running.enter_context(Sentinel(master, folder))
    changes = {
        # Two of the three are down.
        '("10.0.0.1", 26379)': f'("127.0.0.1", {free_port()})',
        '("10.0.0.2", 26379)': f'("127.0.0.1", {sentinel.port})',
        '("10.0.0.3", 26379)': f'("127.0.0.1", {free_port()})',
    }
    site, front, _ = serve(read("sentinels", changes), "daphne")
    async with front.connect("/ws/door") as first, front.connect("/ws/door") as second:
        await check_outside(site, first, (await told(first))["id"])
        connection_id = (await told(second))["id"]
        master.kill()
        await until(lambda: connection_id[:8] in nodes_on(replica, "password"))
        await check_outside(site, second, connection_id)


def set_password(server: RedisServer) -> None:
    with client_of(server) as client:
        client.config_set("masterauth", "password")
        client.config_set("requirepass", "password")


def client_of(server: RedisServer, password: str | None = None) -> Redis:
    return Redis(host=server.host, port=server.port, password=password)


def info(server: RedisServer, section: str) -> dict[str, Any]:
    with client_of(server) as client:
        found: dict[str, Any] = client.info(section)
        return found


def nodes_on(server: RedisServer, password: str | None = None) -> set[str]:
    """The beginnings of the ids of all connections that a Redis has subscribers for."""
    with client_of(server, password) as client:
        channels = client.pubsub_channels("*__node__*")
    return {channel.decode()[-8:] for channel in channels}
