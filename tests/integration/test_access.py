"""Who comes in, how, and what the others are told: one table, in process and on both servers."""

import asyncio
import base64
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client import Client, Connection
from tests.conftest import StartServer
from tests.integration.access.site import BAD, Site, handshake, request
from tests.integration.conftest import Door, OpenDoor, StartAccess
from tests.names import name_of
from tests.servers import SERVER_NAMES, Server, ServerName

#: By which target and which headers a carrier takes a token.
CARRIERS = {
    "header": ("/ws/header", "Authorization: Bearer {%s}"),
    "query": ("/ws/query?authorization={%s}", ""),
    "cookie": ("/ws/cookie", "Cookie: theme=dark; access_token={%s}"),
    "subprotocol": ("/ws/subprotocol", "Sec-WebSocket-Protocol: bearer, {%s}"),
    "simplejwt": ("/ws/simplejwt", "Authorization: Bearer {%s}"),
}


def carried(carrier: str, token: str) -> tuple[str, str]:
    target, headers = CARRIERS[carrier]
    return target.replace("%s", token), headers.replace("%s", token)


async def enter(door: Door, site: Site, target: str, headers: str = "") -> Connection:
    return await door.connect(site.fill(target), **request(site.fill(headers)))


async def who(door: Door, site: Site, target: str, headers: str = "") -> str:
    """Whom the WebSocket has found, and by what."""
    answer = json.loads(str(await (await enter(door, site, target, headers)).receive()))
    kind, has_token = answer["authentication"], answer["has_token"]
    found = f"{answer['user'] or 'nobody'} by {kind}" + ("" if has_token else ", no token")
    return "nobody" if found == "nobody by NoneType, no token" else found


async def refused(door: Door, site: Site, target: str, headers: str, reason: str) -> None:
    """A bad credential is a 401, and the log, but not the client, is told why."""
    answer = await enter(door, site, target, headers)
    assert (answer.status, answer.headers["content-type"]) == (401, "application/json")
    assert (answer.detail, answer.headers["www-authenticate"]) == ("Authentication Error", "Bearer")
    await door.logged(rf"Authentication refused a connection: .*({reason})")
    assert "Traceback" not in door.log()


BASIC = base64.b64encode(b"alice:password of alice").decode()
JWT, COOKIE = "JWTAuthentication", "CookieJWTAuthentication"
SESSION, DRF = "SessionAuthentication", "DRFAuthentication"

ENTERS: list[tuple[str, str, str]] = [
    (*carried("header", "bob"), f"bob by {JWT}"),
    (*carried("query", "bob"), f"bob by QueryParam{JWT}"),
    (*carried("cookie", "bob"), f"bob by {COOKIE}"),
    (*carried("subprotocol", "bob"), f"bob by Subprotocol{JWT}"),
    (*carried("simplejwt", "bob"), f"bob by {DRF}"),
    ("/ws/header", "Authorization: bearer  {bob}", f"bob by {JWT}"),
    ("/ws/session", "Cookie: sessionid={session[alice]}", f"alice by {SESSION}"),
    # The setting is for classes without an `auth` of their own, and for no other.
    ("/ws/default", "Authorization: Bearer {bob}", f"bob by {JWT}"),
    ("/ws/cookie", "Authorization: Bearer {bob}", "nobody"),
    # Of several, the first that finds a user counts.
    ("/ws/several", "Cookie: sessionid={session[alice]}", f"alice by {SESSION}"),
    ("/ws/several", "Cookie: access_token={alice}", f"alice by {COOKIE}"),
    ("/ws/several", "Authorization: Bearer {alice}", f"alice by {JWT}"),
    ("/ws/several", f"Authorization: Basic {BASIC}", f"alice by {DRF}, no token"),
    (
        "/ws/several",
        "Cookie: sessionid={session[alice]}\nAuthorization: Bearer {bob}",
        f"alice by {SESSION}",
    ),
    # No credential is nobody.
    *((f"/ws/{name}", "", "nobody") for name in ("default", "several", "session", "token")),
    *((f"/ws/{name}", "", "nobody") for name in CARRIERS),
    ("/ws/header", "Authorization: ", "nobody"),
    ("/ws/query?authorization=", "", "nobody"),
    ("/ws/query?authorisation=x", "", "nobody"),
    ("/ws/cookie", "Cookie: access_token=", "nobody"),
    ("/ws/cookie", "Cookie: refresh_token={refresh}", "nobody"),
    ("/ws/subprotocol", "Sec-WebSocket-Protocol: chat, other", "nobody"),
    ("/ws/session", "Cookie: sessionid=", "nobody"),
    ("/ws/session", f"Cookie: sessionid={'x' * 32}", "nobody"),
    ("/ws/session", "Cookie: sessionid={session[nobody]}", "nobody"),
    ("/ws/token", "Authorization: Bearer x", "nobody"),
]


