"""Each way to say who connects, good, absent and bad, on real servers with a real database."""

import asyncio
import base64
import re
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import StartServer
from tests.integration.access.client import Answer, Site, connected, handshake, received, who
from tests.integration.conftest import StartAccess
from tests.servers import Server, ServerName

OTHER_KEY = "the key of somebody else, long enough for every signature"
CARRIERS = ["header", "query", "cookie", "subprotocol", "simplejwt"]

Request = tuple[str, list[tuple[str, str | bytes]]]


def carried(carrier: str, token: str) -> Request:
    """The target and the headers by which a carrier takes a token."""
    if carrier == "query":
        return f"/ws/query?authorization={token}", []
    name, value = {
        "cookie": ("Cookie", f"theme=dark; access_token={token}"),
        "subprotocol": ("Sec-WebSocket-Protocol", f"bearer, {token}"),
    }.get(carrier, ("Authorization", f"Bearer {token}"))
    return f"/ws/{carrier}", [(name, value)]


async def found(server: Server, request: Request) -> Any:
    target, headers = request
    # The client of `websockets` wants to know itself what it offers.
    offers = [value for name, value in headers if name == "Sec-WebSocket-Protocol"]
    others = [pair for pair in headers if pair[0] != "Sec-WebSocket-Protocol"]
    options = {"subprotocols": str(offers[0]).split(", ")} if offers else {}
    return await who(server, target, others, **options)


async def refused(server: Server, request: Request, reason: str, status: int = 401) -> Answer:
    mark = server.mark()
    answer = await handshake(server, *request)
    assert (answer.status, answer.headers.get("content-type")) == (status, "application/json")
    await asyncio.to_thread(server.wait_log, reason, since=mark)
    assert "Traceback" not in server.log[mark:]
    return answer


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_good_token(access: Server, site: Site, carrier: str):
    answer = await found(access, carried(carrier, site.token("bob")))
    assert (answer["user"], answer["has_token"]) == ("bob", True)


async def test_the_default_of_the_settings(access: Server, site: Site):
    _, headers = carried("header", site.token("bob"))
    assert (await found(access, ("/ws/default", headers)))["user"] == "bob"
    # A class's own `auth` is instead of it, not besides.
    assert (await found(access, ("/ws/cookie", headers)))["user"] is None


NOTHING: list[Request] = [
    ("/ws/header", []),
    ("/ws/header", [("Authorization", "")]),
    ("/ws/default", []),
    ("/ws/query", []),
    ("/ws/query?authorization=", []),
    ("/ws/query?authorisation=x", []),
    ("/ws/cookie", []),
    ("/ws/cookie", [("Cookie", "access_token=")]),
    ("/ws/subprotocol", []),
    ("/ws/session", []),
    ("/ws/session", [("Cookie", "sessionid=")]),
    ("/ws/session", [("Cookie", "sessionid=" + "x" * 32)]),
    ("/ws/token", []),
    ("/ws/token", [("Authorization", "Bearer x")]),
    ("/ws/simplejwt", []),
    ("/ws/several", []),
]


@pytest.mark.parametrize("request_", NOTHING, ids=str)
async def test_no_credential_is_nobody(access: Server, request_: Request):
    answer = await found(access, request_)
    assert answer == {"user": None, "authentication": "NoneType", "has_token": False}


async def test_a_refresh_cookie_alone_is_nobody(access: Server, site: Site):
    token = site.token(token_type="refresh")
    request: Request = ("/ws/cookie", [("Cookie", f"refresh_token={token}")])
    assert (await found(access, request))["user"] is None


