"""What is masked in log lines; tests/integration/test_logs.py reads the servers' own."""

import logging
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidHeader
from websockets.frames import Frame, Opcode

from panther_channels import apps
from panther_channels._process import logs as _logs
from panther_channels._process.logs import RedactCredentials, Secrets, install, is_secret, redact
from panther_channels._socket.request import Headers
from panther_channels.authentications import (
    BaseAuthentication,
    DRFAuthentication,
    SessionAuthentication,
)
from panther_channels.websocket import GenericWebsocket, Websocket
from tests.names import name_of

NAMES = ("authorization", "access_token", "token", "ticket", "a token", "auth[key]")
# Nothing that the rest of a line holds, and nothing that ends a value or stands after one.
TOKENS = st.text("XYZ?=/.+-_~%!*'\"(é", max_size=40).map(lambda text: f"SEC{text}RET")
JUNK = st.text("ab=&?%4 \"'()[]{}<>,;\t\n\x00é\ud800", max_size=30)


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers without a filter, and no names but the usual ones."""
    for name in _logs._LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    monkeypatch.setattr(_logs, "_secrets", Secrets())


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("/ws?token=x", "/ws?token=***"),
        ("token=x", "token=***"),
        ("/ws?x=1&access_token=x&y=2", "/ws?x=1&access_token=***&y=2"),
        ("/ws?token=x&token=y", "/ws?token=***&token=***"),
        ("/ws?Authorization=x", "/ws?Authorization=***"),
        ("/ws?token=&x=1", "/ws?token=&x=1"),
        ("/ws?token", "/ws?token"),
        ("/ws?token=***", "/ws?token=***"),
        ("/ws?tokens=x&mytoken=y", "/ws?tokens=x&mytoken=y"),
        ("/token=/x", "/token=/x"),
        ("/ws?next=/a?token=x&y=1", "/ws?next=/a?token=***&y=1"),
        ("{'query_string': b'token=x', 'a': 1}", "{'query_string': b'token=***', 'a': 1}"),
        ("GET /?token=x HTTP/1.1\ntoken=y\n", "GET /?token=*** HTTP/1.1\ntoken=***\n"),
        ("(/ws?token=x)", "(/ws?token=***)"),
        ('/ws?token=" 200', '/ws?token=" 200'),
    ],
)
def test_redact(text: str, redacted: str):
    assert redact(text) == redacted


@pytest.mark.parametrize("query", ["ticket=x", "a+token=x", "a%20token=x", "auth[key]=x"])
def test_further_names(query: str):
    assert redact(f"/ws?{query}&y=1") == f"/ws?{query}&y=1"
    install(Secrets(lambda: NAMES))
    assert redact(f"/ws?{query}&y=1") == f"/ws?{query[:-1]}***&y=1"


@given(JUNK)
def test_redact_never_raises_and_is_done_at_once(text: str):
    redacted = redact(text)
    assert redact(redacted) == redacted


@given(st.sampled_from(NAMES), st.lists(JUNK, max_size=3), TOKENS, st.booleans(), st.data())
def test_no_token_is_left(
    name: str, others: list[str], token: str, encoded: bool, data: st.DataObject
):
    install(Secrets(lambda: NAMES))
    name = "".join(f"%{ord(char):02X}" for char in name) if encoded else quote(name, safe="[]")
    rest = [quote(other, errors="replace") for other in others]
    place = data.draw(st.integers(0, len(rest)))
    query = "&".join([*rest[:place], f"{name}={token}", *rest[place:]])
    expected = "&".join([*rest[:place], f"{name}=***", *rest[place:]])
    assert redact(f'"GET /ws?{query}" 200') == f'"GET /ws?{expected}" 200'


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["a", "=", "token", "?", '"', "a=", "%", "token=?", " =", "=&"])
def test_a_long_line_takes_no_long_time(text: str):
    redact(f"/ws?{text * 200_000}=x")


def record(msg: object, *args: Any) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", logging.INFO, "", 0, msg, args, None)


SECRETS = Secrets(headers=lambda: ["X_ACCESS_TOKEN"], are_in_frames=lambda: True)
DUPLICATE = "failing WebSocket opening handshake ('duplicate protocol \"{}\" specified in HTTP …')"


def filtered(msg: object, *args: Any) -> logging.LogRecord:
    found = record(msg, *args)
    assert RedactCredentials().filter(found) is True
    return found


@pytest.mark.parametrize(
    ("msg", "args", "message"),
    [
        ('"WebSocket %s" %d', ("/ws?token=x&y=1", 403), '"WebSocket /ws?token=***&y=1" 403'),
        ("%(path)s %(size)d", ({"path": "/?token=x", "size": 1},), "/?token=*** 1"),
        ("%s?%s", ("/ws", "token=x"), "/ws?token=***"),
        ("token=%s&x=%s", ("x", 1), "token=***&x=1"),
        ("%s %s", (1, {"query_string": b"token=x"}), "1 {'query_string': b'token=***'}"),
        ("/ws?token=x", (), "/ws?token=***"),
        ("100% token=x", (), "100% token=***"),
        ("%s %.1f %r", (None, 0.5, True), "None 0.5 True"),
        (ValueError("/ws?token=x"), (), "/ws?token=***"),
        ("< %s: %s", ("X-Access-Token", "secret"), "< X-Access-Token: ***"),
        ("< %s: %s", ("x_access_token", "secret"), "< x_access_token: ***"),
        ("< %s: %s", ("Authorization", "secret"), "< Authorization: ***"),
        ("> %s: %s", ("set-cookie", "secret"), "> set-cookie: ***"),
        ("< %s: %s", ("user-agent", "a"), "< user-agent: a"),
        ("< %s: %s", ("referer", "/?token=secret"), "< referer: /?token=***"),
        ("< %s", (Frame(Opcode.TEXT, b"secret"),), "< TEXT *** [6 bytes]"),
        ("> %s", (Frame(Opcode.BINARY, b"secret"),), "> BINARY *** [6 bytes]"),
        ("< %s", (Frame(Opcode.CONT, b"secret", fin=False),), "< CONT *** [6 bytes, continued]"),
        ("< %s", (Frame(Opcode.PING, b"a"),), "< PING 'a' [text, 1 byte]"),
        ("< %s", (Frame(Opcode.CLOSE, b"\x03\xe8"),), "< CLOSE 1000 (OK) [2 bytes]"),
        ("< %s", ("EOF",), "< EOF"),
        (DUPLICATE.format("secret"), (), DUPLICATE.format("***")),
    ],
)
def test_filter(msg: object, args: tuple[Any, ...], message: str):
    install(SECRETS)
    assert filtered(msg, *args).getMessage() == message


def test_a_handshake_that_cannot_be_read():
    filtered = record("! invalid handshake")
    error = InvalidHeader("Sec-WebSocket-Protocol", "secret")
    filtered.exc_info = (type(error), error, None)
    RedactCredentials().filter(filtered)
    assert logging.Formatter().format(filtered) == "! invalid handshake: InvalidHeader"


def test_frames_where_nobody_takes_a_token_out_of_them():
    install(Secrets())
    assert filtered("< %s", Frame(Opcode.TEXT, b"a")).getMessage() == "< TEXT 'a' [1 byte]"


def test_where_secrets_cannot_be_known():
    def unknown() -> NoReturn:
        raise RuntimeError

    install(Secrets(unknown, unknown, unknown))
    for msg, argument in (("< %s", Frame(Opcode.TEXT, b"secret")), ("%s", "/?token=secret")):
        assert "secret" not in filtered(msg, argument).getMessage()
    assert is_secret("Cookie")
    assert not is_secret("Host")


class Key(BaseAuthentication):
    credential_headers = "X-Key"

    async def __call__(self, connection: Websocket) -> None:
        """Nobody."""


class RestKey:
    credential_headers = ("X-Shop-Key",)


async def ticket(connection: Websocket) -> None:
    """Nobody, by a function."""


vars(ticket)["credential_headers"] = ["X-Ticket"]


class Later(GenericWebsocket):
    @property
    def auth(self) -> type[Key]:
        return Key


@pytest.mark.parametrize("authentication", ["no.such.thing", [ticket, DRFAuthentication(RestKey)]])
def test_the_headers_of_a_project(authentication: Any):
    known = isinstance(authentication, list)
    with override_settings(
        WS_AUTHENTICATION=authentication, SIMPLE_JWT={"AUTH_HEADER_NAME": "HTTP_X_ACCESS_TOKEN"}
    ):
        install(Secrets(headers=apps._credential_headers))
        found = {name: is_secret(name) for name in ("x-access-token", "x-key", "x-ticket", "k")}
        assert found == {"x-access-token": True, "x-key": True, "x-ticket": known, "k": False}
        assert is_secret("X-Shop-Key") is known
        assert "a secret" not in repr(Headers([(b"x-access-token", b"a secret")]))


@pytest.mark.parametrize(
    ("authentication", "expected"),
    [
        (None, False),
        (DRFAuthentication(RestKey), False),
        ([ticket, SessionAuthentication()], True),
        (vars(Later)["auth"], True),
    ],
    ids=name_of,
)
def test_who_takes_a_token_out_of_a_message(
    authentication: Any, expected: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(apps, "_kinds", lambda base: iter([base]))  # without those of other tests
    with override_settings(WS_AUTHENTICATION=authentication):
        assert apps._take_fresh_tokens() is expected


def test_what_is_left_alone():
    details, argument = {"path": "/?token=x"}, object()
    filtered("%(path)s", details)
    assert details == {"path": "/?token=x"}
    assert filtered("%s", argument).args == (argument,)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("msg", "args"),
    [
        ("%s token=x", ("token=x", "token=y")),
        ("%d token=x", ("token=x",)),
        ("%(a)s token=x", ({"b": "token=x"},)),
        ("%s token=x %s", (Unprintable(), "token=x")),
    ],
)
def test_a_line_that_cannot_be_written(msg: str, args: tuple[Any, ...]):
    line = filtered(msg, *args)
    assert "token=***" in line.msg
    assert "=x" not in f"{line.msg} {line.args!r}"


@given(JUNK, st.lists(JUNK | st.integers() | st.none() | st.binary(), max_size=3))
def test_filter_never_raises(msg: str, args: list[Any]):
    filtered(msg, *args)


@pytest.mark.parametrize(
    "name", ["uvicorn.error", "uvicorn.access", "uvicorn.asgi", "daphne.server", "django.server"]
)
def test_a_line_on_its_way(name: str):
    """Installed twice, there is one filter, with the names of the second."""
    install(Secrets())
    install(Secrets(lambda: ["ticket"]))
    logger, lines = logging.getLogger(name), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        logger.warning("%s", "/ws?token=x&ticket=y")
    finally:
        logger.removeHandler(handler)
    assert lines == ["/ws?token=***&ticket=***"]
    assert [type(each) for each in logger.filters] == [RedactCredentials]
