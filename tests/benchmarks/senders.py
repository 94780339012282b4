"""The client's end of the sender: a script of its own, or a task inside the server."""

import asyncio
import json
import os
import subprocess
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

DEADLINE = 20.0


class Script:
    """A sender in a process of its own."""

    def __init__(self, application: str, how: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.sender", application, how]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._orders = self._process.stdin.fileno()
        self.pid: int | None = self._process.pid

    def order(self, orders: bytes) -> None:
        os.write(self._orders, orders)

    def check(self) -> None:
        """Raises an exception if the script has ended by itself."""
        if code := self._process.poll():
            raise RuntimeError(f"The sender ended with {code}.")

    async def begin(self, ids: list[str]) -> None:
        self.order(json.dumps(ids).encode() + b"\n")

    async def sent(self) -> int:
        """How many it sent; it says so when it was told to stop."""
        assert self._process.stdout is not None
        return int(await asyncio.to_thread(self._process.stdout.readline))

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()


class Inside(WSListener):
    """A sender in one of the server's processes, which a connection gives its orders."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transport: WSTransport | None = None
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.pid: int | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._answer.set_result(int(frame.get_payload_as_ascii_text()))
        else:
            transport.disconnect()

    def check(self) -> None:
        """Nothing here: it ends with its server, which closes the client's connections."""

    def order(self, orders: bytes) -> None:
        assert self._transport is not None
        self._transport.send(WSMsgType.BINARY, orders)

    async def begin(self, ids: list[str]) -> None:
        self._transport, _listener = await ws_connect(lambda: self, self._url)
        self._transport.send(WSMsgType.TEXT, json.dumps(ids).encode())

    async def sent(self) -> int:
        return await self._answer

    def end(self) -> None:
        assert self._transport is not None
        self._transport.disconnect()