@pytest.mark.parametrize(("target", "headers", "seen"), ENTERS, ids=name_of)
async def test_who_comes_in(door: Door, site: Site, target: str, headers: str, seen: str):
    assert await who(door, site, target, headers) == seen


REFUSED: list[tuple[str, str, str]] = [
    *((*carried(name, "expired"), "expired") for name in ("query", "cookie", "subprotocol")),
    *((*carried(name, "malformed"), "invalid") for name in ("header", "query", "cookie")),
    (*carried("header", "nested"), "AccessToken"),
    # There must be one.
    ("/ws/query?authorization={alice}&authorization={bob}", "", "sent 2 times"),
    ("/ws/query?authorization={alice}&%61uthorization={alice}", "", "sent 2 times"),
    ("/ws/query?authorization=&authorization={bob}", "", "sent 2 times"),
    ("/ws/cookie", "Cookie: access_token={alice}; access_token={bob}", "sent 2 times"),
    ("/ws/cookie", "Cookie: access_token=; access_token={bob}", "sent 2 times"),
    ("/ws/session", "Cookie: sessionid={session[bob]}; sessionid={session[bob]}", "sent 2 times"),
    ("/ws/header", "Authorization: Bearer {alice} {bob}", "one type and one token"),
    ("/ws/header", "Authorization: Bearer {alice}, Bearer {bob}", "one type and one token"),
    ("/ws/header", "Authorization: Bearer {alice},{bob}", "one type and one token"),
    ("/ws/header", "Authorization: Bearer {alice}\nAuthorization: Bearer {bob}", "one type"),
    ("/ws/header", "Authorization: Bearer", "one type and one token"),
    ("/ws/header", "Authorization: Bearer ", "one type and one token"),
    ("/ws/subprotocol", "Sec-WebSocket-Protocol: chat, bearer", "there must be one token"),
    ("/ws/token", "Authorization: Token one two", ""),
    ("/ws/token", "Authorization: Token", ""),
    ("/ws/session", "Cookie: sessionid={session[inactive]}", "inactive"),
    # A bad credential is not left to others; one that nobody understands is bad.
    ("/ws/several", "Cookie: access_token={forged}\nAuthorization: Bearer {bob}", "invalid"),
    ("/ws/header", "Authorization: Digest secret-of-nobody-at-all", "another type"),
    ("/ws/several", "Authorization: Digest secret-of-nobody-at-all", "another type"),
]


@pytest.mark.parametrize(("target", "headers", "reason"), REFUSED, ids=name_of)
async def test_who_is_refused(door: Door, site: Site, target: str, headers: str, reason: str):
    await refused(door, site, target, headers, reason)


async def test_a_session_from_before_the_password_changed(
    request: pytest.FixtureRequest, door: Door, site: Site
):
    # A key of its own for each: who looks at it first deletes it.
    name = f"changed-{request.node.callspec.params['open_door']}"
    await refused(door, site, "/ws/session", f"Cookie: sessionid={{session[{name}]}}", "password")