def nested(depth: int) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":' + b"[" * depth).rstrip(b"=").decode()
    return f"{head}.{head[:8]}.{head[:8]}"


BAD: dict[str, tuple[Callable[[Site], str], str]] = {
    "malformed": (lambda site: site.secret("no-token-but-a-secret"), "invalid"),
    "dots": (lambda site: "a.b.c", "invalid"),
    "nested": (lambda site: nested(4500), "AccessToken"),
    "expired": (lambda site: site.token(exp=int(time.time()) - 1), "expired"),
    "signature": (lambda site: site.token(key=OTHER_KEY), "invalid"),
    "cut": (lambda site: site.token()[:-2], "invalid"),
    "unsigned": (lambda site: site.token(key="", algorithm="none"), "invalid|Invalid"),
    "algorithm": (lambda site: site.token(algorithm="HS384", key=OTHER_KEY), "invalid|Invalid"),
    "refresh": (lambda site: site.token(token_type="refresh"), "wrong type"),
    "sliding": (lambda site: site.token(token_type="sliding"), "wrong type"),
    "no-type": (lambda site: site.token(token_type=None), "no type"),
    "no-id": (lambda site: site.token(jti=None), "no id"),
    "no-expiry": (lambda site: site.token(exp=None), "no 'exp'"),
    "not-yet": (lambda site: site.token(nbf=int(time.time()) + 100), "invalid"),
    "no-user": (lambda site: site.token(user_id=None), "no recognizable user"),
    "unknown": (lambda site: site.token(user_id="99999"), "not found"),
    "user-text": (lambda site: site.token(user_id="'; DROP TABLE auth_user"), "no user id"),
    "user-list": (lambda site: site.token(user_id=[1]), "no user id"),
    "user-huge": (lambda site: site.token(user_id="9" * 30), "no user id|not found"),
    "inactive": (lambda site: site.token("inactive"), "inactive"),
}


# What a carrier has to do with it: the rest is the same for all of them.
OTHERWISE = ["malformed", "expired", "signature", "refresh", "inactive"]


@pytest.mark.parametrize(
    ("carrier", "kind"),
    [
        *(("header", kind) for kind in BAD),
        *((carrier, kind) for carrier in CARRIERS[1:4] for kind in OTHERWISE),
    ],
)
async def test_a_bad_token(access: Server, site: Site, carrier: str, kind: str):
    make, reason = BAD[kind]
    token = make(site)
    answer = await refused(
        access,
        carried(carrier, token),
        f"JWTAuthentication refused a connection: .*({reason})",
    )
    assert answer.detail == "Authentication Error"


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_token_by_the_adapter(access: Server, site: Site, kind: str):
    request = carried("simplejwt", BAD[kind][0](site))
    await refused(access, request, "DRFAuthentication refused a connection: ")


def twice(site: Site) -> dict[str, Request]:
    one, two = site.token(), site.token("bob")
    session = site.sessions["alice"]
    return {
        "query": (f"/ws/query?authorization={one}&authorization={two}", []),
        "query-same": (f"/ws/query?authorization={one}&x=1&authorization={one}", []),
        "query-encoded": (f"/ws/query?authorization={one}&%61uthorization={two}", []),
        "query-blank": (f"/ws/query?authorization=&authorization={two}", []),
        "cookie": ("/ws/cookie", [("Cookie", f"access_token={one}; access_token={two}")]),
        "cookie-blank": ("/ws/cookie", [("Cookie", f"access_token=; access_token={two}")]),
        "session": ("/ws/session", [("Cookie", f"sessionid={session}; sessionid={session}")]),
        "header": ("/ws/header", [("Authorization", f"Bearer {one} {two}")]),
        "header-comma": ("/ws/header", [("Authorization", f"Bearer {one}, Bearer {two}")]),
        "header-comma-2": ("/ws/header", [("Authorization", f"Bearer {one},{two}")]),
        "headers": (
            "/ws/header",
            [("Authorization", f"Bearer {one}"), ("Authorization", f"Bearer {two}")],
        ),
        "no-token": ("/ws/header", [("Authorization", "Bearer")]),
        "subprotocol": ("/ws/subprotocol", [("Sec-WebSocket-Protocol", "chat, bearer")]),
        "drf": ("/ws/token", [("Authorization", "Token one two")]),
        "drf-none": ("/ws/token", [("Authorization", "Token")]),
    }


@pytest.mark.parametrize("kind", [*twice(Site("", {}, {"alice": ""}, {}))])
async def test_no_or_several_where_one_must_be(access: Server, site: Site, kind: str):
    await refused(access, twice(site)[kind], "Authentication refused a connection: ")


async def test_a_session(access: Server, site: Site):
    headers = [("Cookie", f"sessionid={site.sessions['alice']}")]
    answer = await who(access, "/ws/session", headers)
    assert (answer["user"], answer["authentication"]) == ("alice", "SessionAuthentication")


async def test_a_session_of_nobody(access: Server, site: Site):
    headers = [("Cookie", f"sessionid={site.sessions['']}")]
    answer = await who(access, "/ws/session", headers)
    assert answer == {"user": None, "authentication": "NoneType", "has_token": False}


async def test_a_session_of_an_inactive_user(access: Server, site: Site):
    request: Request = ("/ws/session", [("Cookie", f"sessionid={site.sessions['inactive']}")])
    await refused(access, request, "SessionAuthentication refused a connection: .*inactive")


async def test_a_session_from_before_the_password_changed(access: Server, site: Site):
    key = site.sessions[f"changed-{access.name}"]
    request: Request = ("/ws/session", [("Cookie", f"sessionid={key}")])
    await refused(access, request, "SessionAuthentication refused a connection: .*password")


async def test_a_token_of_rest_framework(access: Server, site: Site):
    token = site.secret("drf-token-of-alice")
    answer = await who(access, "/ws/token", [("Authorization", f"Token {token}")])
    assert (answer["user"], answer["authentication"]) == ("alice", "DRFAuthentication")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("Token drf-token-of-nobody", "Invalid token"),
        ("Token drf-token-of-inactive", "inactive"),
        ("Token drf-token-with-é", ""),
        ("Token drf-token-with-☃", ""),
        (b"Token drf-token-with-\xff\xfe", ""),
    ],
)
async def test_a_bad_token_of_rest_framework(
    access: Server, site: Site, value: str | bytes, reason: str
):
    request: Request = ("/ws/token", [("Authorization", value)])
    await refused(access, request, f"DRFAuthentication refused a connection: .*{reason}")


