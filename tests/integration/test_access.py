"""Who comes in, how, and what the others are told: one table, in process and on both servers."""

import asyncio
import base64
import contextlib
import http.client
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client import SECONDS, Client, Connection
from tests.conftest import StartServer
from tests.integration.access.site import BAD, Site, handshake, request
from tests.integration.conftest import Door, OpenDoor, StartAccess
from tests.names import name_of
from tests.servers import SERVER_NAMES, Server, ServerName
from tests.wire import raw_client

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
    await door.logged(r"was refused by \w+Authentication: 'Authentication Error'")
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
    ("/ws/channels/who/", "Cookie: sessionid={session[alice]}", "alice by function, no token"),
    # Of a repeated cookie the last counts, and quotes are taken off, as for HTTP.
    ("/ws/session", "Cookie: sessionid=old; sessionid={session[alice]}", f"alice by {SESSION}"),
    ("/ws/session", 'Cookie: sessionid="{session[alice]}"', f"alice by {SESSION}"),
    ("/ws/cookie", "Cookie: access_token={alice}; access_token={bob}", f"bob by {COOKIE}"),
    ("/ws/cookie", 'Cookie: access_token=; access_token="{bob}"', f"bob by {COOKIE}"),
    ("/ws/session-of-drf", "Cookie: sessionid={session[alice]}", f"alice by {DRF}, no token"),
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
    ("/ws/session-of-drf", "", "nobody"),
    ("/ws/session-of-drf", "Cookie: sessionid={session[nobody]}", "nobody"),
    ("/ws/session-of-drf", "Cookie: sessionid={session[inactive]}", "nobody"),
    *((f"/ws/{name}", "", "nobody") for name in CARRIERS),
    ("/ws/header", "Authorization: ", "nobody"),
    ("/ws/query?authorization=", "", "nobody"),
    ("/ws/query?authorisation=x", "", "nobody"),
    ("/ws/cookie", "Cookie: access_token=", "nobody"),
    ("/ws/cookie", "Cookie: refresh_token={refresh}", "nobody"),
    ("/ws/subprotocol", "Sec-WebSocket-Protocol: chat, other", "nobody"),
    ("/ws/session", "Cookie: sessionid=", "nobody"),
    ("/ws/session", "Cookie: sessionid={session[alice]}; sessionid=", "nobody"),
    ("/ws/session", "Cookie: sessionid={session[alice]}; sessionid=old", "nobody"),
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
    ("/ws/cookie", "Cookie: access_token={alice}; access_token={forged}", "invalid"),
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


COOKIES: list[tuple[bytes, ...]] = [
    *((b"a=1; a=2",), (b"a=b=c; d==",), (b"novalue; =x; a",), (b" a = 1 ;; b=",), (b"",)),
    *((b'a="x y"',), (rb'a="x\054y\"z"; b="\303\251"',), (b'a="open; b="',), (b"a=%20; %61=2",)),
    *((b"a=\xff\xfe; b=\xc3\xa9",), (b"\xe9=1; a=\xa0x\xa0",), (b"a=1,b=2",), (b"a=1\t;b\t=2",)),
    *((b"a=1", b"b=2"), (b"a=1;", b"a=2"), (b"", b"a=1"), (b'a="1', b'2"; a=3')),
]


@pytest.mark.parametrize("lines", COOKIES)
def test_cookies_are_those_of_http(access: Server, lines: tuple[bytes, ...]):
    with raw_client(access, "/ws/cookies", lines=[b"Cookie: " + line for line in lines]) as client:
        seen = json.loads(client.receive()[1])
    connection = http.client.HTTPConnection(access.host, access.port, timeout=SECONDS)
    connection.putrequest("GET", "/cookies/")
    for line in lines:
        connection.putheader("Cookie", line)
    connection.endheaders()
    with contextlib.closing(connection), connection.getresponse() as response:
        assert seen == json.load(response)


CLIENTS = [
    *(("1.2.3.4:5000", "1.2.3.4:6000", 429), ("[2001:db8::1]:5000", "2001:db8::1", 429)),
    *(("[::ffff:1.2.3.5]:5000", "1.2.3.5:80", 429), ("[fe80::1%eth0]:80", "[fe80::1]", 429)),
    ("1.2.3.6:5000", "1.2.3.7:5000", 101),
]


@pytest.mark.parametrize(("first", "second", "status"), CLIENTS)
async def test_another_port_is_no_other_client(
    server_name: ServerName, start_access: StartAccess, first: str, second: str, status: int
):
    args = ("--proxy-headers",)
    server = start_access(server_name, args, WS_MAX_CONNECTIONS_PER_CLIENT=1)
    async with Client(server) as connect:
        assert await connect.status("/ws/default", headers={"X-Forwarded-For": first}) == 101
        assert await connect.status("/ws/default", headers={"X-Forwarded-For": second}) == status


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


CHANGE = "HasPermission('auth.change_user')"
#: By permission: who may, and which name the log has for who refuses the others.
MAY: dict[str, tuple[str, str]] = {
    "authenticated": ("alice staff editor", "IsAuthenticated"),
    "staff": ("staff", "IsStaff"),
    "may-change": ("editor", CHANGE),
    "staff-or-may": ("staff editor", f"(IsAuthenticated & (IsStaff | {CHANGE}))"),
    "not-staff": ("nobody alice editor", "~IsStaff"),
    "authenticated-alice": ("alice", "(IsAuthenticated & is_alice)"),
    "alice": ("alice", "is_alice"),  # which fails for nobody
    "raising": ("", ""),
    "alice-then-raising": ("", "is_alice"),
}
DENIED, LOG_IN = (403, "Permission Denied"), (401, "Authentication Required")


