"""Reads the messages of pub/sub, and leaves all else that comes over their connection to redis-py.

A message waits until what came before it has been read: who waits for a subscription may not be
ready before for what comes over it. Nothing waits for a message.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from panther_channels.layers.redis.ahead import Ahead

# What is before the name of a channel, and between that and the message. RESP 3 has ">" for "*".
_BEGINNING = re.compile(rb"[*>]3\r\n\$7\r\nmessage\r\n\$(\d+)\r\n")
_SIZE = re.compile(rb"\r\n\$(\d+)\r\n")

# The first line of another reply. There may be a text behind it, or so many replies.
_LINE = re.compile(rb"([-+:_,#(][^\r]*|[$=!](-1|(?P<text>\d+))|[*>~](-1|(?P<list>\d+)))\r\n")
_KINDS = b"-+:_,#($=!*>~"


class Messages(Ahead):
    """Tells what comes over the channels that a connection has subscribed to.

    What ``deliver()`` raises is raised to who reads the rest, and ends the connection.

    Args:
        transport: that of the connection.
        deliver: takes a channel and a message.
    """

    def __init__(self, transport: Any, deliver: Callable[[str, bytes], None]) -> None:
        super().__init__(transport)
        self._deliver = deliver
        self._parts: list[bytes] = []  # of a reply that isn't whole yet
        self._missing = 0  # bytes of it, at least
        self._left, self._read = 0, 0  # replies to redis-py, and those of them that it has read
        self._left_before = 0  # those that it will have read by the next silence
        # Messages behind such replies, and how many there were.
        self._behind: deque[tuple[int, str, bytes]] = deque()

    def note_read(self) -> None:
        """Redis-py has read a reply, and who waited for it has been told."""
        self._note(min(self._read + 1, self._left))

    def note_silence(self) -> None:
        """Redis-py has found no reply: at once, since one that comes from now on is still to read.

        So may be the latest ones: they can come in the moment in which it gives up. What it finds
        none of once more is none that it would tell.
        """
        self._note(max(self._read, self._left_before))
        self._left_before = self._left

    def _note(self, read: int) -> None:
        self._read = read
        try:
            while self._behind and self._behind[0][0] <= self._read:
                self._deliver(*self._behind.popleft()[1:])
        except Exception as error:  # noqa: BLE001 - as below
            self._fail(error)

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has been read."""
        if self._transport.is_closing():  # the next connection may hear the same
            return
        self._parts.append(bytes(self._buffer[:nbytes]))
        self._missing -= nbytes
        if self._missing > 0:  # so that what is large isn't joined at every read
            return
        received = b"".join(self._parts)
        self._parts.clear()
        try:
            end = self._take(received)
        except Exception as error:  # noqa: BLE001 - whatever deliver() raises
            self._fail(error)
        else:
            if end < len(received):
                self._parts.append(received[end:])

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no connection any more; who has sent what waits was told that it is here."""
        self._note(self._left)
        super().connection_lost(exc)

    def _take(self, received: bytes) -> int:
        """Where the reply begins that isn't whole."""
        start = 0
        while start < len(received):
            size = None
            if beginning := _BEGINNING.match(received, start):
                name = beginning.end()
                end_of_name = name + int(beginning[1])
                size = _SIZE.match(received, end_of_name)
            end = size.end() + int(size[1]) + 2 if size else _end_of_reply(received, start)
            if end > len(received):
                self._missing = end - len(received)
                break
            if not size:
                self._left += 1
                self._stream.data_received(received[start:end])
            else:
                channel = str(received[name:end_of_name], "utf-8")
                message = received[size.end() : end - 2]
                if self._read < self._left:
                    self._behind.append((self._left, channel, message))
                else:
                    self._deliver(channel, message)
            start = end
        return start

    def _fail(self, error: Exception) -> None:
        self._behind.clear()
        self._stream.connection_lost(error)
        self._transport.close()


def _end_of_reply(received: bytes, start: int) -> int:
    """Where a reply ends; behind all that was received where it isn't whole.

    What is none goes to redis-py with all that follows, and ends the connection there.
    """
    replies = 1
    while replies:
        if line := _LINE.match(received, start):
            replies += int(line["list"] or 0) - 1
            start = line.end() + (int(line["text"]) + 2 if line["text"] else 0)
        elif received[start : start + 1] in _KINDS and received.find(b"\r\n", start) < 0:
            return len(received) + 1
        else:
            return len(received)
    return start