BASIC = base64.b64encode(b"alice:password of alice").decode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sessionid", "SessionAuthentication"),
        ("access_token", "CookieJWTAuthentication"),
        ("Bearer", "JWTAuthentication"),
        ("Token", "DRFAuthentication"),
        ("Basic", "DRFAuthentication"),
    ],
)
async def test_several_authentications(access: Server, site: Site, name: str, kind: str):
    value = {"sessionid": site.sessions["alice"], "Token": "drf-token-of-alice", "Basic": BASIC}
    credential = site.secret(value.get(name) or site.token("alice"))
    header = ("Authorization", f"{name} {credential}")
    if name in {"sessionid", "access_token"}:
        header = ("Cookie", f"{name}={credential}")
    answer = await who(access, "/ws/several", [header])
    assert (answer["user"], answer["authentication"]) == ("alice", kind)


async def test_the_first_of_several_that_finds_a_user_counts(access: Server, site: Site):
    headers = [
        ("Cookie", f"sessionid={site.sessions['alice']}"),
        ("Authorization", f"Bearer {site.token('bob')}"),
    ]
    assert (await who(access, "/ws/several", headers))["user"] == "alice"


async def test_a_bad_credential_is_not_left_to_the_next(access: Server, site: Site):
    cookie = f"access_token={site.token(key=OTHER_KEY)}"
    request: Request = (
        "/ws/several",
        [("Cookie", cookie), ("Authorization", f"Bearer {site.token('bob')}")],
    )
    await refused(access, request, "CookieJWTAuthentication refused")


@pytest.mark.parametrize("target", ["/ws/header", "/ws/several"])
async def test_a_scheme_that_nobody_understands(access: Server, target: str):
    request: Request = (target, [("Authorization", "Digest secret-of-nobody-at-all")])
    await refused(access, request, "JWTAuthentication refused a connection: .*another type")


async def test_the_subprotocol_that_is_selected(access: Server, site: Site):
    token = site.token()
    offered = [("Sec-WebSocket-Protocol", f"bearer, {token}, chat")]
    for name, selected in {"subprotocol": "bearer", "subprotocol-chat": "chat"}.items():
        answer = await handshake(access, f"/ws/{name}", offered)
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, selected)
    # A browser fails the connection where none of those that it offered is selected.
    cookie = ("Cookie", f"sessionid={site.sessions['alice']}")
    answer = await handshake(access, "/ws/several", [cookie, *offered])
    assert (answer.status, answer.headers.get("sec-websocket-protocol")) == (101, "bearer")


async def test_a_subprotocol_that_was_not_offered_does_not_show_the_token(
    access: Server, site: Site
):
    token = site.token()
    mark = access.mark()
    answer = await handshake(
        access, "/ws/subprotocol-chat", [("Sec-WebSocket-Protocol", f"bearer, {token}")]
    )
    assert answer.status == 403
    await asyncio.to_thread(access.wait_log, "ValueError: .*chat", since=mark)
    assert token not in access.log


async def test_an_exception_refuses(access: Server, site: Site):
    mark = access.mark()
    answer = await handshake(access, "/ws/broken")
    assert answer.status == 403
    assert "RuntimeError" not in answer.body
    await asyncio.to_thread(access.wait_log, "RuntimeError: raised in auth", since=mark)


