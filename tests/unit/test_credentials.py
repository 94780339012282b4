from typing import Any

import pytest

from panther_channels._credentials import CredentialAuthentication
from panther_channels.exceptions import AuthenticationAPIError
from panther_channels.test import HandshakeRejected, WebsocketClient
from panther_channels.websocket import GenericWebsocket


class Badge(CredentialAuthentication):
    """The four steps, each as small as can be."""

    def find_credential(self, connection):
        return connection.headers["badge"]

    def validate(self, credential):
        return {"number": int(credential)} if credential.isdigit() else self.refuse("no number")

    def find_user(self, validated):
        return None if validated["number"] == 0 else f"user {validated['number']}"


class Door(GenericWebsocket):
    auth = Badge

    async def connect(self):
        await self.accept()
        await self.send([self.user, self.token])


async def first(**headers: str) -> Any:
    async with WebsocketClient(Door.as_asgi()).connect("/", headers=headers) as ws:
        return await ws.receive()


async def test_the_steps():
    assert await first() == "[null,null]"
    assert await first(badge="7") == '["user 7",{"number":7}]'
    # Nobody's credential is nobody's token.
    assert await first(badge="0") == "[null,null]"


async def test_a_refusal_tells_the_log_and_not_the_client(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    with pytest.raises(HandshakeRejected) as rejected:
        await first(badge="secret")
    assert rejected.value.status == 401
    assert "Badge refused a connection: no number" in caplog.text
    assert b"number" not in rejected.value.body
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("values", "found"), [([], None), ([""], None), (["a"], "a")])
def test_only(values: list[str], found: str | None):
    assert Badge().only(values, "the badge") == found


def test_only_one():
    with pytest.raises(AuthenticationAPIError):
        Badge().only(["a", "a"], "the badge")
