"""Who comes to a group, and who leaves it: once for a user, not for a tab."""

import asyncio
import json

from tests.client import Client, Connection
from tests.contracts.applications.package import GenericWebsocket, MeantError
from tests.contracts.scenarios.reach import DONE, ODD, Control, named
from tests.contracts.scenarios.registry import URLS, scenario


class Present(Control):
    """Tells its client of who comes and goes, and fails when its client says so."""

    auth = named
    groups = (ODD,)
    announces_presence = True

    async def receive(self, data: str | bytes) -> None:
        if data == "fail":
            raise MeantError("meant: of a member")
        await super().receive(data)

    async def user_joined(self, group: str, user: object) -> None:
        await self._tell("+", group, user)

    async def user_left(self, group: str, user: object) -> None:
        await self._tell("-", group, user)

    async def _tell(self, sign: str, group: str, user: object) -> None:
        who = getattr(user, "user_id", None)
        await self.send(f"{sign}{who} {'odd' if group == ODD else group}")


class Quiet(GenericWebsocket):
    """Says nothing of itself in the same group."""

    auth = named
    groups = (ODD,)

    async def connect(self):
        await self.accept()


async def _enter(connect: Client, user: str) -> Connection:
    tab = await connect(f"?user={user}")
    await tab.receive()  # its id
    return tab


async def _do(tab: Connection, *call: object) -> None:
    await tab.send(json.dumps(call))
    while await tab.receive() != DONE:
        pass


URLS["quiet"] = Quiet


@scenario(
    Present,
    ours=[
        *("+ann odd", "+bob odd", "+carl odd", "+ann hall", "+bob hall"),
        *("-bob hall", "-bob odd", "+bob odd"),
    ],
)
async def users_come_and_go(connect: Client) -> object:
    ann = await _enter(connect, "ann")
    seen: list[object] = [await ann.receive()]
    await connect("")  # nobody
    await connect("/quiet/?user=dora")
    tabs = await asyncio.gather(*(_enter(connect, "bob") for _ in range(3)))
    seen.append(await ann.receive())
    await _enter(connect, "carl")
    seen.append(await ann.receive())
    await ann.send(json.dumps(["join", "hall"]))
    news = await ann.messages(2)  # its own may come before the answer, or after it
    seen += [message for message in news if message != DONE]
    for _ in range(2):
        await _do(tabs[0], "join", "hall")
    seen.append(await ann.receive())
    await _do(tabs[0], "leave", "hall")
    for tab in tabs:  # the page is reloaded
        await tab.close()
    tab = await _enter(connect, "bob")
    seen.append(await ann.receive())
    await tab.close()
    seen.append(await ann.receive())
    await _enter(connect, "bob")
    return [*seen, await ann.receive()]


@scenario(Present, ours=["-a odd", "-b odd", "-c odd", "-d odd", "-e odd"])
async def every_end_is_a_leave(connect: Client) -> object:
    ann = await _enter(connect, "ann")
    await ann.receive()
    tabs = {}
    for user in "abcde":
        tabs[user] = await _enter(connect, user)
        assert await ann.receive() == f"+{user} odd"
    await tabs["a"].close()
    await tabs["b"].abort()
    await tabs["c"].send("fail")
    await _do(ann, "close_user_websockets", "d", 4001)
    await _do(tabs["e"], "leave", ODD)
    return sorted(map(str, await ann.messages(5)))
