"""WebSockets that send much, or are slow to take what they get."""

import asyncio
import logging

from tests.project.websockets import Identify

logger = logging.getLogger("tests.flow")


class Push(Identify):
    """Sends as many messages of as many bytes as it is told: "200 1000000"."""

    async def receive(self, data: str | bytes):
        count, size = map(int, data.split())
        try:
            for _ in range(count):
                await self.send("x" * size)
        finally:
            logger.info("push has ended")

    async def disconnect(self, code: int):
        logger.info("disconnect called code=%s", code)


class Slow(Push):
    """Takes 5 ms for a message; answers what is short."""

    async def receive(self, data: str | bytes):
        await asyncio.sleep(0.005)
        if len(data) < 100:
            await self.send(data)


class Count(Push):
    """Answers how many bytes came."""

    async def receive(self, data: str | bytes):
        await self.send(str(len(data)))


class Both(Push):
    """Sends while it receives; answers what is short."""

    async def receive(self, data: str | bytes):
        if len(data) < 20:
            self.create_task(super().receive(data))


class Gate(Count):
    """Waits in its handshake for "/gate/opened"; refuses "/gate/closed"."""

    async def connect(self):
        state = self.path.rpartition("/")[2]
        if state == "opened":
            gate.set()
        else:
            logger.info("waits at the gate")
            await gate.wait()
            gate.clear()
        if state != "closed":
            await self.accept()


gate = asyncio.Event()
urls = {
    "push": Push,
    "slow": Slow,
    "count": Count,
    "both": Both,
    "id": Identify,
    "gate": {"open": Gate, "closed": Gate, "opened": Gate},
}