CLAIMS = {
    **dict.fromkeys(("malformed", "dots", "forged", "unsigned", "algorithm"), "[iI]nvalid"),
    **dict.fromkeys(("not_yet", "alice:.40"), "invalid"),
    **dict.fromkeys(("refresh", "sliding"), "wrong type"),
    **dict.fromkeys(("user_text", "user_list", "user_huge"), "no user id|not found"),
    "nested": "AccessToken",
    "expired": "expired",
    "no_type": "no type",
    "no_id": "no id",
    "no_expiry": "no 'exp'",
    "no_user": "no recognizable user",
    "unknown": "not found",
    "inactive": "inactive",
}


def test_every_bad_token_is_shown():
    assert CLAIMS.keys() >= BAD.keys()


@pytest.mark.parametrize("kind", CLAIMS)
async def test_a_bad_token(in_process: OpenDoor, site: Site, kind: str):
    async with in_process() as door:
        await refused(door, site, *carried("header", kind), CLAIMS[kind])
        await refused(door, site, *carried("simplejwt", kind), "")


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
    "USER_AUTHENTICATION_RULE": "tests.integration.access.settings.is_not_bob",
}
CUSTOM_BAD: list[tuple[dict[str, Any], str]] = [
    ({"algorithm": "HS256"}, "[iI]nvalid"),
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
]


def custom_token(site: Site, user: str = "alice", **claims: Any) -> str:
    known = {"sub": user, "user_id": None, "aud": "sockets", "iss": "tests"}
    known["hash_password"] = site.revocations.get(user)
    key, algorithm = str(SIMPLE_JWT["SIGNING_KEY"]), "HS512"
    return site.token(**{"key": key, "algorithm": algorithm, **known, **claims})


# On servers alone: modules of simplejwt keep the settings that they were imported with.
@pytest.mark.parametrize("open_door", SERVER_NAMES, indirect=True)
async def test_the_settings_of_simplejwt(open_door: OpenDoor, site: Site):
    async with open_door(SIMPLE_JWT=SIMPLE_JWT) as door:
        for claims in ({}, {"token_type": "sliding"}, {"exp": int(time.time()) - 5}):
            target = f"/ws/query?authorization={custom_token(site, **claims)}"
            assert await who(door, site, target) == f"alice by QueryParam{JWT}"
        for kind in ("JWT", "Own", "jwt"):
            header = f"X-Access: {kind} {custom_token(site)}"
            assert await who(door, site, "/ws/header", header) == f"alice by {JWT}"
        header = f"X-Access: Bearer {custom_token(site)}"
        await refused(door, site, "/ws/header", header, "another type")


@pytest.mark.parametrize(("claims", "reason"), CUSTOM_BAD, ids=name_of)
@pytest.mark.parametrize("open_door", ["uvicorn"], indirect=True)
async def test_the_settings_of_simplejwt_refuse(
    open_door: OpenDoor, site: Site, claims: dict[str, Any], reason: str
):
    async with open_door(SIMPLE_JWT=SIMPLE_JWT) as door:
        target = f"/ws/query?authorization={custom_token(site, **claims)}"
        await refused(door, site, target, "", reason)


@pytest.mark.parametrize("open_door", SERVER_NAMES, indirect=True)
async def test_a_token_of_rest_framework(door: Door, site: Site):
    """Its table belongs to an app that this process has not."""
    for target in ("/ws/token", "/ws/several"):
        header = f"Authorization: Token {site.secret('drf-token-of-alice')}"
        assert await who(door, site, target, header) == f"alice by {DRF}"
    for name, reason in (("of-nobody", "Invalid token"), ("of-inactive", "inactive")):
        header = f"Authorization: Token drf-token-{name}"
        await refused(door, site, "/ws/token", header, reason)


