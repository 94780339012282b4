"""Who may connect: permissions over real users."""

import asyncio

import pytest

from tests.integration.access.client import Site, handshake, who
from tests.servers import Server

ALLOWED: dict[str, set[str | None]] = {
    "authenticated": {"alice", "staff", "editor"},
    "staff": {"staff"},
    "may-change": {"editor"},
    "staff-or-may": {"staff", "editor"},
    "not-staff": {None, "alice", "editor"},
    "alice": {"alice"},
    "authenticated-alice": {"alice"},
    "raising": set(),
    "alice-then-raising": set(),
}
PEOPLE = (None, "alice", "staff", "editor")


@pytest.mark.parametrize("name", ALLOWED)
async def test_who_may(access: Server, site: Site, name: str):
    for person in PEOPLE:
        headers = []
        if person is not None:
            headers = [("Authorization", f"Bearer {site.token(person)}")]
        if person in ALLOWED[name]:
            assert (await who(access, f"/ws/{name}", headers))["user"] == person
        else:
            answer = await handshake(access, f"/ws/{name}", headers)
            assert (answer.status, answer.detail) == (403, "Permission Denied"), person


async def test_the_first_refusal_ends_it(access: Server, site: Site):
    mark = access.mark()
    bob = [("Authorization", f"Bearer {site.token('bob')}")]
    alice = [("Authorization", f"Bearer {site.token('alice')}")]
    assert (await handshake(access, "/ws/alice-then-raising", bob)).status == 403
    assert (await handshake(access, "/ws/alice", bob)).status == 403
    assert "RuntimeError" not in access.log[mark:]
    assert (await handshake(access, "/ws/alice-then-raising", alice)).status == 403
    await asyncio.to_thread(access.wait_log, "RuntimeError: raised in a permission", since=mark)