@pytest.mark.parametrize("name", MAY)
async def test_who_may(in_process: OpenDoor, site: Site, name: str):
    may, refuses = MAY[name]
    async with in_process() as door:
        for person in ("nobody", "alice", "staff", "editor"):
            header = "" if person == "nobody" else f"Authorization: Bearer {{{person}}}"
            answer = await enter(door, site, f"/ws/{name}", header)
            if person in may.split():
                assert json.loads(str(await answer.receive()))["user"] in {person, None}, person
                continue
            is_mistake = name.endswith("raising") or (name, person) == ("alice", "nobody")
            told = LOG_IN if person == "nobody" and not is_mistake else DENIED
            assert (answer.status, answer.detail) == told, person
        if refuses:
            await door.logged(f"'/ws/{name}' was refused by {re.escape(refuses)}: '")
        # An exception of a permission refuses, too, if those before it let pass.
        assert ("RuntimeError: raised in a permission" in door.log()) is ("raising" in name)


TOLD: list[tuple[str, str, tuple[int, str]]] = [
    ("/ws/header", "Authorization: Bearer x", (401, "Authentication Error")),
    ("/ws/authenticated", "", LOG_IN),
    ("/ws/authenticated-alice", "Authorization: Bearer {bob}", DENIED),
    ("/ws/by-django", "", LOG_IN),
    ("/ws/broken", "", DENIED),
    ("/ws/default", "Origin: https://evil.example", (403, "Origin not allowed")),
    ("/ws/nowhere", "", (404, "Not Found")),
    ("/ws/channels/nowhere/", "", (404, "Not Found")),
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


WAIT = "Request was throttled. Expected available in 30 seconds."
NO_TOKEN = "Token is invalid or expired"
#: What views raise: the status, the detail, what the log says.
AS_IN_A_VIEW: dict[str, tuple[int, Any, str]] = {
    "missing": (404, "Not Found", "Http404 'No User matches the given query.'"),
    "resolver": (404, "Not Found", "Resolver404"),
    "forbidden": (403, "Permission Denied", "PermissionDenied 'inner words'"),
    "suspicious": (400, "Bad Request", "SuspiciousOperation 'inner words'"),
    "host": (400, "Bad Request", "DisallowedHost 'inner words'"),
    "bad": (400, "Bad Request", "BadRequest 'inner words'"),
    "denied": (403, "Permission Denied", "DenyConnection"),
    "rest-missing": (404, "No such book.", "NotFound 'No such book.'"),
    "rest-forbidden": (403, "You do not have permission to perform this action.", "PermissionD"),
    "rest-nobody": (401, "Authentication credentials were not provided.", "NotAuthenticated"),
    "rest-throttled": (429, WAIT, "Throttled"),
    "rest-invalid": (400, {"name": ["Too long."]}, "ValidationError"),
    "rest-away": (503, "Come back later.", "Unavailable"),
    "token": (401, NO_TOKEN, "InvalidToken"),
}


@pytest.mark.parametrize("what", AS_IN_A_VIEW)
async def test_what_views_raise_in_a_handler(door: Door, site: Site, what: str):
    status, detail, said = AS_IN_A_VIEW[what]
    reason = detail if isinstance(detail, str) else json.dumps(detail)
    place = rf"^.*WebSocket '/ws/raises' was %s: {re.escape(said)}"
    for hook, by in (("auth", " by .*auth"), ("permissions", " by .*permissions"), ("connect", "")):
        answer = await enter(door, site, f"/ws/raises?in={hook}&what={what}")
        assert (answer.status, answer.detail) == (status, detail), hook
        await door.logged(place % f"refused{by}")
    if status < 500:  # else it is as any other error
        for hook in ("accepted", "receive", "event"):
            client = await enter(door, site, f"/ws/raises?in={hook}&what={what}")
            await client.send("go")
            assert await client.closed() == (1008, reason), hook
            await door.logged(place % "closed")
        await (await enter(door, site, f"/ws/raises?in=disconnect&what={what}")).close()
        await door.logged(rf"WebSocket '/ws/raises' has ended: {re.escape(said)}")
    told = await enter(door, site, "/ws/rest-raises", f"X-What: {what}")
    # What a bad credential is, the client isn't told.
    expected = (status, detail) if status != 401 else (401, "Authentication Error")
    assert (told.status, told.detail) == expected
    assert "Traceback" not in door.log()
    assert "ERROR" not in door.log()


@pytest.mark.parametrize("what", ["no-row", "invalid"])
async def test_what_is_a_mistake_in_a_view_is_one_here(door: Door, site: Site, what: str):
    answer = await enter(door, site, f"/ws/raises?in=connect&what={what}")
    assert (answer.status, answer.detail) == (403, "Permission Denied")
    client = await enter(door, site, f"/ws/raises?in=receive&what={what}")
    await client.send("go")
    assert await client.closed() == (1011, "")
    assert door.log().count("Traceback") >= 2


#: Where a class refuses with a close code, for the scripts of browsers.
CODED: list[tuple[str, str, tuple[int, str]]] = [
    ("?authorization=x", "", (4401, "Authentication Error")),
    ("", "bearer, x", (4401, "Authentication Error")),
    ("?authorization=x", "chat, other", (4401, "Authentication Error")),
    ("", "chat", (4401, "Authentication Required")),
    ("", "", (4401, "Authentication Required")),
    ("?authorization={bob}", "", (4403, "Permission Denied")),
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