SIMPLE_JWT = {
    "ALGORITHM": "HS512",
    "SIGNING_KEY": "a signing key of sixty-four bytes at the least, for HS512 wants it so",
    "AUDIENCE": "sockets",
    "ISSUER": "tests",
    "LEEWAY": 30,
    "USER_ID_FIELD": "username",
    "USER_ID_CLAIM": "sub",
    "AUTH_HEADER_TYPES": ["JWT", "Own"],
    "AUTH_HEADER_NAME": "HTTP_X_ACCESS",
    "AUTH_TOKEN_CLASSES": [
        "rest_framework_simplejwt.tokens.SlidingToken",
        "rest_framework_simplejwt.tokens.AccessToken",
    ],
    "CHECK_REVOKE_TOKEN": True,
    "USER_AUTHENTICATION_RULE": "tests.integration.access.rules.is_not_bob",
}


@pytest.fixture
def custom(server_name: ServerName, start_access: StartAccess) -> Server:
    return start_access(server_name, SIMPLE_JWT=SIMPLE_JWT)


def custom_token(site: Site, user: str = "alice", **claims: Any) -> str:
    known = {"sub": user, "user_id": None, "aud": "sockets", "iss": "tests"}
    known["hash_password"] = site.revocations.get(user)
    key, algorithm = str(SIMPLE_JWT["SIGNING_KEY"]), "HS512"
    return site.token(**{"key": key, "algorithm": algorithm, **known, **claims})


async def test_the_settings_of_simplejwt(custom: Server, site: Site):
    for claims in ({}, {"token_type": "sliding"}, {"exp": int(time.time()) - 5}):
        request = carried("query", custom_token(site, **claims))
        assert (await found(custom, request))["user"] == "alice", claims


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"algorithm": "HS256"}, "invalid|Invalid"),
        ({"aud": "others"}, "invalid"),
        ({"aud": None}, "invalid"),
        ({"iss": "others"}, "invalid"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"sub": None, "user_id": "1"}, "no recognizable user"),
        ({"user": "bob"}, "USER_AUTHENTICATION_RULE"),
        ({"user": "inactive"}, "inactive"),
        ({"hash_password": "0" * 32}, "password"),
        ({"hash_password": None}, "password"),
        ({"token_type": "sliding", "jti": "blacklisted"}, "blacklisted"),
        ({"token_type": "refresh"}, "wrong type"),
    ],
    ids=str,
)
async def test_the_settings_of_simplejwt_refuse(
    custom: Server, site: Site, claims: dict[str, Any], reason: str
):
    request = carried("query", custom_token(site, **claims))
    await refused(custom, request, f"refused a connection: .*({reason})")


async def test_the_header_of_simplejwt(custom: Server, site: Site):
    for kind in ("JWT", "Own", "jwt"):
        headers = [("X-Access", f"{kind} {custom_token(site)}")]
        assert (await who(custom, "/ws/header", headers))["user"] == "alice"
    other: Request = ("/ws/header", [("X-Access", f"Bearer {custom_token(site)}")])
    await refused(custom, other, "another type")


@pytest.mark.parametrize("target", ["/ws/several", "/ws/may-change"])
async def test_no_database_connection_stays_open(access: Server, site: Site, target: str):
    headers = [("Authorization", f"Bearer {site.token('editor')}")]
    async with connected(access, target, headers) as client:
        await received(client)
        await client.send("hello")
        assert await received(client) == "hello"
        started = time.monotonic()
        while any(site.database in path for path in files_of(access)):
            assert time.monotonic() - started < 5
            await asyncio.sleep(0.05)


def files_of(server: Server) -> list[str]:
    return [entry.path for entry in psutil.Process(server.pid).open_files()]


async def test_others_go_on_while_a_user_is_looked_up(access: Server, site: Site):
    async with connected(access, "/ws/default") as client:
        await received(client)
        headers = [("Authorization", f"Bearer {site.token()}")]
        slow = asyncio.create_task(who(access, "/ws/slow", headers))
        slowest, echoes, started = 0.0, 0, time.monotonic()
        while not slow.done() and time.monotonic() - started < 10:
            asked = time.monotonic()
            await client.send("still there?")
            await received(client)
            slowest, echoes = max(slowest, time.monotonic() - asked), echoes + 1
            await asyncio.sleep(0.02)
        assert (await slow)["user"] == "alice"
        assert time.monotonic() - started > 1.4
        assert slowest < 0.7
        assert echoes > 5


