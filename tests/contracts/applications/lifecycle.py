"""Classes that accept, refuse and close at every moment."""

import asyncio

from tests.contracts.applications.journal import facts, note
from tests.contracts.applications.package import (
    GenericWebsocket,
    MeantError,
    WebsocketError,
    status,
)


class Silent(GenericWebsocket):
    """Neither accepts nor closes."""

    async def connect(self):
        note(self, "connect")


class Untouched(GenericWebsocket):
    """Overrides nothing."""


class Refusing(GenericWebsocket):
    async def connect(self):
        note(self, facts(self))
        await self.close()
        note(self, facts(self))


class RefusingWithCode(GenericWebsocket):
    async def connect(self):
        await self.close(code=4001, reason="not you")


class RefusingThenAccepting(GenericWebsocket):
    async def connect(self):
        await self.close()
        try:
            await self.accept()
        except Exception:
            note(self, "raised")
        note(self, facts(self))


class ClosingAtOnce(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.close(code=4002, reason="at once")


class Closing(GenericWebsocket):
    """Closes with the code and reason that the client names."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        code, _, reason = str(data).partition(" ")
        if code == "named":
            await self.close(code=status.WS_1008_POLICY_VIOLATION, reason="policy")
        elif code == "default":
            await self.close()
        elif reason:
            await self.close(code=int(code), reason=reason)
        else:
            await self.close(int(code))


class ClosingTwice(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.close(4003, "first")
        try:
            await self.close(4004, "second")
        except Exception:
            # Panther raises what the server raises, and we do nothing: the client sees the same.
            return


class ClosingBadly(GenericWebsocket):
    """Tries what no close frame can carry."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        code, _, length = str(data).partition(" ")
        try:
            await self.close(int(code), "x" * int(length))
        except Exception:
            await self.send("raised")


class SayingGoodbye(GenericWebsocket):
    """Overrides close()."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.close(4005, "bye")

    async def close(self, code=1000, reason="") -> None:
        await self.send("goodbye")
        await super().close(code=code, reason=f"{reason}!")


class Greeting(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send("one")
        await self.send(b"two")
        await self.send({"three": 3})

    async def receive(self, data: str | bytes) -> None:
        await self.send(data)


class SendingEarly(GenericWebsocket):
    async def connect(self):
        try:
            await self.send("too early")
        except Exception:
            raised = True
        else:
            raised = False
        await self.accept()
        await self.send({"raised": raised})


class SendingLate(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await self.close(4006)
        try:
            await self.send("too late")
        except Exception:
            note(self, "raised")
        else:
            note(self, "silent")


class AcceptingTwice(GenericWebsocket):
    async def connect(self):
        await self.accept()
        try:
            await self.accept()
        except Exception:
            await self.send("raised")
        else:
            await self.send("silent")


class Stateful(GenericWebsocket):
    """Notes its state at each point."""

    async def connect(self):
        note(self, facts(self))
        await self.accept()
        note(self, facts(self))
        self.first_id = self.connection_id

    async def receive(self, data: str | bytes) -> None:
        note(self, [*facts(self), self.connection_id == self.first_id])
        await self.close(4007)
        note(self, facts(self))


class Identified(GenericWebsocket):
    async def connect(self):
        await self.accept()
        await self.send([type(self.connection_id).__name__, len(self.connection_id)])

    async def receive(self, data: str | bytes) -> None:
        await self.send(self.connection_id)


class Counting(GenericWebsocket):
    """Keeps things on itself."""

    async def connect(self):
        self.seen: list[str] = []
        self.number = 0
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        self.number += 1
        self.seen.append(str(data))
        await self.send([self.number, self.seen])


class Slow(GenericWebsocket):
    """Gives other messages the chance to overtake."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        await asyncio.sleep(0.02 if data == "0" else 0)
        await self.send(data)


class ClosingOnRequest(GenericWebsocket):
    """Notes what it reads until it closes."""

    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        note(self, data)
        if data == "close":
            await self.close(4008, "enough")


class Speaking(GenericWebsocket):
    """Chooses a subprotocol."""

    async def connect(self):
        await self.accept(subprotocol=self.query_params.get("choose"))
        await self.send(self.headers.sec_websocket_protocol)


class AcceptingWithHeaders(GenericWebsocket):
    async def connect(self):
        await self.accept(headers={"X-Contract": "kept"})
        await self.send("open")


class Departing(GenericWebsocket):
    """Notes that it was told of the end."""

    async def connect(self):
        await self.accept()
        await self.send("open")

    async def disconnect(self, code: int) -> None:
        note(self, code)


class FailingBeforeAccept(GenericWebsocket):
    async def connect(self):
        raise MeantError("meant: before accept")


class FailingAfterAccept(GenericWebsocket):
    async def connect(self):
        await self.accept()
        raise MeantError("meant: after accept")


class FailingInReceive(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        raise MeantError("meant: in receive")


class RaisingBeforeAccept(GenericWebsocket):
    async def connect(self):
        raise WebsocketError("meant: refused")


class RaisingInReceive(GenericWebsocket):
    async def connect(self):
        await self.accept()

    async def receive(self, data: str | bytes) -> None:
        raise WebsocketError("meant: no more")


URLS = {
    "silent": Silent,
    "untouched": Untouched,
    "refusing": Refusing,
    "refusing-with-code": RefusingWithCode,
    "refusing-then-accepting": RefusingThenAccepting,
    "closing-at-once": ClosingAtOnce,
    "closing": Closing,
    "closing-twice": ClosingTwice,
    "closing-badly": ClosingBadly,
    "goodbye": SayingGoodbye,
    "greeting": Greeting,
    "sending-early": SendingEarly,
    "sending-late": SendingLate,
    "accepting-twice": AcceptingTwice,
    "stateful": Stateful,
    "identified": Identified,
    "counting": Counting,
    "slow": Slow,
    "closing-on-request": ClosingOnRequest,
    "speaking": Speaking,
    "accepting-with-headers": AcceptingWithHeaders,
    "departing": Departing,
    "failing": {
        "before-accept": FailingBeforeAccept,
        "after-accept": FailingAfterAccept,
        "in-receive": FailingInReceive,
    },
    "raising": {"before-accept": RaisingBeforeAccept, "in-receive": RaisingInReceive},
}