MAY: dict[str, str] = {
    "authenticated": "alice staff editor",
    "staff": "staff",
    "may-change": "editor",
    "staff-or-may": "staff editor",
    "not-staff": "nobody alice editor",
    "alice": "alice",
    "authenticated-alice": "alice",
    "raising": "",
    "alice-then-raising": "",
}


@pytest.mark.parametrize("name", MAY)
async def test_who_may(in_process: OpenDoor, site: Site, name: str):
    async with in_process() as door:
        for person in ("nobody", "alice", "staff", "editor"):
            header = "" if person == "nobody" else f"Authorization: Bearer {{{person}}}"
            answer = await enter(door, site, f"/ws/{name}", header)
            if person in MAY[name].split():
                assert json.loads(str(await answer.receive()))["user"] in {person, None}, person
            else:
                assert (answer.status, answer.detail) == (403, "Permission Denied"), person
        # An exception of a permission refuses, too, if those before it let pass.
        assert ("RuntimeError: raised in a permission" in door.log()) is ("raising" in name)


TOLD: list[tuple[str, str, tuple[int, str]]] = [
    ("/ws/header", "Authorization: Bearer x", (401, "Authentication Error")),
    ("/ws/authenticated", "", (403, "Permission Denied")),
    ("/ws/broken", "", (403, "Permission Denied")),
    ("/ws/default", "Origin: https://evil.example", (403, "Origin not allowed")),
    ("/ws/nowhere", "", (404, "Not Found")),
    ("/", "", (404, "Not Found")),
]


@pytest.mark.parametrize(("target", "headers", "told"), TOLD, ids=name_of)
async def test_what_is_told(
    door: Door, site: Site, target: str, headers: str, told: tuple[int, str]
):
    answer = await enter(door, site, target, headers)
    assert (answer.status, answer.detail) == told
    assert int(answer.headers["content-length"]) == len(answer.body)
    if target == "/ws/broken":
        await door.logged("RuntimeError: raised in auth")


#: Where a class refuses with a close code, for the scripts of browsers.
CODED: list[tuple[str, str, tuple[int, str]]] = [
    ("?authorization=x", "", (4401, "Authentication Error")),
    ("", "bearer, x", (4401, "Authentication Error")),
    ("?authorization=x", "chat, other", (4401, "Authentication Error")),
    ("", "chat", (4403, "Permission Denied")),
    ("", "", (4403, "Permission Denied")),
]


@pytest.mark.parametrize(("query", "offered", "ending"), CODED, ids=name_of)
async def test_a_close_code(
    door: Door, site: Site, query: str, offered: str, ending: tuple[int, str]
):
    headers = f"Sec-WebSocket-Protocol: {offered}" if offered else ""
    client = await enter(door, site, f"/ws/coded{query}", headers)
    assert await client.closed() == ending
    # A browser wants one of those that it offered, or none where it offered none.
    assert client.subprotocol == (offered.split(", ")[0] or None)


SELECTED: list[tuple[str, str, str | None]] = [
    ("coded", "bearer, {alice}", "bearer"),
    ("subprotocol", "bearer, {alice}, chat", "bearer"),
    ("subprotocol-chat", "bearer, {alice}, chat", "chat"),
    # A browser fails the connection where none of those that it offered is selected.
    ("several", "bearer, {alice}, chat\nCookie: sessionid={session[alice]}", "bearer"),
    ("default", "chat", None),
]


@pytest.mark.parametrize(("name", "offered", "selected"), SELECTED)
async def test_the_subprotocol(door: Door, site: Site, name: str, offered: str, selected: str):
    answer = await enter(door, site, f"/ws/{name}", f"Sec-WebSocket-Protocol: {offered}")
    assert (answer.status, answer.subprotocol) == (101, selected)


async def test_a_subprotocol_that_was_not_offered_does_not_show_the_token(door: Door, site: Site):
    offered = "Sec-WebSocket-Protocol: bearer, {alice}"
    answer = await enter(door, site, "/ws/subprotocol-chat", offered)
    assert answer.status == 403
    await door.logged("ValueError: .*chat")
    assert site.leaks(door.log()) == []