# What a header may hold on the wire, and what it may not; and what looks nearly right.
BYTES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(base64.urlsafe_b64encode),
    st.tuples(*[st.binary(max_size=40).map(base64.urlsafe_b64encode)] * 3).map(b".".join),
    st.text(alphabet="[]{}\"':,.=;%& é☃aB0-_", max_size=80).map(str.encode),
).map(lambda value: re.sub(rb"[\r\n\0]", b"", value))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(["header", "token", "cookie", "session", "subprotocol", "several"]),
    prefix=st.sampled_from(
        [b"", b"Bearer ", b"Token ", b"Basic ", b"access_token=", b"sessionid=", b"bearer, "]
    ),
    value=BYTES,
)
def fuzzed(server: Server, kind: str, prefix: bytes, value: bytes) -> None:
    name = {"cookie": "Cookie", "session": "Cookie", "subprotocol": "Sec-WebSocket-Protocol"}
    headers = [(name.get(kind, "Authorization"), prefix + value)]
    if kind == "several":
        headers.append(("Cookie", b"sessionid=" + value))
    answer = asyncio.run(handshake(server, f"/ws/{kind}", headers))
    # 400, or nothing at all, is the server's own answer to what isn't HTTP.
    assert answer.status in {0, 101, 400, 401, 403, 404}


def test_no_bytes_make_a_traceback(access: Server):
    mark = access.mark()
    fuzzed(access)
    answer = asyncio.run(handshake(access, "/ws/default"))
    assert answer.status == 101
    assert "Traceback" not in access.log[mark:]


async def test_no_credential_in_a_verbose_log(
    server_name: ServerName, site: Site, start_server: StartServer, start_access: StartAccess
):
    """As verbose as the servers can be."""
    environment = start_access(server_name).env
    server = start_server(
        server_name,
        "tests.integration.access.asgi:application",
        env=environment,
        args={"uvicorn": ("--log-level", "trace"), "daphne": ("-v", "3")}[server_name],
    )
    for token in (site.token(), site.token(key=OTHER_KEY), site.token(exp=1)):
        for carrier in CARRIERS:
            await handshake(server, *carried(carrier, token))
    for user in ("alice", "inactive"):
        await handshake(server, "/ws/session", [("Cookie", f"sessionid={site.sessions[user]}")])
    await asyncio.to_thread(server.terminate)
    assert "/ws/query" in server.log
    assert site.leaks(server) == []


async def test_no_credential_of_another_place_in_a_verbose_log(
    server_name: ServerName, site: Site, start_server: StartServer, start_access: StartAccess
):
    """Headers that the project's authentications read, frames, and subprotocols that are wrong."""
    environment = start_access(
        server_name, SIMPLE_JWT={"AUTH_HEADER_NAME": "HTTP_X_ACCESS_TOKEN"}
    ).env
    server = start_server(
        server_name,
        "tests.integration.access.asgi:application",
        env=environment,
        args={"uvicorn": ("--log-level", "trace"), "daphne": ("-v", "3")}[server_name],
    )
    alice = site.ids["alice"]
    for target, name, value in (
        ("/ws/header", "X-Access-Token", f"Bearer {site.token()}"),
        ("/ws/simplejwt", "X-Access-Token", f"Bearer {site.token()}"),
        ("/ws/key", "X-Api-Key", site.secret(f"a-secret-of-a-project-{alice}")),
        ("/ws/rest-key", "X-Rest-Key", site.secret(f"another-secret-of-it-{alice}")),
    ):
        assert (await who(server, target, [(name, value)]))["user"] == "alice"
    header = [("X-Access-Token", f"Bearer {site.token()}")]
    async with connected(server, "/ws/header", header) as client:
        await received(client)
        await client.send(f"try {site.secret('0123456789abcdef0123456789abcdef01234567')}")
        assert await received(client) == "Authentication Error"
        await client.send(f"refresh {site.token()}")
        assert await received(client) == "refreshed"
    for offered in ("bearer, {}==;", "bearer {}", "bearer, {0}, {0}"):
        wrong = offered.format(site.token()).encode()
        await handshake(server, "/ws/subprotocol", [("Sec-WebSocket-Protocol", wrong)])
    await asyncio.to_thread(server.terminate)
    assert site.leaks(server) == []
    if server_name == "uvicorn":
        for line in ("< x-access-token: ***", "< TEXT *** [", "> TEXT *** [", "< host: 127"):
            assert line in server.log