# Of tokens: headers with odd algorithms and extensions, and bodies that are no objects.
SEGMENTS = [
    *(b"eyJhbGciOiJIUzI1NiJ9", b"eyJhbGciOiJub25lIn0", b"e30", b"W10", b"bnVsbA"),
    *(b"eyJhbGciOltdfQ", b"eyJhbGciOiJIUzI1NiIsImtpZCI6MX0"),
    b"eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19",
]
# What a header may hold on the wire, and what it may not; and what looks nearly right.
BYTES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(base64.urlsafe_b64encode),
    st.tuples(*[st.binary(max_size=40).map(base64.urlsafe_b64encode)] * 3).map(b".".join),
    st.lists(st.sampled_from(SEGMENTS), max_size=4).map(b".".join),
    st.text(alphabet="[]{}\"':,.=;%& é☃aB0-_", max_size=80).map(str.encode),
).map(lambda value: re.sub(rb"[\r\n\0]", b"", value))
PREFIXES = [b"", b"Bearer ", b"Token ", b"Basic ", b"access_token=", b"sessionid=", b"bearer, "]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["header", "token", "cookie", "session", "subprotocol", "several"]),
    prefix=st.sampled_from(PREFIXES),
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
    assert asyncio.run(handshake(access, "/ws/default")).status == 101
    for value in ("Token é☃".encode(), b"Token \xff\xfe"):
        answer = asyncio.run(handshake(access, "/ws/token", [("Authorization", value)]))
        assert answer.status == 401
    assert "Traceback" not in access.log[mark:]


async def test_no_credential_in_a_verbose_log(
    server_name: ServerName, site: Site, start_server: StartServer, start_access: StartAccess
):
    """As verbose as the servers can be; headers, cookies, queries, frames, wrong subprotocols."""
    custom = {"AUTH_HEADER_NAME": "HTTP_X_ACCESS_TOKEN"}
    args = {"uvicorn": ("--log-level", "trace"), "daphne": ("-v", "3")}[server_name]
    environment = start_access(server_name, SIMPLE_JWT=custom).env
    server = start_server(server_name, env=environment, args=args)
    alice = site.ids["alice"]
    async with Client(server) as connect:
        door = Door(connect, lambda: server.log)
        for carrier in CARRIERS:
            for token in ("alice", "forged", "expired"):
                await enter(door, site, *carried(carrier, token))
        for user in ("alice", "inactive"):
            await enter(door, site, "/ws/session", f"Cookie: sessionid={site.sessions[user]}")
        for target, headers in (
            ("/ws/header", "X-Access-Token: Bearer {alice}"),
            ("/ws/simplejwt", "X-Access-Token: Bearer {alice}"),
            ("/ws/key", f"X-Api-Key: {site.secret(f'a-secret-of-a-project-{alice}')}"),
            ("/ws/rest-key", f"X-Rest-Key: {site.secret(f'another-secret-of-it-{alice}')}"),
        ):
            assert (await who(door, site, target, headers)).startswith("alice by ")
        client = await enter(door, site, "/ws/header", "X-Access-Token: Bearer {alice}")
        await client.receive()
        wrong = site.secret("0123456789abcdef0123456789abcdef01234567")
        assert await client.ask(f"try {wrong}") == "Authentication Error"
        assert await client.ask(f"refresh {site.token()}") == "refreshed"
    for offered in ("bearer, {alice}==;", "bearer {alice}", "bearer, {alice}, {alice}"):
        value = site.fill(offered)
        await handshake(server, "/ws/subprotocol", [("Sec-WebSocket-Protocol", value)])
    await asyncio.to_thread(server.terminate)
    assert "/ws/query" in server.log
    assert site.leaks(server.log) == []
    if server_name == "uvicorn":
        for line in ("< x-access-token: ***", "< TEXT *** [", "> TEXT *** [", "< host: 127"):
            assert line in server.log
